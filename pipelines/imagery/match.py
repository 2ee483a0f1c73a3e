"""Which band of which file is which: names from descriptions, file names, places or the command line. Pure.

The order of trust: what the command line says, what a file's band descriptions say, what file names say, and only
then the place in a multi-band file, which must then have exactly the bands of the profile.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipelines.imagery.header import Header
from swathe.bands import NAMES
from swathe.errors import BandError
from swathe.imagery import shown
from swathe.sensor import SensorProfile

SKIP = "-"
"""Stands for a band without a name on the command line."""


@dataclass(frozen=True, slots=True)
class Found:
    """A band in a file."""

    header: Header
    """The file."""
    index: int
    """From 1."""
    mask_index: int | None
    """Band of the same file that is 0 where there is no data."""


Names = dict[str, Found]
Vocabulary = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Naming:
    """How bands get their names."""

    bands: tuple[str, ...]
    """From the command line; empty: not said."""
    profile: SensorProfile | None
    """Of this date."""
    known: Mapping[str, SensorProfile]
    """All profiles: for naming where nothing was said, and for hints."""
    wanted: frozenset[str]
    """Bands that may be used; others may occur twice."""


def match(headers: Sequence[Header], listed: bool, naming: Naming) -> Names:
    """Name the bands of one date's files. Raises BandError (``band.count``, ``.twice``, ``.unnamed``, …)."""
    mask_band = naming.profile.mask_band if naming.profile else None
    if naming.bands:
        return _by_command(headers, listed, naming, mask_band)
    if naming.profile:
        return _by_profile(headers, naming.profile, naming.wanted)
    return _by_agreement(headers, naming)


def tokens(text: str) -> set[str]:
    """Words of a file name or description, lower case: ``T33_B02_10m.jp2`` -> t33, b02, 10m, jp2."""
    return {word for word in re.split(r"[^a-z0-9]+", text.lower()) if word}


def vocabulary(profiles: Iterable[SensorProfile]) -> dict[str, str]:
    """Token -> band name, of these profiles' bands; common names stand for themselves."""
    return {t.lower(): b.name for p in profiles for b in p.bands for t in (*b.tokens, b.name)}


# --- the three ways -------------------------------------------------------------------------------------------------


def _by_command(headers: Sequence[Header], listed: bool, naming: Naming, mask_band: int | None) -> Names:
    bands = naming.bands
    if len(headers) == 1:
        return _in_order(headers[0], bands, mask_band, naming.known)
    words = {b: b for b in bands if b != SKIP}
    if naming.profile:
        words |= {t: n for t, n in vocabulary([naming.profile]).items() if n in words}
    found = _by_words(headers, words, mask_band, naming.wanted)
    if found:
        return found
    single = all(len(_data_bands(h, mask_band)) == 1 for h in headers)
    if not listed or not single or len(headers) != len(bands):
        raise BandError(
            f"{len(headers)} files and {len(bands)} names of bands: which is which?",
            code="band.unnamed",
            hint="give one file per band in the order of --bands, or files whose names hold the band names",
            field="--bands",
        )
    pairs = zip(bands, headers, strict=True)
    return {b: _found(h, _data_bands(h, mask_band)[0], mask_band) for b, h in pairs if b != SKIP}


def _in_order(header: Header, bands: Sequence[str], mask_band: int | None, known: Mapping[str, SensorProfile]) -> Names:
    data = _data_bands(header, mask_band)
    if len(bands) == len(header.dtypes) and all(bands[i - 1] == SKIP for i in set(header.indexes) - set(data)):
        data = header.indexes
    if len(bands) > len(data):
        raise _count(header, len(data), f"{len(bands)} names were given", "--bands")
    places = dict(zip(data, bands, strict=False))
    _refuse_contradiction(header, places, known)
    return {name: _found(header, i, mask_band) for i, name in places.items() if name != SKIP}


def _refuse_contradiction(header: Header, places: Mapping[int, str], known: Mapping[str, SensorProfile]) -> None:
    """Descriptions that some sensor calls every band by must not contradict the order that was given."""
    readings = [r for r in _readings([header], known) if len(r) == len(_described(header))]
    said = [{i: name for name, i in ((n, f.index) for n, f in r.items())} for r in readings]
    if said and all(any(s.get(i, name) != name for i, name in places.items() if name != SKIP) for s in said):
        raise BandError(
            f"{shown(header.href)} calls its bands {', '.join(header.descriptions)}; "
            f"that is not {', '.join(places.values())}",
            code="band.order",
            hint=f"--bands names the bands of the file in its order ({SKIP} for one without a name); "
            "or say --sensor, and bands are found by name",
            field="--bands",
        )


