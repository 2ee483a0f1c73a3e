"""Which scenes belong to a date, which comes first, and how much of the area each shows."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from pipelines.mosaic.clear import checked, within
from pipelines.mosaic.grid import output_grid
from pipelines.mosaic.measure import Measured, Seen, measure
from pipelines.mosaic.reader import MosaicReader
from pipelines.mosaic.slots import Asked, choose, solar_day
from pipelines.search.query import Near
from swathe.aoi import AOI
from swathe.errors import ImageryError, InputError
from swathe.mosaic import Composite, Slot
from swathe.scene import Scene
from swathe.when import parse_dates
from swathe.window import Window
from tests.pipelines.scenes import CLOUD, NO_DATA, SCL, VEGETATION, LocalOpener, Place, make_scene, mosaic_of

NOW = datetime(2025, 1, 1, tzinfo=UTC)


def seen(name, when, clear=None):
    return Scene(name, "", when, shapely.to_wkb(shapely.box(0, 0, 1, 1)), (), clear=clear)


def cover(scenes):
    return min(1.0, sum(s.clear for s in scenes))


JULY = (
    seen("a", "2024-07-01T10:00:00Z", 0.2), seen("b", "2024-07-01T10:00:20Z", 0.3),
    seen("c", "2024-07-06T10:00:00Z", 0.9),
    seen("d", "2024-07-11T10:00:00Z", 0.9), seen("e", "2024-07-11T10:00:20Z", 0.95),
)  # fmt: skip


def asked(dates, composite=None, **options):
    return Asked(parse_dates(dates, NOW), composite, **options)


def ids(slot):
    return [s.id for s in slot.scenes]


def test_none_takes_the_clearest_day_and_tells_the_others():
    chosen = choose(JULY, asked("2024-07", Composite.NONE), cover)
    assert [ids(s) for s in chosen.slots] == [["e", "d"]]
    assert chosen.slots[0].when == "2024-07-11"
    (note,) = chosen.notes
    assert "2024-07-01 (50%), 2024-07-06 (90%)" in note
    assert choose(JULY[::-1], asked("2024-07", Composite.NONE), cover) == chosen


@pytest.mark.parametrize("kind", [Composite.LATEST, Composite.BEST, Composite.MEDIAN])
def test_the_others_take_all_newest_first(kind):
    chosen = choose(JULY, asked("2024-07-01/2024-07-31", kind), cover)
    assert [ids(s) for s in chosen.slots] == [["e", "d", "c", "b", "a"]]
    assert [[s.id for s in day] for day in chosen.slots[0].days] == [["e", "d"], ["c"], ["b", "a"]]
    assert chosen.notes == ()


def test_what_was_not_asked_is_settled_by_the_days():
    assert choose(JULY[:2], asked("2024-07"), cover).composite is Composite.NONE
    assert choose(JULY, asked("2024-07"), cover).composite is Composite.BEST


def test_a_model_of_two_dates_gets_two_slots():
    chosen = choose(JULY, asked("2024-07-01/2024-07-05,2024-07-06/2024-07-31", Composite.LATEST, times=2), cover)
    assert [ids(s) for s in chosen.slots] == [["b", "a"], ["e", "d", "c"]]


def test_several_intervals_of_a_model_of_one_date_are_one_slot():
    chosen = choose(JULY, asked("2024-07-01,2024-07-11", Composite.LATEST), cover)
    assert [ids(s) for s in chosen.slots] == [["e", "d", "b", "a"]]


@pytest.mark.parametrize("dates", ["2024-07", "2024-07-01,2024-07-06,2024-07-11"])
def test_dates_that_do_not_match_the_model_are_refused(dates):
    with pytest.raises(InputError) as told:
        choose(JULY, asked(dates, times=2), cover)
    assert told.value.problem.code == "when.count"
    assert "2 dates" in told.value.hint


def test_an_interval_without_scenes_is_told_by_name():
    with pytest.raises(InputError, match="2024-08") as told:
        choose(JULY, asked("2024-07,2024-08", times=2), cover)
    assert told.value.problem.code == "scenes.none"


def test_days_are_the_suns():
    """Fiji at 22:50 UTC is the next morning; so is 00:10 UTC of the next day: one pass, one day."""
    before, after = seen("x", "2024-06-30T23:50:00Z"), seen("y", "2024-07-01T00:10:00Z")
    assert solar_day(before, 178.0) == solar_day(after, 178.0) == date(2024, 7, 1)
    assert solar_day(before, 0.0) != solar_day(after, 0.0)


@given(st.floats(-180, 180), st.lists(st.integers(0, 4000), min_size=1, max_size=6))
def test_days_cut_the_order_of_time_and_never_change_it(lon, minutes):
    moments = [datetime(2024, 7, 1, tzinfo=UTC) + timedelta(minutes=m) for m in minutes]
    scenes = [seen(f"s{n}", moment.isoformat(), 1.0) for n, moment in enumerate(moments)]
    (slot,) = choose(scenes, asked("2024-07", Composite.MEDIAN, lon=lon), cover).slots
    assert [s.when for s in slot.scenes] == sorted((s.when for s in scenes), reverse=True)
    told = [{solar_day(s, lon) for s in day} for day in slot.days]
    assert all(len(day) == 1 for day in told)
    assert len(set.union(*told)) == len(told)


# --- measured in the mask -------------------------------------------------------------------------------------------

PLACE = Place(shape=(600, 800))


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """One scene clear in its west, the other in its middle; each with a strip without data in the north."""
    folder = tmp_path_factory.mktemp("measure")
    scenes = []
    for name, columns in (("west", slice(0, 400)), ("middle", slice(200, 600))):
        scl = np.full(PLACE.shape, CLOUD, np.uint8)
        scl[:, columns] = VEGETATION
        scl[:60] = NO_DATA
        scenes.append(make_scene(folder, name, PLACE, scl=scl, overviews=(2, 4, 8)))
    return scenes


def box():
    """Columns 100..700 of all rows."""
    x, y = PLACE.x, PLACE.y
    from pyproj import Transformer

    turn = Transformer.from_crs(PLACE.crs, "OGC:CRS84", always_xy=True)
    ring = shapely.segmentize(shapely.box(x + 1000, y - 6000, x + 7000, y), 200)
    return AOI.of(shapely.transform(ring, lambda c: np.column_stack(turn.transform(c[:, 0], c[:, 1]))))


@pytest.mark.parametrize(("across", "level"), [(2000, 0), (150, 2)])
def test_clear_is_measured_over_the_area_in_a_coarse_mask(two, across, level):
    opener, aoi = LocalOpener(), box()
    grid = output_grid(two, aoi)
    found = measure(two, grid, SCL, opener, across)
    share = 0.9 * 300 / 600, 0.9 * 400 / 600
    assert [s.clear for s in found.scenes] == [pytest.approx(v, abs=0.01) for v in share]
    assert [found.seen[s.key].valid for s in two] == [pytest.approx(0.9, abs=0.01)] * 2
    assert found.together(two) == pytest.approx(0.9 * 500 / 600, abs=0.01)
    assert found.together([]) == 0
    assert {r[-1] for r in opener.reads} == {level}
    assert all(band == "scl" for _, band, *_ in opener.reads)


def test_one_id_in_two_collections_is_two_scenes(two):
    alike = [replace(two[0], id="same", collection="a"), replace(two[1], id="same", collection="b")]
    found = measure(alike, output_grid(alike, box()), SCL, LocalOpener(), 2000)
    share = 0.9 * 300 / 600, 0.9 * 400 / 600
    assert [s.clear for s in found.scenes] == [pytest.approx(v, abs=0.01) for v in share]
    assert found.together(alike) == pytest.approx(0.9 * 500 / 600, abs=0.01)
    mosaic = mosaic_of(list(found.scenes), PLACE, mask=SCL)
    assert mosaic.scenes == found.scenes
    with MosaicReader(mosaic, LocalOpener(), threads=1) as reader:
        index, _ = reader.label(Window(100, 0, 1, 800))
    assert set(np.unique(index)) >= {1, 2}


def test_without_a_mask_the_footprint_counts(two):
    bare = [replace(two[0], mask=None)]
    aoi = AOI.parse(",".join(str(v) for v in np.add(box().bounds, (0, -0.02, 0.01, 0))))
    found = measure(bare, output_grid(bare, aoi), None, LocalOpener())
    wanted = shapely.from_wkb(bare[0].footprint).intersection(aoi.geometry).area / aoi.geometry.area
    assert 0.3 < wanted < 0.9
    assert found.scenes[0].clear == pytest.approx(wanted, abs=0.01)


def test_a_limit_on_cloud_is_meant_of_the_area_and_of_what_the_scene_shows_of_it(two):
    """Of columns 100 to 700 the west is clear in 300, the middle in 400; rows without data are nobody's cloud."""
    west, middle = (replace(scene, cloud=cloud) for scene, cloud in zip(two, (1.0, 99.0), strict=True))
    found = measure((west, middle), output_grid(two, box()), SCL, LocalOpener(), 2000)
    assert [found.seen[s.key].cloud for s in two] == [pytest.approx(v, abs=1) for v in (50, 100 / 3)]
    kept, (note,) = within(found, 40)
    assert [s.id for s in kept] == ["middle"]
    assert "more than 40 % cloud over the area were left out: west (50 %)" in note
    assert within(found, 60) == (found.scenes, ())
    with pytest.raises(ImageryError) as caught:
        within(found, 20)
    assert caught.value.problem.code == "search.nothing"
    assert "raise --max-cloud: there are 2024-07-01 (33 % cloud), 2024-07-01 (50 % cloud)" in caught.value.hint


