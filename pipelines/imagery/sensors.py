"""Sensor profiles, read from a folder of YAML files; loud about mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from swathe.errors import BandError, InputError
from swathe.sensor import SensorProfile


class StrictLoader(yaml.SafeLoader):
    """YAML that refuses a key given twice; plain YAML silently keeps the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Check the keys of one mapping."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = [k for i, k in enumerate(keys) if k in keys[:i]]
        if twice:
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def load_sensors(folder: Path) -> dict[str, SensorProfile]:
    """Profiles by id, in alphabetical order. Raises InputError (``sensor.invalid``) that names the file at fault."""
    if not folder.is_dir():
        raise _invalid(folder, "there is no such folder")
    files = sorted(p for p in folder.iterdir() if p.suffix in (".yaml", ".yml"))
    found: dict[str, SensorProfile] = {}
    for file in files:
        profile = read_sensor(file)
        if profile.id in found:
            raise _invalid(file, f"the id {profile.id!r} is taken by another file")
        found[profile.id] = profile
    return found


def read_sensor(file: Path) -> SensorProfile:
    """One profile; its id is the file's name. Raises InputError (``sensor.invalid``)."""
    try:
        raw = yaml.load(file.read_text(encoding="utf-8"), Loader=StrictLoader)  # noqa: S506  a SafeLoader
        profile = SensorProfile.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "profile"
        raise _invalid(file, f"{where}: {first['msg']}") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise _invalid(file, " ".join(str(error).split())) from None
    _check(profile, file)
    return profile


def _check(profile: SensorProfile, file: Path) -> None:
    if profile.id != file.stem:
        raise _invalid(file, f"its id is {profile.id!r}, not the file's name")
    if not profile.bands:
        raise _invalid(file, "it has no bands")
    if profile.scale == 0 or any(b.scale == 0 for b in profile.bands):
        raise _invalid(file, "a scale of 0 makes every pixel the same")
    names = {b.name for b in profile.bands}
    taken: dict[str, str] = {}
    for band in profile.bands:
        for token in band.tokens:
            owner = taken.setdefault(token.lower(), band.name)
            if owner != band.name or (token.lower() in names and token.lower() != band.name):
                raise _invalid(file, f"the token {token!r} of {band.name} belongs to another band as well")
            if not token.isalnum():
                raise _invalid(file, f"the token {token!r} of {band.name} can never match: only letters and digits do")


def _invalid(path: Path, why: str) -> InputError:
    return InputError(
        f"sensor profile {path}: {why}",
        code="sensor.invalid",
        hint="correct the file; docs/imagery.md describes its fields",
        field="--sensor",
    )


def choose(profiles: Mapping[str, SensorProfile], text: str | None) -> tuple[SensorProfile, ...]:
    """Profiles named on a command line: none, one for all dates, or one per date, oldest first, with commas.

    Raises BandError (``sensor.unknown``) that lists what there is.
    """
    names = [part.strip() for part in (text or "").split(",") if part.strip()]
    for name in names:
        if name not in profiles:
            raise BandError(
                f"there is no sensor profile {name!r}",
                code="sensor.unknown",
                hint=f"known are {', '.join(profiles)}",
                field="--sensor",
            )
    return tuple(profiles[name] for name in names)
