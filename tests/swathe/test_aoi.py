"""Areas as people write them: read, repaired, cut at the antimeridian, or refused by name."""

from __future__ import annotations

import json
import math
import pickle

import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Geod

from swathe.aoi import AOI, ellipsoid_km2
from swathe.errors import AreaError

EARTH_KM2 = 510_065_621.724


def band_km2(south: float, north: float) -> float:
    """Closed form: area between two parallels of the WGS84 ellipsoid, all the way round."""
    a, f = 6378.137, 1 / 298.257223563
    e = math.sqrt(f * (2 - f))

    def q(lat: float) -> float:
        s = math.sin(math.radians(lat))
        return s / (1 - (e * s) ** 2) + math.atanh(e * s) / e

    return math.pi * (a * (1 - f)) ** 2 * (q(north) - q(south))


@pytest.mark.parametrize("text", ["10,45,11,46", " 10, 45 ,11 ,46 ", "10 45 11 46", "1e1,45.0,+11,46."])
def test_a_box_in_its_spellings(text):
    aoi = AOI.parse(text)
    assert aoi.bounds == (10, 45, 11, 46)
    assert not aoi.crosses
    assert aoi.area_km2 == pytest.approx(band_km2(45, 46) / 360, rel=1e-6)


@given(
    st.floats(-179, 178).map(lambda x: round(x, 3)), st.floats(-89, 88).map(lambda x: round(x, 3)),
    st.floats(0.01, 1), st.floats(0.01, 1),
)  # fmt: skip
def test_a_box_has_the_area_between_its_parallels(west, south, width, height):
    aoi = AOI.parse(f"{west},{south},{west + width},{south + height}")
    assert aoi.area_km2 == pytest.approx(band_km2(south, south + height) * width / 360, rel=1e-5)


def test_the_whole_earth():
    assert AOI.parse("-180,-90,180,90").area_km2 == pytest.approx(EARTH_KM2, rel=1e-6)
    assert AOI.parse("-180,-90,180,0").area_km2 == pytest.approx(EARTH_KM2 / 2, rel=1e-6)


@pytest.mark.parametrize("text", ["179,-1,-179,1", "179,-1,181,1", "-181,-1,-179,1",
                                  "POLYGON((179 -1,181 -1,181 1,179 1,179 -1))"])  # fmt: skip
def test_across_the_antimeridian_it_is_cut_there(text):
    aoi = AOI.parse(text)
    assert aoi.crosses
    assert aoi.bounds == (179, -1, -179, 1)
    assert aoi.geometry.equals(shapely.box(179, -1, 180, 1).union(shapely.box(-180, -1, -179, 1)))
    assert aoi.area_km2 == pytest.approx(AOI.parse("0,-1,2,1").area_km2, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "swapped", "wide", "degrees"),
    [
        ("13.6,52.4,13.2,52.6", "13.2,52.4,13.6,52.6", "-346.4,52.4,13.2,52.6", 359.6),
        ("-70,-5,-80,5", "-80,-5,-70,5", "-70,-5,280,5", 350),
        ("0,-5,-179,5", "-179,-5,0,5", "-360,-5,-179,5", 181),
    ],
)
def test_longitudes_that_were_swapped_are_told_with_what_would_be_right(text, swapped, wide, degrees):
    with pytest.raises(AreaError) as caught:
        AOI.parse(text)
    assert caught.value.problem.code == "area.reversed"
    assert f"{swapped}, or {wide}" in caught.value.hint
    south, north = (float(text.split(",")[n]) for n in (1, 3))
    assert AOI.parse(swapped).area_km2 == pytest.approx(band_km2(south, north) * (1 - degrees / 360), rel=1e-5)
    assert AOI.parse(wide).area_km2 == pytest.approx(band_km2(south, north) * degrees / 360, rel=1e-5)


def test_a_box_reaches_half_way_round_across_the_antimeridian():
    assert AOI.parse("0,-1,-180,1").area_km2 == pytest.approx(band_km2(-1, 1) / 2, rel=1e-5)
    assert AOI.parse("1,-1,-179.5,1").crosses


def test_longitudes_from_0_to_360_are_turned():
    assert AOI.parse("350,0,355,1").bounds == (-10, 0, -5, 1)


def test_a_hole_is_no_area():
    ring = "POLYGON((0 0,4 0,4 4,0 4,0 0),(1 1,3 1,3 3,1 3,1 1))"
    whole, hole = AOI.parse("0,0,4,4").area_km2, AOI.parse("1,1,3,3").area_km2
    assert AOI.parse(ring).area_km2 == pytest.approx(whole - hole, rel=1e-6)


def square(lon: float, lat: float) -> dict:
    return shapely.geometry.mapping(shapely.box(lon, lat, lon + 1, lat + 1))


def test_geojson_in_its_three_forms_and_with_parts_that_overlap():
    feature = {"type": "Feature", "properties": {}, "geometry": square(0, 0)}
    other = {"type": "Feature", "properties": {}, "geometry": square(0.5, 0)}
    empty = {"type": "Feature", "properties": {}, "geometry": None}
    collection = {"type": "FeatureCollection", "features": [feature, other, empty]}
    assert AOI.parse(json.dumps(square(0, 0))).bounds == (0, 0, 1, 1)
    assert AOI.parse(json.dumps(feature)).bounds == (0, 0, 1, 1)
    both = AOI.parse(json.dumps(collection))
    assert both.geometry.geom_type == "Polygon"
    assert both.area_km2 == pytest.approx(AOI.parse("0,0,1.5,1").area_km2, rel=1e-6)