def test_where_a_mask_is_lost_the_catalogue_says_how_cloudy_it_is(two):
    west, middle = (replace(scene, cloud=cloud) for scene, cloud in zip(two, (80.0, 99.0), strict=True))
    opener = LocalOpener(broken={west.mask.href})
    found = measure((west, middle), output_grid(two, box()), SCL, opener, 2000)
    assert [s.id for s in within(found, 60)[0]] == ["middle"]
    unknown = measure((replace(west, cloud=None), middle), output_grid(two, box()), SCL, opener, 2000)
    assert [s.id for s in within(unknown, 60)[0]] == ["west", "middle"]


def test_a_lost_mask_is_told_and_not_measured(two):
    found = measure(two, output_grid(two, box()), SCL, LocalOpener(broken={two[0].mask.href}))
    assert [s.clear is None for s in found.scenes] == [True, False]
    assert [name for name, _ in found.lost] == ["west"]


def test_several_dates_of_a_model_of_one_are_one_map_and_it_says_so():
    chosen = choose(JULY, asked("2024-07-01,2024-07-11", Composite.BEST), cover)
    assert [ids(s) for s in chosen.slots] == [["e", "d", "b", "a"]]
    assert "2024-07-01, 2024-07-11 become one map" in chosen.notes[0]


def test_an_observation_of_eight_days_is_of_each_date_that_it_touches():
    """As the search sees it: what it lists, a run may use."""
    week = replace(seen("w", "2024-07-05T00:00:00Z", 0.5), lasted=("2024-07-01T00:00:00Z", "2024-07-09T00:00:00Z"))
    assert [ids(s) for s in choose((week,), asked("2024-07-02"), cover).slots] == [["w"]]
    both = choose((week,), asked("2024-07-01,2024-07-08", times=2), cover)
    assert [ids(s) for s in both.slots] == [["w"], ["w"]]
    with pytest.raises(InputError, match="no scene of"):
        choose((week,), asked("2024-07-10"), cover)


