"""From a place and a time to imagery: search, measure, choose, lay out the grid. What ``begin`` does for files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import shapely

from pipelines.mosaic.clear import checked, within
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.grid import OutputGrid, Wish, grid_on, output_grid
from pipelines.mosaic.measure import Measured, measure
from pipelines.mosaic.omnicloudmask import settled
from pipelines.mosaic.onto import onto
from pipelines.mosaic.slots import Asked, Chosen, choose
from pipelines.mosaic.under import refuse_missing
from pipelines.planning import Place
from pipelines.search.discover import source_of
from pipelines.search.find import around, find
from pipelines.search.places import read_place
from pipelines.search.query import Found, Near, Query
from swathe.aoi import AOI
from swathe.card import ModelCard
from swathe.errors import InputError, ReadError
from swathe.mosaic import Mosaic, Slot
from swathe.recipe import Recipe, Search
from swathe.scene import Scene
from swathe.source import Auth, MaskRule, SourceCard, TileService
from swathe.unit import Conversion, settle, stretched
from swathe.when import Interval, parse_dates
from swathe.window import Window

if TYPE_CHECKING:
    from pipelines.blocks.open import Opener
    from pipelines.remote.fetch import Fetcher
    from pipelines.remote.network import Network

HEADERS_MB = 64
"""Decoded blocks kept while scenes are looked at."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Where may be searched, and how the network is used."""

    sources: Mapping[str, SourceCard]
    """Cards by id."""
    network: Network
    """Which addresses, with which secrets."""


def look(recipe: Recipe, card: ModelCard, archive: Archive) -> Mosaic:
    """Search and settle what a run will read.

    Raises InputError and its kin (no scene: ``search.nothing``, with the nearest dates), ReadError.
    """
    with sighted(recipe, card, archive) as sight:
        return _mosaic(sight)


@dataclass(frozen=True, slots=True)
class Sight:
    """Scenes that a search found, and what it takes to look at them more closely."""

    found: Found
    query: Query
    card: ModelCard
    source: SourceCard
    search: Search
    opener: Opener
    others: Callable[[], Sequence[Near]]
    """Scenes of the days before and after, asked for where those of the dates show nothing."""

    @property
    def asked(self) -> Asked:
        """What decides which scenes belong together."""
        middle = self.query.aoi.geometry.representative_point().x
        return Asked(self.query.intervals, self.search.composite, self.card.input.times, middle)

    def grid(self, scenes: Sequence[Scene], frame: Frame | None = None) -> OutputGrid:
        """The output grid over scenes; of a frame where that is known already."""
        wish = Wish(self.search.crs, self.search.res, self.card.output.stride)
        if frame is not None:
            return grid_on(frame, self.query.aoi, wish)
        return output_grid(scenes, self.query.aoi, wish, lambda asset: self.opener.open(asset).grid)

    def measured(self, grid: OutputGrid) -> Measured:
        """All scenes, measured over the area. Raises ReadError where none can be read, InputError (``tiles.none``)."""
        if self.source.tiles:
            refuse_missing(self.opener, self.found.scenes[0].bands[0], grid)
        measured = measure(self.found.scenes, grid, self.source.mask, self.opener)
        _refuse_unreadable(measured, self.search)
        return measured

    def mosaic(self, grid: OutputGrid, chosen: Chosen, notes: Sequence[str]) -> Mosaic:
        """What a run reads of the scenes that were chosen."""
        source, window = self.source, _padded(grid.window, self.card)
        conversion = settle(self.card.input, source.radiometry.unit)
        return Mosaic(
            slots=chosen.slots,
            bands=self.query.bands,
            composite=chosen.composite,
            crs=grid.frame.crs,
            transform=grid.frame.transform(window),
            shape=(window.height, window.width),
            corner=(window.row, window.col),
            unit=conversion.unit if conversion else source.radiometry.unit,
            conversion=conversion,
            sensor=source.id,
            mask=source.mask,
            auth=source.auth,
            tiles=source.tiles,
            max_loss=self.search.max_loss,
            notes=(
                *_converted(source, conversion),
                *_stretched(self.card, source),
                *notes,
                *_uncovered(chosen.slots, self.query.aoi),
            ),
        )


@contextmanager
def sighted(recipe: Recipe, card: ModelCard, archive: Archive, *, cloudy: bool = False) -> Iterator[Sight]:
    """Search. ``cloudy``: scenes of any cloud, where their masks will be looked at; whoever asks keeps to the limit.

    Raises as ``look``.
    """
    search, aoi = _search(recipe), _area(recipe)
    with fetching(archive.network) as fetcher:
        source = _ready(source_of(search.source, archive.sources, fetcher, search.collection))
        now, masked = datetime.now(UTC), source.mask is not None
        # A tile service has one picture of no date.
        dates = (Interval(None, None),) if source.tiles else parse_dates(search.dates, now)
        limit = None if cloudy and masked else search.max_cloud
        query = Query(aoi, dates, limit, _bands(card, source), measured=masked)
        settle(card.input, source.radiometry.unit)  # here, as what cannot be used need not be searched
        found = find(source, query, fetcher, now)
        with opening(fetcher, source.auth, source.tiles, HEADERS_MB) as opener:
            yield Sight(found, query, card, source, search, opener, lambda: around(source, query, fetcher, now))


