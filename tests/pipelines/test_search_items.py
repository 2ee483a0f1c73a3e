"""Recorded items of public services, read by the shipped cards; footprints, grids, addresses, duplicates."""

import copy
import json
import posixpath
from urllib.parse import urlsplit

import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.search.duplicates import acquisition_of, newest
from pipelines.search.footprint import footprint_of
from pipelines.search.grids import grid_of
from pipelines.search.items import resolved, scene_of, timed
from pipelines.search.radiometry import Unclear
from swathe.source import SourceCard
from tests.pipelines import recorded

# (card, service and collection of the recording, EPSG, pixels of the first band)
MAPPINGS = [
    ("earth-search-s2-l2a", "earth-search", "sentinel-2-l2a", "EPSG:32613", (1830, 1830)),
    ("pc-s2-l2a", "planetary-computer", "sentinel-2-l2a", "EPSG:32606", (1830, 1830)),
    ("pc-naip", "planetary-computer", "naip", None, None),
    ("usgs-landsat-c2-l2", "usgs", "landsat-c2l2-sr", "EPSG:32615", (8041, 7931)),
    ("pc-landsat-c2-l2", "earth-search", "landsat-c2-l2", "EPSG:32613", None),
    ("lpdaac-hls-l30", "lpdaac", "HLSL30.v1.5", None, None),
    ("pc-hls-l30", "lpdaac", "HLSL30.v1.5", None, None),
    ("pc-landsat-c2-l2", "stactools", "landsat-c2-l2", None, None),
]


@pytest.mark.parametrize(("name", "service", "collection", "crs", "shape"), MAPPINGS)
def test_shipped_mappings_match_recorded_items(name, service, collection, crs, shape, real_data):
    card = recorded.shipped_cards()[name]
    items = recorded.of_collection(real_data, service, collection)
    assert items
    for item in items:
        scene = scene_of(item, card, (), "https://x.example/items/a.json")
        assert [b.name for b in scene.bands] == list(card.bands)
        assert (scene.mask is None) == (card.mask is None)
        for band in scene.bands:
            said = item["assets"][card.bands[band.name].asset]
            assert posixpath.basename(urlsplit(band.href).path) == posixpath.basename(urlsplit(said["href"]).path)
            common = [b.get("common_name") for b in said.get("eo:bands", [])]
            if common and common[band.index - 1] and not common[band.index - 1].startswith("rededge"):
                assert common[band.index - 1] == band.name
        if crs:
            assert scene.crs == crs
        if shape:
            assert scene.bands[0].grid.shape == shape


def test_every_shipped_card_is_whole():
    """Each says where it is documented, under which licence, and a search collection where it is an API."""
    cards = recorded.shipped_cards()
    assert len(cards) >= 15
    for card in cards.values():
        assert card.licence
        assert card.documentation
        assert card.collection or card.kind.value != "stac"
        assert card.mask is None or not card.mask.asset or card.mask.asset not in {b.asset for b in card.bands.values()}


def test_landsat_is_read_from_s3_where_the_reader_pays(real_data):
    item = recorded.of_collection(real_data, "usgs", "landsat-c2l2-sr")[0]
    scene = scene_of(item, recorded.shipped_cards()["usgs-landsat-c2-l2"], ("red",))
    assert scene.bands[0].href.startswith("s3://usgs-landsat/collection02/")
    assert scene.mask.href.startswith("s3://usgs-landsat/collection02/")
    assert scene.mask.resampling == "nearest"


def test_naip_bands_are_places_in_one_file(real_data):
    item = recorded.of_collection(real_data, "planetary-computer", "naip")[0]
    scene = scene_of(item, recorded.shipped_cards()["pc-naip"], ("nir", "red"))
    assert [(b.name, b.index) for b in scene.bands] == [("nir", 4), ("red", 1)]
    assert len({b.href for b in scene.bands}) == 1
    assert scene.cloud is None


def test_a_scene_of_sentinel2(real_data):
    """Field by field, against the document read by eye."""
    item = recorded.of_collection(real_data, "planetary-computer", "sentinel-2-l2a")[0]
    scene = scene_of(item, recorded.shipped_cards()["pc-s2-l2a"], ("swir16", "red"))
    assert (scene.id, scene.when) == (item["id"], "2019-06-29T21:25:29.024000Z")
    assert scene.cloud == 0.314306
    assert scene.platform == "Sentinel-2B"
    assert scene.bands[0].grid.transform == (20.0, 0.0, 399960.0, 0.0, -20.0, 6800040.0)
    assert scene.bands[1].grid.shape == (10980, 10980)
    assert scene.href == next(link["href"] for link in item["links"] if link["rel"] == "self")


# --- what is left out -------------------------------------------------------------------------------------------------