def overcast(name, clear, where):
    return replace(seen(name, "2024-07-01T10:00:00Z", clear), bands=()), Seen(
        clear, 1.0, np.packbits(where), 1 - clear, np.packbits(np.ones_like(where)), np.packbits(~where)
    )


def judged(share, others=lambda: ()):
    where = np.zeros(1000, bool)
    where[: round(share * 1000)] = True
    scene, sight = overcast("a", share, where)
    return checked((Slot("2024-07-01", ((scene,),)),), Measured((scene,), {scene.key: sight}, 1000), others)


def test_an_area_under_cloud_is_refused_with_other_dates():
    near = (Near("2024-06-26T10:00:00Z", 12.0, "x"), Near("2024-07-06T10:00:00Z", 100.0, "y"))
    with pytest.raises(InputError) as caught:
        judged(0.0, lambda: near)
    assert caught.value.problem.code == "scenes.cloudy"
    assert "2024-07-01: 0%" in caught.value.detail
    assert "2024-06-26" in caught.value.hint
    assert "2024-07-06" not in caught.value.hint


def test_an_area_that_is_hardly_clear_is_told():
    assert judged(0.5) == ()
    assert "2024-07-01: 2.0% of the area is clear" in judged(0.02)[0]


def test_a_date_whose_masks_could_not_be_read_is_not_judged():
    scene = seen("a", "2024-07-01T10:00:00Z")
    assert checked((Slot("2024-07-01", ((scene,),)),), Measured((scene,), {}, 1000, (("a", "lost"),)), tuple) == ()