def test_what_crosses_itself_is_repaired():
    bow = AOI.parse("POLYGON((0 0,1 1,1 0,0 1,0 0))")
    assert bow.geometry.is_valid
    assert bow.geometry.area == pytest.approx(0.5)


def test_height_is_dropped():
    assert not AOI.parse("POLYGON Z((0 0 5,1 0 5,1 1 5,0 0 5))").geometry.has_z


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "area.unreadable"),
        ("here", "area.unreadable"),
        ("1,2,3", "area.unreadable"),
        ("nan,0,1,1", "area.unreadable"),
        ("1,1,0,0", "area.reversed"),
        ("0,50,1,49", "area.reversed"),
        ("13.6,52.4,13.2,52.6", "area.reversed"),
        ("-170,0,-175,1", "area.reversed"),
        ("5,45,5,46", "area.empty"),
        ("46,120,47,121", "area.latitude"),
        ("0,0,400,1", "area.longitude"),
        ("190,0,-190,1", "area.longitude"),
        ("-400,0,-410,1", "area.longitude"),
        ("POLYGON EMPTY", "area.empty"),
        ("POLYGON((0 0,1 1,0 0))", "area.empty"),
        ("POLYGON((0 0,1 1,2 2,0 0))", "area.empty"),
        ("POINT(1 2)", "area.not_polygon"),
        ("LINESTRING(0 0,1 1)", "area.not_polygon"),
        ("GEOMETRYCOLLECTION(POLYGON((0 0,1 0,1 1,0 0)),POINT(0 0))", "area.not_polygon"),
        ("POLYGON((0 0,1 0", "area.unreadable"),
        ("SRID=32632;POLYGON((0 0,1 0,1 1,0 0))", "area.crs"),
        ("POLYGON((179 0,-179 0,-179 1,179 1,179 0))", "area.antimeridian"),
        ("MULTIPOLYGON(((179 0,-179 0,-179 1,179 1,179 0)),((0 0,1 0,1 1,0 0)))", "area.antimeridian"),
        ("{", "area.unreadable"),
        ("{}", "area.unreadable"),
        ('{"type":"Polygon"}', "area.unreadable"),
        ('{"type":"Polygon","coordinates":[[[0,0],[1,NaN],[1,1],[0,0]]]}', "area.unreadable"),
        ('{"type":"FeatureCollection","features":[]}', "area.empty"),
        ('{"type":"FeatureCollection","features":[7]}', "area.unreadable"),
        ('{"type":"Point","coordinates":[0,0]}', "area.not_polygon"),
        ('{"type":"Polygon","crs":{"properties":{"name":"EPSG:3857"}},"coordinates":[]}', "area.crs"),
        ('{"a":' * 3000, "area.unreadable"),
        ('{"type":"FeatureCollection","features":5}', "area.unreadable"),
        ('{"type":"Feature","geometry":{"type":"FeatureCollection","features":{"a":1}}}', "area.unreadable"),
    ],
)
def test_what_is_no_area_is_refused_by_name(text, code):
    with pytest.raises(AreaError) as caught:
        AOI.parse(text)
    assert caught.value.problem.code == code
    assert caught.value.hint
    assert caught.value.field == "--aoi"
    assert "\n" not in caught.value.problem.line()


def test_an_outline_that_crosses_itself_all_over_is_refused_before_it_is_repaired():
    """Each edge across the whole: millions of crossings, and every one would become a corner."""
    ends = [(n / 4000, n % 2) for n in range(4000)]
    shuffled = [ends[n * 1777 % 4000] for n in range(4000)]
    with pytest.raises(AreaError, match="all over") as caught:
        AOI.parse(shapely.Polygon(shuffled).wkt)
    assert caught.value.problem.code == "area.unreadable"


def test_a_long_outline_with_a_few_crossings_is_repaired():
    ring = [(10 + math.cos(2 * math.pi * n / 20_000), 45 + math.sin(2 * math.pi * n / 20_000)) for n in range(20_000)]
    ring[5000], ring[5001] = ring[5001], ring[5000]
    assert not shapely.Polygon(ring).is_valid
    assert AOI.parse(shapely.Polygon(ring).wkt).geometry.is_valid


def test_it_travels():
    aoi = AOI.parse("179,-1,-179,1")
    assert pickle.loads(pickle.dumps(aoi)) == aoi


@given(st.floats(-170, 170), st.floats(-80, 80), st.floats(0.001, 5), st.integers(3, 12))
def test_small_polygons_agree_with_the_geodesic_area(lon, lat, size, corners):
    """Edges straight on the map and geodesic ones are the same thing where an area is small."""
    angles = [2 * math.pi * i / corners for i in range(corners)]
    ring = shapely.Polygon([(lon + 0.001 * size * math.cos(t), lat + 0.001 * size * math.sin(t)) for t in angles])
    geodesic = abs(Geod(ellps="WGS84").geometry_area_perimeter(ring)[0]) / 1e6
    assert ellipsoid_km2(ring) == pytest.approx(geodesic, rel=1e-4, abs=1e-8)
