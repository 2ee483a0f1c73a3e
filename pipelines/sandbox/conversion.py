"""From a file of a stranger to GeoTIFFs: a program in the sandbox alone opens it.

What the program leaves is looked at as any upload. One format is one ``Conversion``, with a folder of its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pipelines.imagery.archive import LIMITS, PARTIAL, Limits, check_image
from pipelines.sandbox.bounds import MIB, Bounds
from pipelines.sandbox.command import IN, Inside
from pipelines.sandbox.execute import Ended, execute
from pipelines.sandbox.isolation import isolation
from pipelines.sandbox.told import TOLD
from swathe.errors import ImageryError, LimitError, SwatheError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

BOUNDS = Bounds(seconds=300, cpu_s=600, memory_mb=4096, output_mb=8192, files=1000, processes=64)
"""For one file."""
SIDE = 200_000
"""Rows or columns of an image that a file becomes."""
_SHARED = ("sandbox/__init__", "sandbox/told")
"""Modules below ``pipelines`` that every such program has."""
LONGEST_NAME = 200
"""Characters of a name that a file gives something."""
_TOLD_MB = 1
_CPU = 128 + 24
_STRANGE = re.compile(r"[^A-Za-z0-9.-]+")
_log = logging.getLogger("swathe.conversion")
_BOUNDED = {
    "time": "takes longer than {0.seconds:g} s to be converted",
    "memory": "takes more than {0.memory_mb:,} MB of memory to be converted",
    "output": "becomes more than {0.output_mb:,} MB of GeoTIFF",
}
"""Bound that the program was stopped at -> what is said of the file."""
Errors = type[ImageryError] | type[LimitError]
T = TypeVar("T")


class Nonsense(Exception):  # noqa: N818  said of a program, not to a user
    """What a program said of an image is no such thing."""


@dataclass(frozen=True, slots=True)
class Conversion(Generic[T]):
    """How files of one format become images."""

    code: str
    """First part of the codes of its problems."""
    format: str
    """For people."""
    package: str
    """Folder below ``pipelines`` whose module ``convert`` is the program: ``main([FILE, BOUNDS])``."""
    modules: Sequence[str]
    """Of that folder, those that the program needs."""
    run: str
    """What the interpreter inside is told: ``program_of`` the folder."""
    images: int
    """The most that a file may become."""
    read: Callable[[Mapping[str, Any], str], tuple[str, T]]
    """From what is said of an image, and the stem of the file, to the stem of the image's name and what is known of
    it. Raises Nonsense."""
    faults: Mapping[str, tuple[Errors, str]]
    """Code of a fault -> its error and what to do about it; ``unreadable``, ``size``, ``time``, ``memory`` and
    ``output`` among them."""
    otherwise: str
    """What to do where there is no sandbox."""

    def problem(self, code: str, detail: str, kind: Errors | None = None) -> ImageryError | LimitError:
        """To be raised."""
        known, hint = self.faults[code]
        return (kind or known)(detail, code=f"{self.code}.{code}", hint=hint, field="--input")


@dataclass(frozen=True, slots=True)
class Job(Generic[T]):
    """One file to be converted."""

    conversion: Conversion[T]
    """How."""
    path: Path
    """The file."""
    given: str
    """What the program knows it as: its ending is what libraries know formats by."""
    folder: Path
    """A new one for the images, which appears when all are there."""
    most: DataclassInstance
    """What the program is told not to exceed."""
    bounds: Bounds = BOUNDS
    """Of the program."""
    limits: Limits = field(default=LIMITS)
    """Of the images."""
    check: Callable[[], None] = lambda: None
    """Raises where it is to stop."""


def program_of(package: str) -> str:
    """What starts the program of a format."""
    return f"import sys; sys.path.insert(0, {IN!r}); from pipelines.{package}.convert import main; main(sys.argv[1:])"


def converted(job: Job[T]) -> list[tuple[Path, T]]:
    """Where each image lies now, and what is known of it.

    Raises ImageryError and its kin (``<code>.isolation``, ``.unreadable``, …), LimitError (``<code>.size``, ``.time``,
    …), OSError; then nothing is left behind.
    """
    _expect_walls(job)
    folder = job.folder
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}{PARTIAL}", dir=folder.parent))
    try:
        out, alone = partial / "out", partial / "alone"
        out.mkdir()
        alone.mkdir()
        output_mb = max(1, min(job.bounds.output_mb, int(job.limits.total_mb)))
        job = replace(job, bounds=replace(job.bounds, output_mb=output_mb))
        ended = _run(job, _readable(job, partial), out)
        found = [_kept(job, out, alone, said) for said in _told(job, out, ended)]
        for path, _ in found:
            check_image(path, job.limits)
        alone.rename(folder)
    except SwatheError as error:  # paths inside are nobody's business
        error.detail = error.detail.replace(str(partial), "")
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [(folder / path.name, facts) for path, facts in found]


def safe(text: str, most: int = 60) -> str:
    """What is left of a stranger's word in the name of a file."""
    return _STRANGE.sub("-", text)[:most].strip("-.") or "x"