def lacking(item, change):
    changed = copy.deepcopy(item)
    change(changed)
    return changed


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda i: i["assets"].pop("B04"), r"lacks the asset B04 \(red\)"),
        (lambda i: i["assets"].pop("SCL"), r"lacks the asset SCL \(scl\)"),
        (lambda i: i["assets"]["B04"].pop("href"), "lacks the asset B04"),
        (lambda i: i["assets"]["B04"].update(type="application/x-hdf"), "application/x-hdf, which is not read"),
        (lambda i: i["assets"]["B04"].update(href="/vsicurl/http://x/a.tif"), "no address"),
        (lambda i: i["assets"]["B04"].update(href="file:///etc/passwd"), "on this machine"),
        (lambda i: i["assets"]["B04"].update(href="gs://bucket/a.tif"), "gs: is no address"),
        (lambda i: i.update(geometry=None, bbox=None), "no usable geometry"),
        (lambda i: i.update(geometry={"type": "Polygon", "coordinates": "x"}, bbox=[1, 2]), "no usable geometry"),
        (lambda i: i["properties"].update(datetime=None), "when it was acquired"),
        (lambda i: i["properties"].update(datetime="soon"), "when it was acquired"),
        (lambda i: i.update(assets=[]), "no STAC item"),
        (lambda i: i.update(id=""), "no STAC item"),
    ],
)
def test_what_an_item_lacks_is_named(change, why, real_data):
    item = recorded.of_collection(real_data, "planetary-computer", "sentinel-2-l2a")[0]
    with pytest.raises(Unclear, match=why):
        scene_of(lacking(item, change), recorded.shipped_cards()["pc-s2-l2a"], ("red",))


def test_a_band_beyond_the_file_is_named(real_data):
    item = recorded.of_collection(real_data, "planetary-computer", "naip")[0]
    card = recorded.shipped_cards()["pc-naip"]
    bands = {**card.bands, "nir": card.bands["nir"].model_copy(update={"index": 5})}
    with pytest.raises(Unclear, match="has 4 bands, nir would be band 5"):
        scene_of(item, card.model_copy(update={"bands": bands}), ("nir",))


def ring(*corners):
    return {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)


PLACES = [
    ("id",), ("geometry",), ("bbox",), ("properties",), ("assets",), ("links",), ("collection",),
    ("properties", "datetime"), ("geometry", "coordinates"), ("geometry", "type"), ("assets", "red"),
    ("assets", "red", "href"), ("assets", "red", "type"), ("assets", "red", "bands"), ("assets", "red", "raster:bands"),
    ("assets", "red", "alternate"), ("properties", "proj:epsg"), ("properties", "proj:code"),
    ("properties", "proj:wkt2"), ("properties", "eo:cloud_cover"), ("properties", "proj:transform"),
    ("properties", "proj:shape"), ("properties", "s2:processing_baseline"),
]  # fmt: skip


@settings(max_examples=300)
@given(key=st.sampled_from(PLACES), junk=JUNK)
def test_any_malformed_item_is_left_out_or_read(key, junk):
    item = {
        "id": "a", "collection": "c", "geometry": ring([0, 0], [1, 0], [1, 1]), "bbox": [0, 0, 1, 1],
        "properties": {"datetime": "2024-01-01T00:00:00Z", "s2:processing_baseline": "05.00"}, "links": [],
        "assets": {"red": {"href": "https://x/a.tif"}},
    }  # fmt: skip
    home = item
    for word in key[:-1]:
        home = home[word]
    home[key[-1]] = junk
    try:
        answer = scene_of(item, SIMPLE, ())
    except Unclear as reason:
        answer = str(reason)
    assert answer


SIMPLE = SourceCard.model_validate({
    "id": "some", "title": "x", "kind": "stac", "url": "https://x", "bands": {"red": {"asset": "red"}},
    "radiometry": {"rule": "sentinel2", "provider": "as-processed"}, "auth": {"kind": "s3"},
})  # fmt: skip


# --- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("href", "home", "expected"),
    [
        ("./a.tif", "https://x/y/item.json", "https://x/y/a.tif"),
        ("../b/a.tif", "https://x/y/item.json", "https://x/b/a.tif"),
        ("/a.tif", "https://x/y/item.json", "https://x/a.tif"),
        ("a.tif", "s3://bucket/y/item.json", "s3://bucket/y/a.tif"),
        ("../../../../etc/passwd", "https://x/y/item.json", "https://x/etc/passwd"),
        ("a%20b.tif", "/data/y/item.json", "/data/y/a%20b.tif"),
        ("../a.tif", "/data/y/item.json", "/data/a.tif"),
        ("/other/a.tif", "/data/y/item.json", "/other/a.tif"),
        ("file:///other/a%20b.tif", "/data/y/item.json", "/other/a b.tif"),
        ("https://x/a.tif?sig=1", "/data/item.json", "https://x/a.tif?sig=1"),
        ("S3://bucket/a.tif", "", "S3://bucket/a.tif"),
    ],
)
def test_addresses_count_from_their_document(href, home, expected):
    assert resolved(href, home) == expected


