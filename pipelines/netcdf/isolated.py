"""From a NetCDF file to GeoTIFFs: it is opened in the sandbox alone, and what comes out is looked at as any upload."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipelines.imagery.archive import LIMITS, PARTIAL, Limits, check_image
from pipelines.imagery.peek import begins_as_netcdf
from pipelines.netcdf.convert import TOLD, Most
from pipelines.sandbox.bounds import MIB, Bounds
from pipelines.sandbox.command import IN, Inside
from pipelines.sandbox.execute import Ended, execute
from pipelines.sandbox.isolation import isolation
from pipelines.search.names import time_in
from swathe.errors import GridError, ImageryError, LimitError, SwatheError

ENDINGS = frozenset({".nc", ".nc4", ".cdf", ".netcdf"})
"""What such files are called; they are known by their first bytes."""
BOUNDS = Bounds(seconds=300, cpu_s=600, memory_mb=4096, output_mb=8192, files=1000, processes=64)
"""For one file."""
IMAGES, BANDS, SIDE = 500, 64, 200_000
"""What one file may become: images, bands of each, rows or columns."""
_PROGRAM = ("__init__", "axes", "convert", "fault", "grid", "moments", "numbers", "variables")
_RUN = f"import sys; sys.path.insert(0, {IN!r}); from pipelines.netcdf.convert import main; main(sys.argv[1:])"
_TOLD_MB = 1
_CPU = 128 + 24
_STRANGE = re.compile(r"[^A-Za-z0-9.-]+")
_log = logging.getLogger("swathe.netcdf")
_WHEN = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
_CUT = "cut it into parts: ncks -d time,0,9 IN.nc OUT.nc, or cdo"
_CONVERT = "convert it to GeoTIFF first: gdal_translate NETCDF:IN.nc:VARIABLE OUT.tif"
_WARP = "warp it onto a regular grid first: gdalwarp -t_srs EPSG:4326 NETCDF:IN.nc:VARIABLE OUT.tif"
_FAULTS: dict[str, tuple[type[ImageryError | LimitError], str]] = {
    "unreadable": (ImageryError, "the file is damaged or incomplete; check it with ncdump"),
    "format": (ImageryError, "write it anew as netCDF-4: nccopy -k nc4 IN.nc OUT.nc"),
    "external": (ImageryError, "put all numbers into the one file: nccopy IN.nc OUT.nc"),
    "variables": (ImageryError, "give variables with coordinates that say units, standard_name or axis (CF)"),
    "type": (ImageryError, "write it as int32 or float64"),
    "curvilinear": (GridError, _WARP),
    "spacing": (GridError, _WARP),
    "no_crs": (GridError, "add a grid mapping (CF), e.g. with rioxarray: write_crs"),
    "crs": (GridError, _WARP),
    "images": (LimitError, _CUT),
    "bands": (LimitError, "choose fewer of them: ncks -d level,0,9 IN.nc OUT.nc"),
    "size": (LimitError, _CUT),
    "memory": (LimitError, _CUT),
}
"""Code of a fault -> its error and what to do about it."""
_BOUNDED = {
    "time": "takes longer than {0.seconds:g} s to be converted",
    "memory": "takes more than {0.memory_mb:,} MB of memory to be converted",
    "output": "becomes more than {0.output_mb:,} MB of GeoTIFF",
}
"""Bound that the program was stopped at -> what is said of the file."""


@dataclass(frozen=True, slots=True)
class Image:
    """A GeoTIFF made from a NetCDF file."""

    path: Path
    """Where it lies."""
    variable: str
    """What the file calls it."""
    when: str
    """RFC 3339 in UTC; empty: the file does not say it."""


def images_of(
    path: Path, folder: Path, *, bounds: Bounds = BOUNDS, limits: Limits = LIMITS,
    check: Callable[[], None] = lambda: None,
) -> list[Image]:  # fmt: skip
    """Each variable at each moment as a GeoTIFF in ``folder``, a new one that appears when all are there.

    Their names hold variable and date. Numbers are stored as they were, with nodata, scale and offset in tags.
    ``check`` raises where it is to stop.

    Raises ImageryError (``netcdf.isolation``, ``.unreadable``, ``.variables``, …), GridError (``netcdf.spacing``, …),
    LimitError (``netcdf.size``, ``.images``, ``.time``, …), OSError; then nothing is left behind.
    """
    _expect_usual(path, bounds)
    partial = Path(tempfile.mkdtemp(prefix=f"{folder.name}{PARTIAL}", dir=folder.parent))
    try:
        out, alone = partial / "out", partial / "alone"
        out.mkdir()
        alone.mkdir()
        bounds = replace(bounds, output_mb=max(1, min(bounds.output_mb, int(limits.total_mb))))
        ended = _run(_readable(path, partial), out, bounds, limits, check)
        found = [_kept(out, alone, one, path.stem) for one in _told(path.name, out, ended, bounds)]
        for image in found:
            check_image(image.path, limits)
        alone.rename(folder)
    except SwatheError as error:  # paths inside are nobody's business
        error.detail = error.detail.replace(str(partial), "")
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [replace(image, path=folder / image.path.name) for image in found]


# --- running ----------------------------------------------------------------------------------------------------------


def _expect_usual(path: Path, bounds: Bounds) -> None:
    if not begins_as_netcdf(path):
        raise _problem("unreadable", f"{path.name} is no NetCDF")
    most = bounds.memory_mb * MIB // 2  # a classic file is mapped into memory
    if path.stat().st_size > most:
        raise _problem(
            "size", f"{path.name} has more than {most / MIB:,.0f} MB, which is the most that is taken of NetCDF"
        )
    found = isolation()
    if found.walls is None:
        raise ImageryError(f"{path.name} is NetCDF, and this machine cannot shut in the program that would read it: "
                           f"{found.detail}", code="netcdf.isolation", field="--input", hint=_CONVERT)  # fmt: skip


def _run(path: Path, out: Path, bounds: Bounds, limits: Limits, check: Callable[[], None]) -> Ended:
    here = Path(__file__).parent
    program = {f"pipelines/netcdf/{name}.py": here / f"{name}.py" for name in _PROGRAM}
    most = Most(IMAGES, BANDS, min(SIDE, limits.side), bounds.output_mb)
    arguments = ("-c", _RUN, f"{IN}/file.nc", json.dumps(asdict(most)))
    inside = Inside({"file.nc": path.absolute(), **program}, out, arguments, bounds)
    # What it prints is a stranger's, or its libraries': standard output belongs to whoever asked.
    return execute(inside, isolation().required(), lambda line: _log.debug("%s", line), check)


def _readable(path: Path, room: Path) -> Path:
    """The file itself where everybody may read it, else a copy: who runs the program is not whose file it is."""
    if path.stat().st_mode & stat.S_IROTH:
        return path
    copied = room / "file.nc"
    shutil.copyfile(path, copied)
    copied.chmod(0o644)
    return copied


# --- what came out: a stranger may have written all of it -------------------------------------------------------------


def _told(name: str, out: Path, ended: Ended, bounds: Bounds) -> list[dict[str, Any]]:
    """What the program says of its images. Raises ImageryError and its kin where it says why there are none."""
    if ended.stopped in _BOUNDED:
        raise _problem(ended.stopped, f"{name} {_BOUNDED[ended.stopped].format(bounds)}", LimitError)
    if ended.code == _CPU:
        raise _problem("time", f"{name} takes more than {bounds.cpu_s:,} s of processor time", LimitError)
    told = None if ended.stopped or ended.code else _document(out / TOLD)
    fault = told.get("fault") if told else None
    if isinstance(fault, list) and len(fault) == 2 and all(isinstance(part, str) for part in fault):  # noqa: PLR2004
        code, detail = fault
        raise _problem(code if code in _FAULTS else "unreadable", f"{name}: {_plain(detail)}")
    images = told.get("images") if told else None
    if not isinstance(images, list) or not images or len(images) > IMAGES:
        raise _problem("unreadable", f"{name} cannot be read: the program that was to read it failed")
    return images


def _document(path: Path) -> dict[str, Any] | None:
    try:
        if not stat.S_ISREG(path.lstat().st_mode) or path.lstat().st_size > _TOLD_MB * MIB:
            return None
        found = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _kept(out: Path, alone: Path, said: Any, stem: str) -> Image:
    """One image, in a folder that nothing else of the program reaches, under a name of ours."""
    said = said if isinstance(said, dict) else {}
    file, variable, when, step = (said.get(key) for key in ("file", "variable", "when", "step"))
    source = out / str(file)
    regular = re.fullmatch(r"\d{1,4}\.tif", str(file)) and source.exists() and stat.S_ISREG(source.lstat().st_mode)
    if not regular or not isinstance(variable, str) or not isinstance(step, int):
        raise _problem("unreadable", "the program that was to read the NetCDF failed")
    when = when if isinstance(when, str) and _WHEN.fullmatch(when) else ""
    # Names are what images are dated by: of two dates in one, the file's own would be taken for that of the moment.
    begin = "" if when and time_in(Path(stem)) else f"{_safe(stem, 60)}_"
    path = _free(alone, f"{begin}{_safe(variable, 60)}{_ending(when, step)}")
    source.rename(path)
    if os.geteuid() == 0:  # it belongs to whom nobody is
        os.chown(path, 0, 0)
    path.chmod(0o644)
    return Image(path, _plain(variable)[:200], when)


def _ending(when: str, step: int) -> str:
    """Its moment in a name, as far as it has one: a day, or a day and a time."""
    if not when:
        return f"_{step:04d}" if step else ""
    return f"_{when[:10]}" if when.endswith("T00:00:00Z") else f"_{when[:-1].replace(':', '')}"


def _free(folder: Path, stem: str) -> Path:
    path, n = folder / f"{stem}.tif", 1
    while path.exists():
        path, n = folder / f"{stem}_{n}.tif", n + 1
    return path


def _safe(text: str, most: int) -> str:
    return _STRANGE.sub("-", text)[:most].strip("-.") or "x"


def _plain(text: str) -> str:
    return "".join(ch for ch in text if ch.isprintable())[:500]


def _problem(code: str, detail: str, kind: type[ImageryError | LimitError] | None = None) -> ImageryError | LimitError:
    known, hint = _FAULTS.get(code, (LimitError, _CUT))
    return (kind or known)(detail, code=f"netcdf.{code}", hint=hint, field="--input")