def plain(text: str, most: int = 500) -> str:
    """The same for people."""
    return "".join(ch for ch in text if ch.isprintable())[:most]


# --- running ----------------------------------------------------------------------------------------------------------


def _expect_walls(job: Job[Any]) -> None:
    found, conversion = isolation(), job.conversion
    if found.walls is None:
        raise ImageryError(f"{job.path.name} is {conversion.format}, and this machine cannot shut in the program that "
                           f"would read it: {found.detail}", code=f"{conversion.code}.isolation", field="--input",
                           hint=conversion.otherwise)  # fmt: skip


def _run(job: Job[Any], path: Path, out: Path) -> Ended:
    conversion, here = job.conversion, Path(__file__).parent.parent
    names = [*_SHARED, *(f"{conversion.package}/{name}" for name in conversion.modules)]
    program = {f"pipelines/{name}.py": here / f"{name}.py" for name in names}
    arguments = ("-c", conversion.run, f"{IN}/{job.given}", json.dumps(asdict(job.most)))
    inside = Inside({job.given: path.absolute(), **program}, out, arguments, job.bounds)
    # What it prints is a stranger's, or its libraries': standard output belongs to whoever asked.
    return execute(inside, isolation().required(), lambda line: _log.debug("%s", line), job.check)


def _readable(job: Job[Any], room: Path) -> Path:
    """The file itself where everybody may read it, else a copy: who runs the program is not whose file it is."""
    if job.path.stat().st_mode & stat.S_IROTH:
        return job.path
    copied = room / job.given
    shutil.copyfile(job.path, copied)
    copied.chmod(0o644)
    return copied


# --- what came out: a stranger may have written all of it -------------------------------------------------------------


def _told(job: Job[Any], out: Path, ended: Ended) -> list[Any]:
    """What the program says of its images. Raises ImageryError and its kin where it says why there are none."""
    name, conversion, bounds = job.path.name, job.conversion, job.bounds
    if ended.stopped in _BOUNDED:
        raise conversion.problem(ended.stopped, f"{name} {_BOUNDED[ended.stopped].format(bounds)}", LimitError)
    if ended.code == _CPU:
        raise conversion.problem("time", f"{name} takes more than {bounds.cpu_s:,} s of processor time", LimitError)
    told = None if ended.stopped or ended.code else _document(out / TOLD)
    fault = told.get("fault") if told else None
    if isinstance(fault, list) and len(fault) == 2 and all(isinstance(part, str) for part in fault):  # noqa: PLR2004
        code, detail = fault
        known = code if code in conversion.faults else "unreadable"
        raise conversion.problem(known, f"{name}: {plain(_outside(detail, job.given))}")
    images = told.get("images") if told else None
    if not isinstance(images, list) or not images or len(images) > conversion.images:
        raise conversion.problem("unreadable", f"{name} cannot be read: the program that was to read it failed")
    return images


def _outside(detail: str, given: str) -> str:
    """Without the places inside, which say nobody anything."""
    for place in (f"/vsizip/{IN}/{given}/", f"{IN}/{given}", f"{IN}/"):
        detail = detail.replace(place, "")
    return detail


def _document(path: Path) -> dict[str, Any] | None:
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.lstat().st_size > _TOLD_MB * MIB:
            return None
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _kept(job: Job[T], out: Path, alone: Path, said: Any) -> tuple[Path, T]:
    """One image, in a folder that nothing else of the program reaches, under a name of ours."""
    try:
        source = _image(out, said)
        stem, facts = job.conversion.read(said, job.path.stem)
    except Nonsense:
        detail = f"the program that was to read the {job.conversion.format} failed"
        raise job.conversion.problem("unreadable", detail) from None
    path = _free(alone, stem)
    source.rename(path)
    if os.geteuid() == 0:  # it belongs to whom nobody is
        os.chown(path, 0, 0)
    path.chmod(0o644)
    return path, facts


def _image(out: Path, said: Any) -> Path:
    """The file that is spoken of. Raises Nonsense."""
    name = str(said.get("file")) if isinstance(said, dict) else ""
    path = out / name
    if not re.fullmatch(r"\d{1,4}\.tif", name) or not path.exists() or not stat.S_ISREG(path.lstat().st_mode):
        raise Nonsense
    return path


def _free(folder: Path, stem: str) -> Path:
    path, n = folder / f"{stem}.tif", 1
    while path.exists():
        path, n = folder / f"{stem}_{n}.tif", n + 1
    return path