@pytest.mark.parametrize(
    ("href", "home"),
    [("file:///etc/passwd", "https://x/i.json"), ("/vsizip/a.zip", "/data/i.json"), ("ftp://x/a", ""), ("a.tif", "")],
)
def test_addresses_that_are_none(href, home):
    with pytest.raises(Unclear):
        resolved(href, home)


# --- footprints, grids ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "bounds_of_parts"),
    [
        ({"geometry": ring([10, 45], [11, 45], [11, 46], [10, 46])}, [(10, 45, 11, 46)]),
        # jumps from 179 to -179 without being cut, as catalogues write it
        ({"geometry": ring([179, -17], [-179, -17], [-179, -16], [179, -16])},
         [(-180, -17, -179, -16), (179, -17, 180, -16)]),
        # runs on past 180
        ({"geometry": ring([179, -17], [181, -17], [181, -16], [179, -16])},
         [(-180, -17, -179, -16), (179, -17, 180, -16)]),
        # only a bbox, reversed over the antimeridian; with heights
        ({"bbox": [179, -17, -179, -16]}, [(-180, -17, -179, -16), (179, -17, 180, -16)]),
        ({"bbox": [10, 45, 0, 11, 46, 100], "geometry": None}, [(10, 45, 11, 46)]),
        # around a pole, of which only the rim is told
        ({"geometry": ring([-135, 84], [-45, 85], [45, 84], [135, 84])}, [(-180, 84, 180, 90)]),
        ({"geometry": ring([-90, -84], [-180, -85], [90, -84], [0, -84])}, [(-180, -90, 180, -84)]),
    ],
)  # fmt: skip
def test_footprints_are_cut_at_the_antimeridian(item, bounds_of_parts):
    found = footprint_of(item)
    parts = sorted(tuple(round(v, 9) for v in p.bounds) for p in shapely.get_parts(found))
    assert parts == bounds_of_parts


PROJECTED = {"proj:transform": [10, 0, 300000, 0, -10, 5000000], "proj:shape": [100, 200]}


@pytest.mark.parametrize(
    ("properties", "asset", "expected"),
    [
        ({"proj:epsg": 32633}, PROJECTED, ("EPSG:32633", 300000, (100, 200))),
        ({"proj:code": "EPSG:32633", **PROJECTED}, {}, ("EPSG:32633", 300000, (100, 200))),
        ({}, {"proj:code": "EPSG:32633", **PROJECTED}, ("EPSG:32633", 300000, (100, 200))),
        ({"proj:epsg": 4326}, {"proj:code": "EPSG:32633", **PROJECTED}, ("EPSG:32633", 300000, (100, 200))),
        ({"proj:epsg": 32633}, {"proj:shape": [100, 200], "proj:bbox": [300000, 4999000, 302000, 5000000]},
         ("EPSG:32633", 300000, (100, 200))),
        ({"proj:epsg": 32633, **PROJECTED, "proj:transform": [10, 0, 300000, 0, -10, 5000000, 0, 0, 1]}, {},
         ("EPSG:32633", 300000, (100, 200))),
        ({"proj:epsg": 32633}, {}, None),
        ({"proj:epsg": None}, PROJECTED, None),
        ({"proj:epsg": 32633}, {**PROJECTED, "proj:transform": [10, 1, 0, 0, -10, 0]}, None),
        ({"proj:epsg": 32633}, {**PROJECTED, "proj:transform": [10, 0, 0, 0, 10, 0]}, None),
        ({"proj:epsg": 32633}, {**PROJECTED, "proj:shape": [0, 5]}, None),
        ({"proj:code": "EPSG:1"}, PROJECTED, None),
    ],
)  # fmt: skip
def test_grids(properties, asset, expected):
    found = grid_of({"properties": properties}, asset)
    got = found and (found.crs, found.transform[2], found.shape)
    assert got == expected