def _mosaic(sight: Sight) -> Mosaic:
    grid = sight.grid(sight.found.scenes)
    measured = sight.measured(grid)
    scenes, cloudy = _under_limit(measured, sight.query)
    if cloudy:
        grid = sight.grid(scenes)  # what was left out has no say in it
    chosen = choose(scenes, sight.asked, measured.together)
    hardly = checked(chosen.slots, measured, sight.others)
    return sight.mosaic(grid, chosen, (*said(sight.found), *cloudy, *chosen.notes, *hardly, *unmeasured(measured)))


def _under_limit(measured: Measured, query: Query) -> tuple[tuple[Scene, ...], tuple[str, ...]]:
    """Scenes that are clear enough over the area, and what to tell of the others. Raises ImageryError."""
    if query.max_cloud is None or not query.measured:
        return measured.scenes, ()
    return within(measured, query.max_cloud)


def _ready(source: SourceCard) -> SourceCard:
    """With what its mask needs on this machine, looked for before anything is searched."""
    if source.mask is None or source.mask.rule is not MaskRule.OMNICLOUDMASK:
        return source
    return source.model_copy(update={"mask": settled(source.mask)})


def _search(recipe: Recipe) -> Search:
    if recipe.search is None:
        raise AssertionError("the recipe names files")  # whoever calls decides by the same field
    if recipe.inputs:
        raise InputError("--input and --source exclude each other", code="input.both", field="--source",
                         hint="name files, or say where to search")  # fmt: skip
    return recipe.search


def _area(recipe: Recipe) -> AOI:
    if recipe.aoi is None:
        hint = "add --aoi minlon,minlat,maxlon,maxlat, a file, a tile (12/2200/1343) or an MGRS square (33UXP)"
        raise InputError("to search, a place is needed", code="area.none", field="--aoi", hint=hint)
    return read_place(recipe.aoi)


def _bands(card: ModelCard, source: SourceCard) -> tuple[str, ...]:
    """The model's bands as this source names them: a stand-in where the card allows one."""
    return tuple(next((n for n in (name, *card.input.alternatives.get(name, ())) if n in source.bands), name)
                 for name in card.input.bands)  # fmt: skip


def _padded(window: Window, card: ModelCard) -> Window:
    """With a tile's width around the area: tiles at its edge see the land beyond it, as all others do."""
    m = margin(card)
    return Window(window.row - m, window.col - m, window.height + 2 * m, window.width + 2 * m)


def margin(card: ModelCard) -> int:
    """Pixels of imagery around the area that a mosaic reaches; whole output cells."""
    return -(-card.input.chip // card.output.stride) * card.output.stride


def place_in(mosaic: Mosaic, recipe: Recipe, card: ModelCard) -> Place:
    """The area on a mosaic's grid."""
    m = margin(card)
    window = Window(m, m, mosaic.shape[0] - 2 * m, mosaic.shape[1] - 2 * m)
    return Place(window, onto(_area(recipe), Frame.of(mosaic).crs))


# --- what the user should know --------------------------------------------------------------------------------------


def said(found: Found) -> tuple[str, ...]:
    """What the search has to say."""
    return (*found.notes, *(f"{one.id} was left out: {one.reason}" for one in found.left_out))


def _converted(source: SourceCard, conversion: Conversion | None) -> tuple[str, ...]:
    unit = source.radiometry.unit
    return (f"{unit} was converted to {conversion.unit}: {conversion.value}",) if conversion else ()


def _stretched(card: ModelCard, source: SourceCard) -> tuple[str, ...]:
    told = stretched(card.input, source.radiometry.unit)
    return (told,) if told else ()


def unmeasured(measured: Measured) -> tuple[str, ...]:
    """Scenes of which is not known how clear they are."""
    return tuple(f"the mask of {scene} could not be read: {reason}" for scene, reason in measured.lost)


def _refuse_unreadable(measured: Measured, search: Search) -> None:
    """Where no mask can be read at all, the run could only fail later and more slowly."""
    if measured.lost and not measured.seen:
        scene, reason = measured.lost[0]
        raise ReadError(f"no scene can be read; {scene}: {reason}", code="search.unreadable",
                        hint=f"check the credentials of {search.source} and the network")  # fmt: skip


def _uncovered(slots: tuple[Slot, ...], aoi: AOI) -> tuple[str, ...]:
    """Dates whose scenes leave part of the area without imagery."""
    told = []
    for slot in slots:
        outlines = [shapely.from_wkb(scene.footprint) for scene in slot.scenes]
        share = shapely.intersection(shapely.union_all(outlines), aoi.geometry).area / aoi.geometry.area
        if share < HARDLY:
            told.append(f"{slot.when}: scenes cover {share:.1%} of the area")
    return tuple(told)


HARDLY = 0.999
"""Share of the area covered by scenes, below which the user is told."""


# --- means ----------------------------------------------------------------------------------------------------------


@contextmanager
def fetching(network: Network) -> Iterator[Fetcher]:
    """A door to the network, closed at the end."""
    from pipelines.remote.fetch import Fetcher

    fetcher = Fetcher(network)
    try:
        yield fetcher
    finally:
        fetcher.close()


@contextmanager
def opening(fetcher: Fetcher, auth: Auth, tiles: TileService | None, cache_mb: int) -> Iterator[Opener]:
    """Sources of pixels, closed at the end."""
    from pipelines.blocks.open import Opener

    with Opener(fetcher, auth, tiles, cache_mb) as opener:
        yield opener
