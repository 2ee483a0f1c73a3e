"""A series in time: which days there are, how cloudy each is by itself, on one grid; and the collection that tells."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pystac
import pytest
import shapely
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from pipelines import series
from pipelines.demo import catalogue
from pipelines.mosaic.clear import refuse_cloudier
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.measure import Measured, Seen
from pipelines.mosaic.slots import each_day
from pipelines.products.collection import DayState, Listing
from pipelines.remote.network import Network
from pipelines.search.sources import load_sources
from pipelines.searched import Archive
from swathe.composite import Composite
from swathe.errors import ImageryError, InputError
from swathe.recipe import Recipe, Search
from swathe.scene import Asset, Scene
from tests.pipelines.test_mosaic_slots import JULY, asked, cover, ids
from tests.pipelines.test_searched_run import repainted

SUMMER = "2024-07-01_2024-09-10"
DAYS = [date(2024, 7, 4), date(2024, 7, 14), date(2024, 8, 28), date(2024, 9, 2)]


# --- days -------------------------------------------------------------------------------------------------------------


def test_each_day_is_a_slot_of_its_own():
    found = each_day(JULY, asked("2024-07-01/2024-07-31"), cover)
    assert [one.slots[0].when for one in found] == ["2024-07-01", "2024-07-06", "2024-07-11"]
    assert [ids(one.slots[0]) for one in found] == [["b", "a"], ["c"], ["e", "d"]]  # the clearest first
    assert {one.composite for one in found} == {Composite.NONE}
    latest = each_day(JULY, asked("2024-07", Composite.LATEST), cover)
    assert [ids(one.slots[0]) for one in latest] == [["b", "a"], ["c"], ["e", "d"]]
    assert {one.composite for one in latest} == {Composite.LATEST}


def test_a_day_is_one_by_the_sun_where_the_area_lies():
    """A pass over the antimeridian around midnight UTC."""
    pair = (
        replace(JULY[0], id="a", when="2024-07-01T23:59:50Z"),
        replace(JULY[0], id="b", when="2024-07-02T00:00:10Z"),
    )
    found = each_day(pair, asked("2024-07", lon=180.0), cover)
    assert [one.slots[0].when for one in found] == ["2024-07-02"]


def measured(**states):
    """Scenes of one day; per scene a word: c clear, x cloudy, d dropped for another reason, . no data."""
    mask = Asset("scl", "scl.tif")
    scenes = tuple(Scene(name, "", "2024-07-01T10:00:00Z", shapely.to_wkb(shapely.box(0, 0, 1, 1)), (), mask)
                   for name in states)  # fmt: skip
    seen = {}
    for scene, word in zip(scenes, states.values(), strict=True):
        clear, cloudy, data = (np.isin(list(word), list(letters)) for letters in ("c", "x", "cxd"))
        seen[scene.key] = Seen(clear.mean(), data.mean(), np.packbits(clear), cloudy.mean(), np.packbits(data),
                               np.packbits(cloudy))  # fmt: skip
    return Measured(scenes, seen, len(next(iter(states.values()))))


def test_the_cloud_of_a_day_is_of_what_its_scenes_show_together():
    one = measured(a="ccxxd.....")
    assert one.cloud(one.scenes) == pytest.approx(100 * 2 / 5)
    assert one.cloud(one.scenes) == pytest.approx(one.seen[one.scenes[0].key].cloud)
    two = measured(a="ccxxd.....", b="..cxxxxxxx")  # clear in one is clear; no data in one says nothing
    assert two.cloud(two.scenes) == pytest.approx(100 * 7 / 10)
    assert two.together(two.scenes) == pytest.approx(3 / 10)
    assert measured(a="..........").cloud(measured(a="..........").scenes) == 0
    assert replace(two, seen={}).cloud(two.scenes) is None
    assert two.cloud([replace(scene, mask=None) for scene in two.scenes]) is None


def test_a_day_over_the_limit_is_refused_with_both_numbers():
    refuse_cloudier(30.0, 30.0)
    refuse_cloudier(None, 0.0)
    refuse_cloudier(100.0, None)
    with pytest.raises(ImageryError, match=r"41 % .* more than 30 %") as caught:
        refuse_cloudier(41.2, 30.0)
    assert caught.value.problem.code == "scenes.over_limit"


@pytest.mark.parametrize("transform", [
    (10.0, 0.0, 499_980.0, 0.0, -10.0, 4_600_020.0), (30.0, 0.0, 499_785.0, 0.0, -30.0, -4_600_015.0),
    (8.983152841195215e-05, 0.0, 12.3456, 0.0, -8.983152841195215e-05, -38.7),
])  # fmt: skip
def test_a_frame_is_found_again_in_any_of_its_windows(transform):
    from swathe.window import Window

    frame = Frame.through("EPSG:32633", transform)
    for window in (Window(-7, 3, 5, 5), Window(460_000, -51_234, 100, 100)):
        again = Frame.through(frame.crs, frame.transform(window))
        assert again == frame
        assert again.transform(window) == frame.transform(window)


# --- searched ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def coast(tmp_path_factory):
    return catalogue.write(tmp_path_factory.mktemp("coast"), size=512, seed=5)


@pytest.fixture(scope="session")
def cards(pytestconfig):
    from models.registry import load_cards

    return load_cards((pytestconfig.rootpath / "configs" / "models",))


@pytest.fixture(scope="session")
def look(coast, cards, pytestconfig):
    archive = Archive(load_sources([pytestconfig.rootpath / "configs" / "sources"]), Network())

    def go(source=None, model="water-mndwi", frame=None, dates=SUMMER, **search):
        recipe = Recipe(model, search=Search(str(source or coast.catalog), (dates,), **search), aoi=coast.aoi)
        return recipe, series.look(recipe, cards[model], archive, frame)

    return go


def test_all_days_of_a_search_lie_on_one_grid(look):
    recipe, found = look()
    assert [day.when for day in found.days] == DAYS
    assert {(d.mosaic.crs, d.mosaic.transform, d.mosaic.shape) for d in found.days} == {
        (found.days[0].mosaic.crs, found.days[0].mosaic.transform, found.days[0].mosaic.shape)
    }
    assert [len(day.scenes) for day in found.days] == [2] * 4  # two zones
    assert all(set(day.mosaic.scenes) == set(day.scenes) for day in found.days)
    clouds = [day.cloud for day in found.days]
    assert min(clouds) == clouds[0] < 10 < max(clouds)
    assert all(day.clear + day.cloud / 100 <= 1 + 1e-9 for day in found.days)
    own = series.recipe_of(recipe, found.grid, found.days[1]).search
    assert (own.dates, own.crs, own.res, own.max_cloud) == (("2024-07-14",), found.grid.frame.crs, 10.0, None)


def test_the_limit_on_cloud_is_of_the_day_and_keeps_all_its_scenes(look, coast, tmp_path):
    """One tile of a day all cloud: scene by scene it would be left out, but the day as a whole is under the limit."""
    catalog = repainted(
        coast, tmp_path / "other", lambda path: 9 if "2024-08-28_34" in path or "2024-07-14" in path else 4
    )
    _, found = look(catalog, max_cloud=80)
    left = {day.when: day for day in found.days}
    tile = left[date(2024, 8, 28)]
    assert 0 < tile.cloud < 80
    assert len(tile.mosaic.scenes) == 2
    assert left[date(2024, 7, 14)].mosaic is None
    assert left[date(2024, 7, 14)].problem.code == "scenes.over_limit"
    _, unlimited = look(catalog)
    assert unlimited.days[1].problem.code == "scenes.cloudy"
    assert unlimited.grid == found.grid
    _, strict = look(catalog, max_cloud=tile.cloud / 2)
    assert [day.mosaic is None for day in strict.days] == [False, True, True, False]
    assert strict.grid == found.grid  # whatever is left out


def test_a_frame_that_is_there_is_kept(look):
    _, found = look()
    frame = Frame("EPSG:32634", 20.0, (0.5, 0.25))
    _, again = look(frame=frame)
    assert again.grid.frame == frame
    assert {day.mosaic.crs for day in again.days} == {"EPSG:32634"}
    assert found.grid.frame != frame


def test_what_has_no_days_is_refused(look, coast):
    with pytest.raises(InputError) as caught:
        look(model="burn-dnbr", dates="2024-07,2024-08")
    assert caught.value.problem.code == "when.each"
    with pytest.raises(InputError) as caught:
        series.asked(Recipe("water-mndwi", ("a.tif",)))
    assert caught.value.problem.code == "search.source"


# --- the collection ---------------------------------------------------------------------------------------------------


def test_a_series_is_known_again_whatever_its_dates(look):
    recipe, _ = look()
    other = replace(recipe, search=replace(recipe.search, dates=("2023",), max_cloud=5.0))
    assert series.asked(other) == series.asked(recipe)
    for change in ({"source": "x"}, {"crs": "EPSG:32634"}, {"res": 20.0}, {"composite": Composite.BEST}):
        assert series.asked(replace(recipe, search=replace(recipe.search, **change))) != series.asked(recipe)
    assert series.asked(replace(recipe, aoi="1,2,3,4")) != series.asked(recipe)


def test_the_collection_is_stac_and_is_read_back(look, cards):
    recipe, found = look(max_cloud=30)
    listing = series.listing_of(found, recipe, cards["water-mndwi"])
    first, *_ = listing.entries.values()
    done = replace(first, state=DayState.DONE, valid_fraction=0.9)
    listing = replace(listing, entries={**listing.entries, first.day: done})
    text = listing.document()
    assert Listing.read(text) == listing
    document = json.loads(text)
    JsonSchemaSTACValidator().validate_core(document, pystac.STACObjectType.COLLECTION, "1.1.0")
    assert [link["href"] for link in document["links"] if link["rel"] == "item"] == ["./2024-07-04/item.json"]
    states = {day["day"]: day["state"] for day in document["swathe:days"]}
    assert set(states) == {day.isoformat() for day in DAYS}
    assert "left_out" in states.values()
    assert all(day["why"] for day in document["swathe:days"] if day["state"] == "left_out")
    assert document["extent"]["temporal"]["interval"] == [["2024-07-04T09:45:31Z", "2024-09-02T09:45:37Z"]]


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"swathe:grid": 3}', b'{"swathe:days": [{"day": "x"}]}', b"\xff"]
)
def test_what_is_no_collection_of_ours_is_none(text):
    assert Listing.read(text) is None
