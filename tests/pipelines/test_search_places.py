"""Places by the names of their tiles, against morecantile's inverse, pyproj and recorded Sentinel-2 tiles."""

import morecantile
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from pyproj import Transformer

from pipelines.search.footprint import footprint_of
from pipelines.search.places import read_place
from swathe.errors import AreaError
from tests.pipelines import recorded

WEB = morecantile.tms.get("WebMercatorQuad")


@given(st.integers(0, 20).flatmap(lambda z: st.tuples(st.just(z), *[st.integers(0, 2**z - 1)] * 2)))
def test_a_tile_of_the_web_map_is_found_again(zxy):
    place = read_place("/".join(map(str, zxy)))
    west, south, east, north = place.geometry.bounds
    assert WEB.tile((west + east) / 2, (south + north) / 2, zxy[0]) == morecantile.Tile(zxy[1], zxy[2], zxy[0])


@pytest.mark.parametrize(
    ("name", "epsg", "east", "north", "side"),
    [
        ("33UXP", 32633, 600_000, 5_300_000, 100_000),
        ("T33UXP", 32633, 600_000, 5_300_000, 100_000),
        ("33uxp12", 32633, 610_000, 5_320_000, 10_000),
        ("60KXF", 32760, 600_000, 8_000_000, 100_000),
        ("01CDH1234", 32701, 412_000, 2_734_000, 1_000),
    ],
)
def test_an_mgrs_square_is_that_of_utm(name, epsg, east, north, side):
    """Corners by hand from the grid's letters; the square of 01CDH1234 begins at 2 700 000 north."""
    turn = Transformer.from_crs(epsg, "OGC:CRS84", always_xy=True)
    place = read_place(name).geometry
    for x in (0.01, 0.5, 0.99):
        for y in (0.01, 0.5, 0.99):
            assert place.contains(shapely.Point(turn.transform(east + x * side, north + y * side)))
    for x, y in ((-0.01, 0.5), (1.01, 0.5), (0.5, -0.01), (0.5, 1.01)):
        assert not place.contains(shapely.Point(turn.transform(east + x * side, north + y * side)))


def test_recorded_tiles_hold_their_square(real_data):
    """Sentinel-2's tile is the square and 10 km more; this one is full, and its outline straight on the map."""
    item = recorded.of_collection(real_data, "earth-search", "sentinel-2-l2a")[0]
    square = read_place(item["properties"]["grid:code"].removeprefix("MGRS-")).geometry
    assert square.difference(footprint_of(item)).area < 0.005 * square.area


def test_several_are_joined():
    assert read_place("33UXP, 33UXQ").area_km2 == pytest.approx(20_000, rel=0.001)
    assert read_place("1/0/0,1/1/0").bounds == (-180, 0, 180, pytest.approx(85.0511, abs=1e-3))


@pytest.mark.parametrize("text", ["99UXP", "33UXX", "3/9/0", "25/0/0", "33IXP"])
def test_tiles_that_are_none(text):
    with pytest.raises(AreaError):
        read_place(text)


def test_everything_else_is_an_area_as_before(tmp_path):
    assert read_place("10,45,11,46").bounds == (10, 45, 11, 46)
    (tmp_path / "a.wkt").write_text("POLYGON ((10 45, 11 45, 11 46, 10 45))")
    assert read_place(str(tmp_path / "a.wkt")).geometry.area == pytest.approx(0.5)