def _by_profile(headers: Sequence[Header], profile: SensorProfile, wanted: frozenset[str]) -> Names:
    found = _by_words(headers, vocabulary([profile]), profile.mask_band, wanted)
    if found:
        return found
    header = headers[0]
    data = _data_bands(header, profile.mask_band)
    if len(headers) > 1 or not profile.ordered:
        raise BandError(
            f"no band of {profile.id} is named in {_list(headers)}",
            code="band.unnamed",
            hint=f"file names or band descriptions must hold one of {', '.join(sorted(vocabulary([profile])))}; "
            "or name the bands with --bands",
            field="--sensor",
        )
    places = profile.places
    last = max(places.values())
    if len(data) != last:
        raise _count(header, len(data), f"{profile.id} has {last}", "--sensor")
    return {name: _found(header, data[at - 1], profile.mask_band) for name, at in places.items()}


def _by_agreement(headers: Sequence[Header], naming: Naming) -> Names:
    """Without a word from the user: names that stand in the files, as long as all sensors that use them agree."""
    readings = _readings(headers, naming.known, naming.wanted)
    most = max((len(r) for r in readings), default=0)
    best = [r for r in readings if len(r) == most]
    if most and all(r == best[0] for r in best):
        return best[0]
    fits = fitting(headers, naming.known)
    raise BandError(
        f"the bands of {_list(headers)} have no names" if not most
        else f"the bands of {_list(headers)} are named in a way that several sensors understand differently",
        code="band.unnamed",
        hint=f"say --sensor ({', '.join(fits or sorted(naming.known))}) or name them with --bands",
        field="--sensor",
    )  # fmt: skip


def fitting(headers: Sequence[Header], known: Mapping[str, SensorProfile]) -> list[str]:
    """Ids of the profiles that would fit: most bands found by name, or as many bands as the file has."""
    by_name = {p.id: len(_by_words(headers, vocabulary([p]), p.mask_band)) for p in known.values()}
    most = max(by_name.values(), default=0)
    if most:
        return [i for i, n in by_name.items() if n == most]
    count = len(headers[0].dtypes) if len(headers) == 1 else 0
    return [p.id for p in known.values() if p.ordered and max(p.places.values()) == count]


# --- words ----------------------------------------------------------------------------------------------------------


def _readings(
    headers: Sequence[Header], known: Mapping[str, SensorProfile], wanted: frozenset[str] = frozenset()
) -> list[Names]:
    """Every way to understand the words in the files: as common names, or as one sensor's."""
    words = [({name: name for name in NAMES}, None), *((vocabulary([p]), p.mask_band) for p in known.values())]
    return [names for v, mask in words if (names := _by_words(headers, v, mask, wanted))]


def _by_words(
    headers: Sequence[Header], words: Vocabulary, mask_band: int | None, wanted: frozenset[str] = frozenset()
) -> Names:
    """Bands whose description, or whose file's name, holds a word.

    Raises BandError (``band.twice``) where a wanted one is found in two places; of others, the first counts.
    """
    found: Names = {}
    for header in headers:
        for name, index in _named(header, words, mask_band):
            if name in found and name in wanted:
                raise _twice(name, found[name].header, header)
            found.setdefault(name, _found(header, index, mask_band))
    return found


def _named(header: Header, words: Vocabulary, mask_band: int | None) -> Iterator[tuple[str, int]]:
    data = _data_bands(header, mask_band)
    described = [(name, i) for i in data for name in _understand(header.descriptions[i - 1], words)]
    if described:
        yield from described
    elif len(data) == 1:
        yield from ((name, data[0]) for name in _understand(_stem(header.href), words))


def _understand(text: str, words: Vocabulary) -> set[str]:
    """Names that a text holds; a sensor's own word (B02) counts before a common one (red), which may be a place."""
    hits = {word: words[word] for word in tokens(text) if word in words}
    own = {name for word, name in hits.items() if word != name}
    names = own or set(hits.values())
    return names if len(names) == 1 else set()


def _stem(href: str) -> str:
    return shown(href).rpartition("/")[2].rpartition(".")[0]


def _described(header: Header) -> list[int]:
    return [i for i, text in enumerate(header.descriptions, 1) if text]


def _data_bands(header: Header, mask_band: int | None) -> list[int]:
    """Bands that hold data: not the alpha band, and not the mask of a file with a band and its mask."""
    masks = {header.alpha, mask_band if len(header.dtypes) == mask_band else None}
    return [i for i in header.indexes if i not in masks]


def _found(header: Header, index: int, mask_band: int | None) -> Found:
    return Found(header, index, mask_band if len(header.dtypes) == mask_band else header.alpha)


def _twice(name: str, one: Header, other: Header) -> BandError:
    first, second = shown(one.href), shown(other.href)
    return BandError(
        f"band {name} is found " + (f"in {first} and in {second}" if first != second else f"twice in {first}"),
        code="band.twice",
        hint="give one file per band, of one resolution",
        field="--input",
    )


def _count(header: Header, count: int, other: str, field: str) -> BandError:
    return BandError(
        f"{shown(header.href)} has {count} band{'s' if count != 1 else ''}, {other}",
        code="band.count",
        hint=f"name every band of the file with --bands, {SKIP} for those without a name",
        field=field,
    )


def _list(headers: Sequence[Header]) -> str:
    names = [shown(h.href) for h in headers[:3]]
    return ", ".join(names) + (f" and {len(headers) - 3} more" if len(headers) > 3 else "")  # noqa: PLR2004
