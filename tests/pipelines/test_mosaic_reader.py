"""Windows of mosaics against the plainest joining of whole arrays."""

import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.blocks.open import Opener
from pipelines.imagery.gdal import Retry
from pipelines.mosaic.observe import CAP
from pipelines.mosaic.reader import MosaicReader
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from swathe.errors import ImageryError, ReadError
from swathe.mosaic import Composite
from swathe.source import Auth, MaskRule, SourceMask
from swathe.window import Window
from tests.pipelines.scenes import (
    CLOUD,
    NO_DATA,
    SCL,
    VEGETATION,
    LocalOpener,
    Place,
    cropped,
    make_scene,
    mosaic_of,
    painted,
)

PLACE = Place(shape=(400, 500))
"""Of four anchored blocks: they meet at its row 224 and column 176."""
DATES = ("2024-07-09T10:00:00Z", "2024-07-05T10:00:00Z", "2024-07-01T10:00:00Z")


def clouds(shape, seed, share=0.5):
    """Blobs of cloud, and a slanted corner without data."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((shape[0] // 50 + 1, shape[1] // 50 + 1)) < share
    found = np.where(np.kron(coarse, np.ones((50, 50)))[: shape[0], : shape[1]] > 0, CLOUD, VEGETATION).astype(np.uint8)
    rows, cols = np.indices(shape)
    found[rows * (seed + 1) + cols * 2 < 300] = NO_DATA
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Three dates with clouds; the mask is of 20 m. (scenes, data (N, C, h, w), clear (N, h, w), scl)."""
    folder = tmp_path_factory.mktemp("mosaic")
    scenes, data, masks = [], [], []
    for n, when in enumerate(DATES):
        coarse = clouds((200, 250), n)
        scl = np.kron(coarse, np.ones((2, 2), np.uint8))
        numbers = np.stack([painted(PLACE.crs, PLACE.transform, PLACE.shape, b) // 2 + 1000 * n + 1 for b in range(2)])
        numbers[:, scl == NO_DATA] = 0
        scenes.append(make_scene(folder, f"s{n}", PLACE, data=numbers, scl=coarse, scl_place=PLACE.coarser(2),
                                 when=when, scale=1e-4, nodata=0))  # fmt: skip
        data.append(numbers)
        masks.append(scl)
    data, masks = np.stack(data), np.stack(masks)
    return scenes, data, masks == VEGETATION, masks


def read(mosaic, window=None, **options):
    with MosaicReader(mosaic, LocalOpener(), **options) as reader:
        return reader.read(window or Window(0, 0, *mosaic.shape))


def first(data, clear):
    """(C, h, w) of the first clear one, and where there is any."""
    index = clear.argmax(axis=0)
    return np.take_along_axis(data, index[None, None], 0)[0] * clear.any(axis=0), clear.any(axis=0), index


def test_latest_is_the_first_clear_one(world):
    scenes, data, clear, _ = world
    stack = read(mosaic_of(scenes, PLACE, composite=Composite.LATEST, mask=SCL))
    wanted, seen, _ = first(data, clear)
    assert stack.data.dtype == np.uint16
    np.testing.assert_array_equal(stack.mask[0], seen)
    np.testing.assert_array_equal(stack.data[0], wanted)
    assert stack.scale.tolist() == [1e-4, 1e-4]


def test_a_median_is_numpys(world):
    scenes, data, clear, _ = world
    stack = read(mosaic_of(scenes, PLACE, composite=Composite.MEDIAN, mask=SCL))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        wanted = np.nanmedian(np.where(clear[:, None], data.astype(float), np.nan), axis=0) * 1e-4
    assert stack.data.dtype == np.float32
    np.testing.assert_array_equal(stack.mask[0], clear.any(axis=0))
    np.testing.assert_array_equal(stack.data[0], np.nan_to_num(wanted).astype(np.float32))
    assert stack.scale.tolist() == [1, 1]


def far_from_clouds(scl):
    from scipy.ndimage import distance_transform_edt

    return np.stack([np.minimum(distance_transform_edt(m != CLOUD), CAP) for m in scl])


def test_the_best_is_farthest_from_clouds_wherever_blocks_end(world):
    scenes, data, clear, scl = world
    stack = read(mosaic_of(scenes, PLACE, composite=Composite.BEST, mask=SCL))
    score = np.where(clear, far_from_clouds(scl), -1)
    index = score.argmax(axis=0)
    wanted = np.take_along_axis(data, index[None, None], 0)[0] * clear.any(axis=0)
    np.testing.assert_array_equal(stack.data[0], wanted)


def test_a_buffer_crosses_the_borders_of_blocks(world):
    from scipy.ndimage import distance_transform_edt

    scenes, data, clear, scl = world
    wide = SCL.model_copy(update={"buffer_m": 200.0})
    stack = read(mosaic_of(scenes, PLACE, composite=Composite.LATEST, mask=wide))
    wanted, seen, _ = first(data, clear & np.stack([distance_transform_edt(m != CLOUD) > 20 for m in scl]))
    np.testing.assert_array_equal(stack.mask[0], seen)
    np.testing.assert_array_equal(stack.data[0], wanted)


@pytest.mark.parametrize("kind", [Composite.LATEST, Composite.MEDIAN])
def test_without_a_mask_every_pixel_with_data_is_clear(world, kind):
    scenes, data, _, scl = world
    stack = read(mosaic_of([replace(s, mask=None) for s in scenes], PLACE, composite=kind))
    there = scl != NO_DATA
    np.testing.assert_array_equal(stack.mask[0], there.any(axis=0))
    if kind is Composite.LATEST:
        np.testing.assert_array_equal(stack.data[0], first(data, there)[0])


def test_the_label_says_which_scene_and_how_many(world):
    scenes, _, clear, _ = world
    mosaic = mosaic_of(scenes, PLACE, composite=Composite.LATEST, mask=SCL)
    assert [s.id for s in mosaic.scenes] == ["s2", "s1", "s0"]  # oldest first
    with MosaicReader(mosaic, LocalOpener()) as reader:
        index, count = reader.label(Window(0, 0, *PLACE.shape))
    _, seen, wanted = first(np.zeros((3, 1, *PLACE.shape)), clear)
    np.testing.assert_array_equal(index[0], np.where(seen, 3 - wanted, 0))
    np.testing.assert_array_equal(count[0], clear.sum(axis=0))


def test_the_label_of_a_median(world):
    scenes, _, clear, _ = world
    with MosaicReader(mosaic_of(scenes, PLACE, composite=Composite.MEDIAN, mask=SCL), LocalOpener()) as reader:
        index, count = reader.label(Window(0, 0, *PLACE.shape))
    total = clear.sum(axis=0)
    np.testing.assert_array_equal(count[0], total)
    np.testing.assert_array_equal(index[0], np.select([total > 1, total == 1], [65535, 3 - clear.argmax(axis=0)], 0))


@pytest.fixture(scope="module")
def zones(tmp_path_factory):
    """Scenes of two UTM zones over one place, with clouds, so that half of it is warped."""
    folder = tmp_path_factory.mktemp("zones")
    east = Place("EPSG:32633", 220_000, 4_600_000, 10, (400, 400))
    west = Place("EPSG:32632", 719_500, 4_602_000, 10, (400, 400))
    made = []
    for n, place in enumerate((west, east)):
        made.append(make_scene(folder, f"z{n}", place, scl=clouds(place.shape, n, 0.3), when=DATES[n]))
    return made, east


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_pixel_has_one_value_whatever_area_window_and_threads(whole_of_zones, data):
    kind = data.draw(st.sampled_from([Composite.LATEST, Composite.MEDIAN, Composite.BEST]))
    mosaic, whole = whole_of_zones[kind]
    area = Window(
        *(data.draw(st.integers(0, 300)) for _ in range(2)), *(data.draw(st.integers(1, 90)) for _ in range(2))
    )
    part = cropped(mosaic, area)
    window = Window(
        *(data.draw(st.integers(-20, 40)) for _ in range(2)), *(data.draw(st.integers(1, 80)) for _ in range(2))
    )
    stack = read(part, window, threads=data.draw(st.integers(1, 4)), cache_mb=data.draw(st.sampled_from([0, 64])))
    on_area = np.zeros((2, *part.shape), stack.data.dtype)
    on_area[...] = whole.data[0][:, area.row : area.bottom, area.col : area.right]
    wanted = np.zeros(stack.data.shape[1:], stack.data.dtype)
    inner = window.intersection(Window(0, 0, *part.shape))
    if inner is not None:
        rows, cols = inner.within(Window(0, 0, *part.shape))
        wanted[:, *inner.within(window)] = on_area[:, rows, cols]
    np.testing.assert_array_equal(stack.data[0], wanted)


@pytest.fixture(scope="module")
def whole_of_zones(zones):
    scenes, place = zones
    mask = SCL.model_copy(update={"buffer_m": 60.0})
    made = {}
    for kind in (Composite.LATEST, Composite.MEDIAN, Composite.BEST):
        mosaic = mosaic_of(scenes, place, composite=kind, mask=mask)
        made[kind] = mosaic, read(mosaic)
    return made


def test_scenes_whose_numbers_differ_in_meaning_are_harmonised(tmp_path):
    """Sentinel-2 before and after baseline 04.00: the same reflectance, stored 1000 higher."""
    old = np.full((1, *PLACE.shape), 2000, np.uint16)
    left = clouds(PLACE.shape, 0)
    a = make_scene(tmp_path, "old", PLACE, data=old, scl=left, bands=("red",), scale=1e-4, when=DATES[1])
    b = make_scene(tmp_path, "new", PLACE, data=old + 1000, bands=("red",), scale=1e-4, offset=-0.1, when=DATES[2],
                   scl=np.full(PLACE.shape, VEGETATION))  # fmt: skip
    for kind in (Composite.LATEST, Composite.MEDIAN, Composite.BEST):
        stack = read(mosaic_of([a, b], PLACE, composite=kind, mask=SCL))
        assert stack.data.dtype == np.float32
        assert stack.scale.tolist(), stack.offset.tolist() == ([1], [0])
        assert stack.mask.all()
        np.testing.assert_allclose(stack.data, 0.2, rtol=1e-6)


def test_scenes_side_by_side_leave_no_seam(tmp_path):
    """Two tiles of one day that overlap, each with an edge without data; the sum is the field, everywhere."""
    left = Place(shape=(300, 400))
    right = Place(x=left.x + 2500, shape=(300, 400))
    whole = Place(shape=(300, 650))
    scenes = []
    for name, place in (("left", left), ("right", right)):
        numbers = np.stack([painted(place.crs, place.transform, place.shape, b) for b in range(2)])
        numbers[:, :, -60:] = 0 if name == "left" else numbers[:, :, -60:]
        numbers[:, :, :60] = 0 if name == "right" else numbers[:, :, :60]
        scenes.append(make_scene(tmp_path, name, place, data=numbers, nodata=0))
    stack = read(mosaic_of(scenes, whole))
    wanted = np.stack([painted(whole.crs, whole.transform, whole.shape, b) for b in range(2)])
    assert stack.mask.all()
    np.testing.assert_array_equal(stack.data[0], wanted)


def test_outside_the_grid_there_is_nothing(world):
    scenes, *_ = world
    stack = read(mosaic_of(scenes, PLACE, composite=Composite.LATEST, mask=SCL), Window(-30, 450, 60, 100))
    assert not stack.mask[0, :30].any()
    assert not stack.mask[0, :, 50:].any()
    assert not stack.data[0][:, ~stack.mask[0]].any()


def test_bands_are_read_only_where_something_is_still_wanted(world):
    """The newest scene is clear all over one block: nothing but its mask and bands is read there."""
    scenes, *_ = world
    clean = make_scene(Path(scenes[0].bands[0].href).parent.parent, "clean", PLACE, when="2024-07-20T10:00:00Z",
                       scl=np.full(PLACE.shape, VEGETATION, np.uint8), scale=1e-4)  # fmt: skip
    opener = LocalOpener()
    with MosaicReader(mosaic_of([clean, *scenes], PLACE, composite=Composite.LATEST, mask=SCL), opener) as reader:
        reader.read(Window(0, 0, 300, 300))
    assert {(scene, band) for scene, band, *_ in opener.reads} == {("clean", "scl"), ("clean", "red"), ("clean", "nir")}
    assert {Path(href).parent.name for href, *_ in opener.expected} == {"clean"}


# --- solar days -----------------------------------------------------------------------------------------------------

LEFT, RIGHT = slice(0, 320), slice(180, 500)
"""Columns of two tiles of a pass, which overlap."""
PASSES = (
    ("2024-07-09T10:00:20Z", LEFT), ("2024-07-09T10:00:00Z", RIGHT),
    ("2024-07-05T10:00:20Z", RIGHT),
    ("2024-07-01T10:00:20Z", RIGHT), ("2024-07-01T10:00:00Z", LEFT),
)  # fmt: skip
"""Three days, newest first; on one of them a tile is missing."""


@pytest.fixture(scope="module")
def passes(tmp_path_factory):
    """Tiles with numbers and clouds of their own, one without data in a corner of one band only.

    (scenes, data (N, C, h, w), clear (N, C, h, w), both on the whole place)
    """
    folder = tmp_path_factory.mktemp("passes")
    scenes, data = [], np.zeros((len(PASSES), 2, *PLACE.shape), np.uint16)
    clear = np.zeros(data.shape, bool)
    for n, (when, columns) in enumerate(PASSES):
        tile = Place(x=PLACE.x + 10 * columns.start, shape=(400, columns.stop - columns.start))
        numbers = np.stack([painted(tile.crs, tile.transform, tile.shape, b) // 2 + 700 * n + 1 for b in range(2)])
        scl = clouds(tile.shape, n)
        numbers[1, 250:300, 100:140] = 0
        data[n, :, :, columns], clear[n, :, :, columns] = numbers, (scl == VEGETATION) & (numbers > 0)
        scenes.append(make_scene(folder, f"p{n}", tile, data=numbers, scl=scl, when=when, scale=1e-4, nodata=0))
    return scenes, data, clear


def members(scenes):
    """Places of the scenes of each day."""
    days = dict.fromkeys(s.when[:10] for s in scenes)
    return [[n for n, s in enumerate(scenes) if s.when[:10] == day] for day in days]


def joined(scenes, data, clear):
    """(D, C, h, w) numbers of each day: of its scenes the first that is clear, else NaN."""
    found = []
    for day in members(scenes):
        whole = np.full(data.shape[1:], np.nan)
        for n in reversed(day):
            whole = np.where(clear[n], data[n], whole)
        found.append(whole)
    return np.stack(found)


def nanmedian(stack):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(stack, axis=0)


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, len(PASSES) - 1), min_size=1))
def test_a_median_is_that_of_days(passes, chosen):
    """Against numpy's on the stacked array, grouped by day; any tile may be missing."""
    scenes, data, clear = ([part[n] for n in sorted(chosen)] for part in passes)
    data, clear = np.stack(data), np.stack(clear)
    mosaic = mosaic_of(scenes, PLACE, composite=Composite.MEDIAN, mask=SCL)
    with MosaicReader(mosaic, LocalOpener()) as reader:
        stack, (index, count) = reader.read(Window(0, 0, *PLACE.shape)), reader.label(Window(0, 0, *PLACE.shape))
    days = joined(scenes, data, clear)
    seen = (~np.isnan(days)).sum(axis=0).min(axis=0)
    wanted = np.where(seen > 0, np.nan_to_num(nanmedian(days)) * 1e-4, 0)
    np.testing.assert_array_equal(count[0], seen)
    np.testing.assert_array_equal(stack.mask[0], seen > 0)
    np.testing.assert_array_equal(stack.data[0], wanted.astype(np.float32))
    used = np.zeros(clear.shape, bool)
    for day in members(scenes):
        for n in day:
            used[n] = clear[n] & ~clear[[m for m in day if m < n]].any(axis=0)
    used = used.any(axis=1)
    numbers = np.array([1 + [s.id for s in mosaic.scenes].index(scene.id) for scene in scenes])
    single = np.where(used.sum(axis=0) > 1, 65535, numbers[used.argmax(axis=0)])
    np.testing.assert_array_equal(index[0], np.where(seen > 0, single, 0))


def test_of_all_scenes_the_median_would_be_another(passes):
    """What the test above can tell."""
    scenes, data, clear = passes
    apart = nanmedian(np.where(clear, data, np.nan)) != nanmedian(joined(scenes, data, clear))
    overlap = apart[:, :, RIGHT.start : LEFT.stop] & clear.any(axis=0)[:, :, RIGHT.start : LEFT.stop]
    assert overlap.mean() > 0.1


@pytest.fixture(scope="module")
def afar():
    """(N, h, w) pixels from each of the whole place to the clouds of each tile, up to the cap."""
    from scipy.ndimage import distance_transform_edt

    found = []
    for n, (_, columns) in enumerate(PASSES):
        cloudy = np.zeros(PLACE.shape, bool)
        cloudy[:, columns] = clouds((400, columns.stop - columns.start), n) == CLOUD
        found.append(np.minimum(distance_transform_edt(~cloudy), CAP))
    return np.stack(found)


def test_the_best_day_is_farthest_from_the_clouds_of_all_its_scenes(passes, afar):
    """Also from those that begin behind the edge of a tile, and behind the border of a block: RIGHT does, at 180."""
    scenes, data, clear = passes
    sees, score, alone = clear.all(axis=1), np.empty_like(afar), np.where(clear.all(axis=1), afar, -1)
    for day in members(scenes):
        score[day] = afar[day].min(axis=0)
    index = np.where(sees, score, -1).argmax(axis=0)
    wanted = np.take_along_axis(data, index[None, None], 0)[0] * sees.any(axis=0)
    stack = read(mosaic_of(scenes, PLACE, composite=Composite.BEST, mask=SCL))
    np.testing.assert_array_equal(stack.mask[0], sees.any(axis=0))
    np.testing.assert_array_equal(stack.data[0], wanted)
    assert (index != alone.argmax(axis=0))[:, 130:176].any()  # of scenes, each for itself, it would be another


@pytest.mark.parametrize("kind", [Composite.LATEST, Composite.BEST])
def test_scenes_of_a_day_count_once(passes, kind):
    scenes, _, clear = passes
    scenes = [replace(s, bands=s.bands[:1]) for s in scenes]
    with MosaicReader(mosaic_of(scenes, PLACE, composite=kind, mask=SCL), LocalOpener()) as reader:
        _, count = reader.label(Window(0, 0, *PLACE.shape))
    days = np.stack([clear[day, 0].any(axis=0) for day in members(scenes)])
    np.testing.assert_array_equal(count[0], days.sum(axis=0))
    assert (clear[:, 0].sum(axis=0) > days.sum(axis=0)).any()


def test_without_masks_a_day_counts_once_too(tmp_path):
    """A first tile whose right half is missing, and one that has all: where they overlap, it is one observation."""
    place = Place(shape=(60, 80))
    numbers = np.full((2, *place.shape), 500, np.uint16)
    half = numbers.copy()
    half[:, :, 40:] = 0
    scenes = [make_scene(tmp_path, name, place, data=d, nodata=0) for name, d in (("half", half), ("whole", numbers))]
    for kind in Composite:
        with MosaicReader(mosaic_of(scenes, place, composite=kind), LocalOpener()) as reader:
            index, count = reader.label(Window(0, 0, *place.shape))
        assert (count == 1).all(), kind
        assert (index[0] == np.where(np.arange(80) < 40, 1, 2)).all(), kind


def test_where_one_tile_is_missing_a_median_has_no_seam(tmp_path):
    """By hand: 1000 and 2000 are 1500 wherever both days are there, also where the first day has two tiles."""
    scenes = []
    for n, (when, columns) in enumerate((("2024-07-05", LEFT), ("2024-07-01", LEFT), ("2024-07-01", RIGHT))):
        tile = Place(x=PLACE.x + 10 * columns.start, shape=(400, columns.stop - columns.start))
        numbers = np.full((1, *tile.shape), 2000 if n == 0 else 1000, np.uint16)
        scenes.append(make_scene(tmp_path, f"s{n}", tile, data=numbers, bands=("red",), when=f"{when}T10:00:00Z"))
    stack = read(mosaic_of(scenes, PLACE, composite=Composite.MEDIAN))
    assert (stack.data[0, 0, :, : LEFT.stop] == 1500).all()
    assert (stack.data[0, 0, :, LEFT.stop :] == 1000).all()


def test_of_a_day_no_more_is_read_than_its_gaps_want(tmp_path):
    clear = np.full(PLACE.shape, VEGETATION, np.uint8)
    scenes = [make_scene(tmp_path, name, PLACE, scl=clear) for name in ("a", "b")]
    opener = LocalOpener()
    with MosaicReader(mosaic_of(scenes, PLACE, composite=Composite.MEDIAN, mask=SCL), opener) as reader:
        stack = reader.read(Window(0, 0, *PLACE.shape))
    assert stack.mask.all()
    bands = {(scene, band) for scene, band, *_ in opener.reads}
    assert bands == {("a", "scl"), ("b", "scl"), ("a", "red"), ("a", "nir")}
    assert {Path(href).stem for href, *_ in opener.expected if Path(href).parent.name == "b"} == {"scl"}


def test_a_band_that_is_lost_comes_from_the_other_tile_of_the_day(tmp_path):
    clear = np.full(PLACE.shape, VEGETATION, np.uint8)
    numbers = np.full((2, *PLACE.shape), 1000, np.uint16)
    scenes = [make_scene(tmp_path, n, PLACE, data=numbers + k, scl=clear) for k, n in enumerate(("a", "b"))]
    mosaic = mosaic_of(scenes, PLACE, composite=Composite.MEDIAN, mask=SCL, max_loss=0.6)
    with MosaicReader(mosaic, LocalOpener(broken={scenes[0].bands[1].href})) as reader:
        stack = reader.read(Window(0, 0, *PLACE.shape))
        index, count = reader.label(Window(0, 0, *PLACE.shape))
    assert (stack.data[0, 0] == 1000).all()
    assert (stack.data[0, 1] == 1001).all()
    assert (index == 65535).all()
    assert (count == 1).all()


# --- losses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(Composite))
@pytest.mark.parametrize("way", ["broken", "gone"])
def test_a_lost_file_is_an_error_unless_losses_are_allowed(world, kind, way):
    scenes, *_ = world
    lost = scenes[0].bands[1]
    opener = LocalOpener(**{way: {lost.href}})
    mosaic = mosaic_of(scenes, PLACE, composite=kind, mask=SCL)
    with MosaicReader(mosaic, opener) as reader:
        with pytest.raises(ReadError, match="nir"):
            reader.read(Window(0, 0, 400, 300))
        assert reader.losses == []
        getattr(opener, way).clear()
        again = reader.read(Window(0, 0, 400, 300))
    np.testing.assert_array_equal(again.data, read(mosaic, Window(0, 0, 400, 300)).data)


@pytest.mark.parametrize("kind", [Composite.LATEST, Composite.BEST])
def test_what_may_be_lost_is_passed_over_and_told(world, kind):
    scenes, *_ = world
    lost = scenes[0].bands[1]
    mosaic = mosaic_of(scenes, PLACE, composite=kind, mask=SCL, max_loss=0.4)
    with MosaicReader(mosaic, LocalOpener(broken={lost.href})) as reader:
        stack = reader.read(Window(0, 0, *PLACE.shape))
        assert {(loss.scene, loss.asset) for loss in reader.losses} == {("s0", "nir")}
        # The grid begins at row -460000 and column 50000, and so do the files: one block, or four anchored ones.
        told = {loss.block for loss in reader.losses}
        if kind is Composite.LATEST:
            assert told == {(-899, 97)}
        else:
            assert told <= {(-899, 97), (-899, 98), (-898, 97), (-898, 98)}
            assert (-899, 98) in told
        assert all("broke off" in loss.reason for loss in reader.losses)
    without = read(replace(mosaic, slots=(replace(mosaic.slots[0], days=mosaic.slots[0].days[1:]),)))
    np.testing.assert_array_equal(stack.data, without.data)


def test_a_median_misses_only_the_band_that_is_lost(world):
    scenes, data, clear, _ = world
    lost = scenes[0].bands[1]
    mosaic = mosaic_of(scenes, PLACE, composite=Composite.MEDIAN, mask=SCL, max_loss=0.4)
    with MosaicReader(mosaic, LocalOpener(broken={lost.href})) as reader:
        stack = reader.read(Window(0, 0, *PLACE.shape))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        seen = np.where(clear, data[:, 0].astype(float), np.nan)
        wanted = np.nanmedian(seen, axis=0) * 1e-4
    valid = clear[1:].any(axis=0)
    np.testing.assert_array_equal(stack.mask[0], valid)
    np.testing.assert_array_equal(stack.data[0, 0][valid], wanted.astype(np.float32)[valid])


def test_too_much_lost_is_an_error(world):
    scenes, *_ = world
    lost = {scenes[0].mask.href, scenes[1].bands[0].href}
    mosaic = mosaic_of(scenes, PLACE, composite=Composite.BEST, mask=SCL, max_loss=0.4)
    with (
        MosaicReader(mosaic, LocalOpener(broken=lost)) as reader,
        pytest.raises(ReadError, match="more than 40") as told,
    ):
        reader.read(Window(0, 0, *PLACE.shape))
    assert told.value.problem.code == "read.max_loss"


def test_a_mask_by_a_model_that_is_not_here_is_refused_at_once(world):
    scenes, *_ = world
    mask = SourceMask(rule=MaskRule.OMNICLOUDMASK)
    with pytest.raises(ImageryError) as told:
        MosaicReader(mosaic_of(scenes, PLACE, mask=mask), LocalOpener())
    assert told.value.problem.code == "mask.unavailable"


def test_the_first_scene_is_opened_before_anything_is_read(world):
    scenes, *_ = world
    mosaic, opener, opened = mosaic_of(scenes, PLACE, mask=SCL), LocalOpener(), []
    opener.expect = opened.extend
    with MosaicReader(mosaic, opener) as reader:
        reader.begin()
    assert opened == [*mosaic.scenes[0].bands, mosaic.scenes[0].mask]
    assert not opener.reads


# --- reading ahead, and memory --------------------------------------------------------------------------------------


def test_blocks_are_made_ahead_in_order_within_the_bound(world):
    scenes, *_ = world
    opener, mosaic = LocalOpener(), mosaic_of(scenes, PLACE, composite=Composite.BEST, mask=SCL)
    with MosaicReader(mosaic, opener, threads=1) as reader:
        windows = [Window(row, 0, 10, 20) for row in range(0, 400, 10)]
        reader.ahead(windows)
        for _ in range(500):
            if len(reader._prefetcher._kept) == 2:
                break
            threading.Event().wait(0.02)
        rows = [row for _, band, (row, _), _ in reads_of(opener) if band == "red"]
        assert set(rows) == {0, 224}
        assert rows == sorted(rows)
        before = len(opener.reads)
        stacks = [reader.read(w) for w in windows]
        assert len(opener.reads) == before  # all was there
    whole = read(mosaic)
    np.testing.assert_array_equal(np.concatenate([s.data for s in stacks], axis=2), whole.data[:, :, :, :20])


def reads_of(opener):
    with opener.lock:
        return [(scene, band, (w.row, w.col), level) for scene, band, w, level in opener.reads]


def test_two_dates_are_two_slots(world):
    scenes, data, clear, _ = world
    stack = read(mosaic_of([[scenes[2]], [scenes[0], scenes[1]]], PLACE, mask=SCL))
    assert stack.data.shape == (2, 2, *PLACE.shape)
    np.testing.assert_array_equal(stack.data[0], data[2] * clear[2])
    np.testing.assert_array_equal(stack.data[1], first(data[:2], clear[:2])[0])


def test_memory_does_not_grow_with_the_area(tmp_path):
    """Ten dates of 900 x 900 and three bands: 75 MB of observations and their masks pass through half of that."""
    import tracemalloc

    place = Place(shape=(900, 900))
    numbers = np.repeat(np.arange(900 * 900, dtype=np.uint16).reshape(1, 900, 900), 3, axis=0)
    scene = make_scene(tmp_path, "one", place, data=numbers, bands=("blue", "green", "red"), blocksize=512)
    scenes = [replace(scene, id=f"s{n}", when=f"2024-07-{n + 1:02}T10:00:00Z") for n in range(10)]
    mosaic = mosaic_of(scenes, place, composite=Composite.MEDIAN)
    with MosaicReader(mosaic, LocalOpener(), threads=1, cache_mb=4) as first:
        first.read(Window(0, 0, 100, 900))  # what is imported and looked up once is no growth
    with MosaicReader(mosaic, LocalOpener(), threads=1, cache_mb=4) as reader:
        reader.read(Window(0, 0, 8, 8))
        tracemalloc.start()
        for row in range(0, 900, 100):
            assert reader.read(Window(row, 0, 100, 900)).mask.all()
        peak = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
    # 4 MiB kept; ten times three planes of 0.5 MiB and half as much of masks; a block, its parts and the stack.
    assert peak < 4 + 30 * 0.75 + 20


# --- the real door --------------------------------------------------------------------------------------------------


@pytest.fixture
def door():
    """The opener of a run, with its fetcher, over local files."""
    fetcher = Fetcher(Network(retry=Retry(attempts=2, base_s=0.01)))
    with Opener(fetcher, Auth()) as opener:
        yield opener
    fetcher.close()


@pytest.mark.parametrize("kind", list(Composite))
def test_through_the_real_door_come_the_same_pixels(world, door, kind):
    scenes, *_ = world
    mosaic = mosaic_of(scenes, PLACE, composite=kind, mask=SCL)
    with MosaicReader(mosaic, door) as reader:
        reader.ahead([Window(0, 0, *PLACE.shape)])
        stack = reader.read(Window(0, 0, *PLACE.shape))
    plain = read(mosaic)
    np.testing.assert_array_equal(stack.data, plain.data)
    np.testing.assert_array_equal(stack.mask, plain.mask)


def test_files_that_are_gone_or_broken_are_losses_of_the_real_door_too(tmp_path, door):
    place = Place(shape=(300, 300))
    scenes = [make_scene(tmp_path, f"s{n}", place, when=when) for n, when in enumerate(DATES)]
    Path(scenes[0].bands[0].href).unlink()
    broken = Path(scenes[1].bands[1].href)
    broken.write_bytes(broken.read_bytes()[:-20_000])
    mosaic = mosaic_of(scenes, place, composite=Composite.LATEST)
    with MosaicReader(mosaic, door) as reader, pytest.raises(ReadError):
        reader.read(Window(0, 0, *place.shape))
    with MosaicReader(replace(mosaic, max_loss=0.7), door) as reader:
        stack = reader.read(Window(0, 0, *place.shape))
        assert {(loss.scene, loss.asset) for loss in reader.losses} == {("s0", "red"), ("s1", "nir")}
        index, count = reader.label(Window(0, 0, *place.shape))
    wanted = np.stack([painted(place.crs, place.transform, place.shape, b) for b in range(2)])
    np.testing.assert_array_equal(stack.data[0], wanted)
    assert (index == 1).all()  # the oldest
    assert (count == 1).all()
