"""From what was typed to imagery known to be usable: files, dates, grid, bands, radiometry. Reads few pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from rasterio.crs import CRS

from pipelines.imagery import as_it_is
from pipelines.imagery.archive import AS_USUAL, Unpacking
from pipelines.imagery.gdal import Access
from pipelines.imagery.header import Header, read_headers
from pipelines.imagery.inputs import Files, InputSpec, by_date, parse_input
from pipelines.imagery.match import SKIP, Found, Names, Naming, fitting, match, tokens, vocabulary
from pipelines.imagery.peek import version_of
from pipelines.imagery.radiometry import Units, nodata_of, units
from swathe.bands import NAMES, TRUE_COLOUR
from swathe.card import Input
from swathe.errors import BandError, GridError
from swathe.imagery import Acquisition, BandSource, Imagery, is_remote, shown
from swathe.recipe import Radiometry
from swathe.sensor import SensorProfile
from swathe.unit import UNNAMED, settle

if TYPE_CHECKING:
    from pipelines.imagery.remote_files import RemoteFiles
    from pipelines.remote.network import Network

__all__ = ["Declared", "InputSpec", "inspect", "parse_input"]

SAME_GRID_PX = 1e-6
"""Corners of files of one grid lie this close, in pixels."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What the user says about the files."""

    sensors: tuple[SensorProfile, ...] = ()
    """``--sensor``: none, one for all dates, or one per date, oldest first."""
    radiometry: Radiometry = field(default=Radiometry())
    """``--bands``, ``--scale``, ``--offset``, ``--nodata``; overrules the profile."""
    known: Mapping[str, SensorProfile] = field(default_factory=dict)
    """All profiles there are."""


def inspect(
    inputs: Sequence[InputSpec], wanted: Input, declared: Declared | None = None, access: Access | None = None,
    unpacking: Unpacking = AS_USUAL, network: Network | None = None,
) -> Imagery:  # fmt: skip
    """Look at the files and settle where every band of every date lies and what its numbers mean.

    ``wanted`` is a card's input: bands, times, and bands that may stand in for others. ``network``: None for public
    addresses alone. Raises InputError, ImageryError, GridError or BandError, each with a code (docs/imagery.md lists
    them) and a hint.
    """
    declared, access = declared or Declared(), access or Access()
    _check_names(declared.radiometry.bands)
    usable = frozenset(wanted.bands).union(*wanted.alternatives.values())
    names: list[Names] = []
    with ExitStack() as stack:
        remote, containers = None, None
        if any(is_remote(spec.href) for spec in inputs):
            from pipelines.imagery.remote_containers import RemoteContainers
            from pipelines.imagery.remote_files import RemoteFiles

            remote = stack.enter_context(RemoteFiles(network, access.retry))
            containers = RemoteContainers(remote, unpacking)
        dates = by_date(inputs, wanted.times, unpacking, containers)
        if wanted.as_it_is and not (declared.radiometry.bands or declared.sensors):
            return _as_it_is(dates[0], declared.radiometry, access, remote)
        profiles = _profile_per_date(declared.sensors, len(dates))
        for files, profile in zip(dates, profiles, strict=True):
            naming = Naming(declared.radiometry.bands, profile, declared.known, usable)
            headers = read_headers(_relevant(files, naming), access, remote)
            names.append(match(headers, files.listed, naming))
    chosen = _choose(wanted, names, dates)
    grid = _one_grid([n[band].header for n in names for band in chosen])
    found = [_acquisition(f, n, chosen, p, declared) for f, n, p in zip(dates, names, profiles, strict=True)]
    stand_ins = [f"{b} stands in for {w}" for w, b in zip(wanted.bands, chosen, strict=True) if b != w]
    imagery = _imagery(grid, found, _label(declared), stand_ins)
    return _in_units_of(wanted, replace(imagery, picture=_picture(grid, names[-1], profiles[-1], declared)))


def _as_it_is(files: Files, said: Radiometry, access: Access, remote: RemoteFiles | None) -> Imagery:
    """Of one image that is handed on: its numbers or its colours."""
    header, found = as_it_is.bands_of(read_headers(files.hrefs, access, remote))
    sources = as_it_is.sources_of(header, found, said, access, remote)
    units = tuple(Units(s.scale, s.offset, as_it_is.unit_of(found)) for s in sources)
    dated = _Dated(Acquisition(files.when, sources), tuple(found.values()), units, ())
    imagery = _imagery(header, [dated], "tags", ())
    return replace(imagery, picture=sources) if len(sources) > 1 else imagery


