"""Secrets by name: read at the entry points, carried to the workers, never shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self

from swathe.errors import InputError
from swathe.source import OWN_KEYS, Auth, AuthKind

_LARGEST = 64 << 10


def key_names(pair: str) -> tuple[str, str, str]:
    """Of a pair of S3 keys, and of the token that goes with it where it is passing."""
    return f"{pair}_ACCESS_KEY_ID", f"{pair}_SECRET_ACCESS_KEY", f"{pair}_SESSION_TOKEN"


def names_of(auths: Iterable[Auth]) -> tuple[str, ...]:
    """What has to be read for sources, in alphabetical order; one's own S3 keys are always among it.

    Workers may have no credentials of their own.
    """
    found = set(key_names(OWN_KEYS))
    for auth in auths:
        found.update(key_names(auth.keys) if auth.kind is AuthKind.S3 else (auth.secret,))
    return tuple(sorted(found - {""}))


class Secrets:
    """name -> value. Its repr tells names only; it is equal, hashable and travels as any value."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str] | None = None) -> None:
        """Raises InputError (``secret.malformed``) for a value that could not be sent in a header."""
        for name, value in (values or {}).items():
            if any(ord(c) < 32 or ord(c) == 127 for c in value):  # noqa: PLR2004  ASCII
                raise _malformed(name, "holds control characters or several lines")
        self._values = tuple(sorted((values or {}).items()))

    @classmethod
    def read(cls, environment: Mapping[str, str], names: Iterable[str]) -> Self:
        """Those of ``names`` that are set: ``NAME`` itself, else the file that ``NAME_FILE`` names.

        Raises InputError (``secret.file``, ``secret.malformed``).
        """
        found = {}
        for name in dict.fromkeys(names):
            value = environment.get(name) or _from_file(name, environment.get(f"{name}_FILE", ""))
            if value:
                found[name] = value.strip()
        return cls(found)

    def get(self, name: str) -> str | None:
        """The value, or None."""
        return dict(self._values).get(name)

    def need(self, name: str) -> str:
        """The value. Raises InputError (``secret.missing``)."""
        value = self.get(name)
        if value is None:
            raise InputError(
                f"the source wants a credential, and {name} is not set",
                code="secret.missing",
                hint=f"set {name}, or {name}_FILE to the path of a file that holds it",
                field=name,
            )
        return value

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return (name for name, _ in self._values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secrets) and self._values == other._values

    def __hash__(self) -> int:
        return hash(self._values)

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self)})"

    def __reduce__(self) -> tuple[type[Secrets], tuple[dict[str, str]]]:
        return Secrets, (dict(self._values),)


def _from_file(name: str, path: str) -> str:
    if not path:
        return ""
    try:
        with Path(path).open("rb") as file:
            raw = file.read(_LARGEST + 1)
        text = raw.decode()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise InputError(
            f"the file that {name}_FILE names cannot be read: {why}",
            code="secret.file",
            hint="give the path of a text file that holds the secret alone",
            field=f"{name}_FILE",
        ) from None
    if len(raw) > _LARGEST:
        raise _malformed(name, f"is longer than {_LARGEST} bytes")
    return text


def _malformed(name: str, why: str) -> InputError:
    return InputError(f"the secret {name} {why}", code="secret.malformed", hint="one line of text", field=name)