@pytest.mark.parametrize(
    ("epsg", "bbox", "believed"),
    [
        (32632, [8.0, 47.0, 9.5, 48.1], True),
        (32732, [8.0, 47.0, 9.5, 48.1], False),  # the same northing is 42 degrees south there
        (32732, [7.0, -43.5, 9.0, -42.4], True),
        (32632, [8.0, 47.0, 0.0, 9.5, 48.1, 900.0], True),
        (32732, [8.0, 47.0, 0.0, 9.5, 48.1, 900.0], False),
        (32732, None, True),
        (32732, [8.0, "x", 9.5, 48.1], True),
    ],
)
def test_a_grid_of_the_other_hemisphere_is_not_believed(epsg, bbox, believed):
    """As items of HLS have it: the right numbers under the wrong zone."""
    grid = {"proj:epsg": epsg, "proj:shape": [3660, 3660], "proj:transform": [30, 0, 399960, 0, -30, 5300040]}
    found = grid_of({"properties": grid, "bbox": bbox}, {})
    assert (found is not None) is believed


def test_a_grid_without_a_code_is_wkt():
    """MODIS: sinusoidal, by WKT2."""
    from pyproj import CRS

    wkt = CRS.from_proj4("+proj=sinu +R=6371007.181 +units=m +no_defs").to_wkt()
    found = grid_of({"properties": {"proj:epsg": None, "proj:wkt2": wkt, **PROJECTED}}, {})
    assert CRS(found.crs).coordinate_operation.method_name == "Sinusoidal"
    assert found.crs.startswith("PROJCRS")


def test_time_of_what_lasts_is_its_middle():
    week = {
        "properties": {
            "datetime": None,
            "start_datetime": "2024-07-01T00:00:00Z",
            "end_datetime": "2024-07-09T00:00:00Z",
        }
    }
    assert timed(week).middle == "2024-07-05T00:00:00Z"
    assert timed(week).ends == ("2024-07-01T00:00:00Z", "2024-07-09T00:00:00Z")
    assert timed({"properties": {"datetime": "2024-07-01T00:00:00Z"}}).ends is None


# --- processed again --------------------------------------------------------------------------------------------------


def processed(item, number, **properties):
    changed = copy.deepcopy(item)
    changed["id"] = f"{item['id']}-{number}"
    changed["properties"] |= properties
    return changed, "https://x"


def test_the_newest_processing_of_sentinel2_is_kept(real_data):
    item = recorded.of_collection(real_data, "planetary-computer", "sentinel-2-l2a")[0]
    strip = "S2B_OPER_MSI_L2A_DS_S2RP_20230101T000000_S{}_N05.00"
    old = processed(item, 1)
    new = processed(item, 2, **{
        "s2:processing_baseline": "05.00", "s2:datatake_id": "GS2B_20190629T212529_012081_N05.00",
        "s2:datastrip_id": strip.format("20190629T212528"),
    })  # fmt: skip
    newer = processed(item, 3, **{**new[0]["properties"], "s2:generation_time": "2024-01-01T00:00:00Z"})
    part = processed(item, 4, **{**new[0]["properties"], "s2:datastrip_id": strip.format("20190629T213129")})
    tile = processed(item, 5, **{"s2:mgrs_tile": "06VWN"})
    kept, left_out = newest([old, newer, new, part, tile])
    assert sorted(i["id"][-1] for i, _ in kept) == ["3", "4", "5"]
    assert {one.id[-1] for one in left_out} == {"1", "2"}
    assert all("processed again since" in one.reason and newer[0]["id"] in one.reason for one in left_out)


def test_the_better_tier_of_landsat_is_kept():
    def landsat(name, tier):
        return {"id": name, "properties": {"datetime": "2024-01-14T17:05:46Z", "landsat:collection_category": tier}}, ""

    kept, left_out = newest([
        landsat("LC08_L2SP_028030_20240114_20240120_02_RT", "RT"),
        landsat("LC08_L2SP_028030_20240114_20240128_02_T1", "T1"),
        landsat("LC09_L2SP_028030_20240114_20240128_02_T1", "T1"),
    ])  # fmt: skip
    assert sorted(i["id"][:4] for i, _ in kept) == ["LC08", "LC09"]
    assert [one.id[-2:] for one in left_out] == ["RT"]


def test_one_acquisition_has_one_name_in_all_archives(real_data):
    """Earth Search, the Planetary Computer and a product's name tell the same."""
    item = recorded.of_collection(real_data, "earth-search", "sentinel-2-l2a")[0]
    assert acquisition_of(item) == ("S2A", "20231008T175231", "13TDE")
    named = {"id": item["properties"]["s2:product_uri"].removesuffix(".SAFE"), "properties": {}}
    assert acquisition_of(named) == ("S2A", "20231008T175231", "13TDE")
    assert acquisition_of(recorded.of_collection(real_data, "planetary-computer", "naip")[0]) is None


def test_items_with_nothing_in_common_are_all_kept(real_data):
    some = [(i, "") for i in recorded.items(real_data)["lpdaac"]]
    kept, left_out = newest(some)
    assert json.dumps(sorted(i["id"] for i, _ in kept)) == json.dumps(sorted(i["id"] for i, _ in some))
    assert not left_out