def _check_names(bands: Sequence[str]) -> None:
    named = [b for b in bands if b != SKIP]
    strange = [b for b in named if b not in NAMES]
    if strange:
        raise BandError(
            f"there is no band {strange[0]!r}",
            code="band.unknown",
            hint=f"known are {', '.join(sorted(NAMES))}, and {SKIP} for a band without a name",
            field="--bands",
        )
    twice = [b for b in named if named.count(b) > 1]
    if twice:
        raise BandError(f"{twice[0]} is named twice", code="band.twice", hint="name each band once", field="--bands")


def _profile_per_date(sensors: tuple[SensorProfile, ...], dates: int) -> tuple[SensorProfile | None, ...]:
    if len(sensors) <= 1:
        return (next(iter(sensors), None),) * dates
    if len(sensors) != dates:
        raise BandError(
            f"{len(sensors)} sensor profiles for {dates} date{'s' if dates > 1 else ''}",
            code="sensor.count",
            hint="give one for all, or one per date, oldest first",
            field="--sensor",
        )
    return sensors


def _relevant(files: Files, naming: Naming) -> Sequence[str]:
    """Of a folder, the files whose names tell that they are wanted, if any do; else all of them."""
    if files.listed or len(files.hrefs) == 1:
        return files.hrefs
    profiles = [naming.profile] if naming.profile else naming.known.values()
    words = {t for t, name in (vocabulary(profiles) | {n: n for n in NAMES}).items() if name in naming.wanted}
    named = [href for href in files.hrefs if tokens(href.rpartition("/")[2].rpartition(".")[0]) & words]
    return named or files.hrefs


def _choose(wanted: Input, names: Sequence[Names], dates: Sequence[Files]) -> tuple[str, ...]:
    """For each band the model wants: itself, or the first stand-in that every date has."""
    chosen = []
    for band in wanted.bands:
        candidates = (band, *wanted.alternatives.get(band, ()))
        found = next((c for c in candidates if all(c in n for n in names)), None)
        if found is None:
            lacking = next(i for i, n in enumerate(names) if not any(c in n for c in candidates) or i == len(names) - 1)
            raise _missing(candidates, names[lacking], dates[lacking])
        chosen.append(found)
    return tuple(chosen)


def _missing(candidates: tuple[str, ...], names: Names, files: Files) -> BandError:
    first, *others = candidates
    also = f" (or {', '.join(others)})" if others else ""
    when = f" on {files.when}" if files.when else ""
    return BandError(
        f"band {first}{also} is missing{when}; found: {', '.join(sorted(names)) or 'none'}",
        code="band.missing",
        hint="give the file that holds it, or say with --sensor or --bands which band is which",
        field="--input",
    )


# --- grid -----------------------------------------------------------------------------------------------------------


def _one_grid(headers: Sequence[Header]) -> Header:
    """The first file, after checking that all others lie on its grid. Raises GridError (``grid.mixed``)."""
    first = headers[0]
    for other in {h.href: h for h in headers}.values():
        why = _difference(first, other)
        if why:
            raise GridError(
                f"{shown(first.href)} and {shown(other.href)} lie on different grids: {why}",
                code="grid.mixed",
                hint="bring them onto one: gdalwarp -t_srs CRS -te XMIN YMIN XMAX YMAX -tr X Y IN.tif OUT.tif",
                field="--input",
            )
    return first


def _difference(one: Header, other: Header) -> str:
    if one.crs != other.crs and CRS.from_user_input(one.crs) != CRS.from_user_input(other.crs):
        return f"{_crs_name(one.crs)} and {_crs_name(other.crs)}"
    if one.shape != other.shape:
        return f"{one.shape[1]} x {one.shape[0]} and {other.shape[1]} x {other.shape[0]} pixels"
    a, b = np.array(one.transform), np.array(other.transform)
    rows, cols = one.shape
    corners = np.array([(0, 0, 1), (cols, 0, 1), (0, rows, 1), (cols, rows, 1)]).T
    apart = np.abs((a - b).reshape(2, 3) @ corners).max(axis=1) / (abs(a[0]), abs(a[4]))
    return f"they are {apart.max():.3g} pixels apart" if apart.max() > SAME_GRID_PX else ""


def _crs_name(crs: str) -> str:
    return crs if len(crs) < 40 else crs.split('"')[1]  # noqa: PLR2004  WKT is long


# --- putting it together --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Dated:
    """One date, settled."""

    acquisition: Acquisition
    found: tuple[Found, ...]
    units: tuple[Units, ...]
    notes: tuple[str, ...]


def _acquisition(
    files: Files, names: Names, chosen: tuple[str, ...], profile: SensorProfile | None, declared: Declared
) -> _Dated:
    found = tuple(names[band] for band in chosen)
    fits = fitting(list({f.header.href: f.header for f in found}.values()), declared.known)
    settled = tuple(units(band, f, profile, declared.radiometry, fits) for band, f in zip(chosen, found, strict=True))
    empty = [nodata_of(f, profile, declared.radiometry) for f in found]
    sources = tuple(
        BandSource(
            name=band,
            href=f.header.href,
            index=f.index,
            dtype=f.header.dtypes[f.index - 1],
            nodata=nodata,
            scale=u.scale,
            offset=u.offset,
            mask_index=f.mask_index,
        )
        for band, f, u, (nodata, _) in zip(chosen, found, settled, empty, strict=True)
    )
    notes = (*(u.note for u in settled), *(note for _, note in empty))
    return _Dated(Acquisition(files.when, sources), found, settled, tuple(n for n in notes if n))


def _picture(
    grid: Header, names: Names, profile: SensorProfile | None, declared: Declared
) -> tuple[BandSource, ...]:  # fmt: skip
    """What an eye would see, whatever the model looks at; none where a colour is missing or has another grid."""
    found = [(name, names[name]) for name in TRUE_COLOUR if name in names]
    if len(found) < len(TRUE_COLOUR) or any(_difference(grid, f.header) for _, f in found):
        return ()
    return tuple(
        BandSource(name, f.header.href, f.index, f.header.dtypes[f.index - 1],
                   nodata_of(f, profile, declared.radiometry)[0], 1.0, 0.0, f.mask_index)
        for name, f in found
    )  # fmt: skip


def _label(declared: Declared) -> str:
    ids = list(dict.fromkeys(s.id for s in declared.sensors))
    return ",".join(ids) or ("bands" if declared.radiometry.bands else "tags")


def _imagery(grid: Header, dates: Sequence[_Dated], sensor: str, stand_ins: Iterable[str]) -> Imagery:
    headers = {f.header.href: f.header for date in dates for f in date.found}
    return Imagery(
        dates=tuple(date.acquisition for date in dates),
        crs=grid.crs,
        transform=grid.transform,
        shape=grid.shape,
        sensor=sensor,
        unit=", ".join(dict.fromkeys(u.unit for date in dates for u in date.units)),
        block=grid.block,
        fingerprint=_fingerprint(headers.values()),
        stamps=tuple((h.href, version_of(h.href, h.stamp)) for h in headers.values() if h.stamp),
        pixel_bytes=sum(_pixel_bytes(h, dates) for h in headers.values()),
        notes=tuple(dict.fromkeys((*stand_ins, *(note for date in dates for note in date.notes)))),
    )


def _in_units_of(wanted: Input, imagery: Imagery) -> Imagery:
    """Converted where the model wants it. Raises BandError (``band.unit``) where units do not fit.

    What the user declared and what tags say is a scale without a unit: it is taken as the model's.
    """
    if imagery.unit in UNNAMED:
        return imagery
    conversion = settle(wanted, imagery.unit)
    if conversion is None:
        return imagery
    note = f"{imagery.unit} was converted to {conversion.unit}: {conversion.value}"
    return replace(imagery, conversion=conversion, unit=conversion.unit, notes=(*imagery.notes, note))


def _pixel_bytes(header: Header, dates: Sequence[_Dated]) -> int:
    used = {i for date in dates for f in date.found if f.header.href == header.href for i in (f.index, f.mask_index)}
    kept = range(1, len(header.dtypes) + 1) if header.by_pixel else used - {None}
    return sum(np.dtype(header.dtypes[i - 1]).itemsize for i in kept if i)


def _fingerprint(headers: Iterable[Header]) -> str:
    """Names, and what tells that a file is still the same; where a server says nothing, the pixels looked at."""
    lines = sorted(f"{shown(h.href)}\t{h.stamp or h.digest}\t{h.crs}\t{h.transform}\t{h.shape}" for h in headers)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
