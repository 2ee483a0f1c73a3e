"""Whole runs at and near the poles, on scenes in polar grids, in degrees and in UTM, against the scenes' own pixels."""

import json

import numpy as np
import pytest
import rasterio
import shapely
from pyproj import Transformer
from scipy.ndimage import map_coordinates

from swathe.aoi import AOI
from swathe.state import State
from tests.pipelines.scenes import Place, centres
from tests.pipelines.test_searched_run import (  # noqa: F401  fixtures
    bands_of,
    coast,
    collected,
    rippled,
    searched_run,
    sources,
    water,
)

WHEN = "2024-07-01T12:00:00Z"
DAY = ("2024-07-01",)


def waves(lon, lat, band):
    """A field over the plane through a pole, which knows no longitude there: waves of 40 to 60 km, about 1000..9000."""
    far = np.radians(90 - np.abs(lat)) * 6371
    east, south = far * np.sin(np.radians(lon)), far * np.cos(np.radians(lon))
    return 5000 + 2500 * np.sin(east / (6 + band)) + 1500 * np.cos(south / (7 + band))


@pytest.fixture(scope="session")
def ndvi(pytestconfig):
    from models.registry import load_cards

    return load_cards((pytestconfig.rootpath / "configs" / "models",))["vegetation-ndvi"]


@pytest.fixture
def mapped(searched_run, ndvi, tmp_path):  # noqa: F811
    """``mapped(*items, aoi=…)`` runs NDVI over them: (values, transform, crs, outcome, folder)."""

    def go(*items, aoi, **search):
        out = tmp_path / "out"
        outcome, _ = searched_run(out, card=ndvi, source=collected(tmp_path, *items), aoi=aoi, dates=DAY, **search)
        assert outcome.state is State.DONE
        (values,), transform, crs = bands_of(out / "result.tif")
        return values, tuple(transform)[:6], crs.to_string(), outcome, out

    return go


def stored(folder, name, band, place, at):
    """A band of a scene under a window of its own grid: ``at`` is (transform, shape)."""
    transform, (rows, cols) = at
    col, row = (transform[2] - place.x) / place.res, (place.y - transform[5]) / place.res
    assert [col, row] == pytest.approx([round(col), round(row)], abs=1e-6)
    with rasterio.open(folder / name / f"{band}.tif") as file:
        return file.read(1)[round(row) :, round(col) :][:rows, :cols].astype(float)


def index_of(nir, red):
    return (nir - red) / (nir + red)


def rim_of(place):
    """The outline of a scene around a pole as many catalogues write it: from corner to corner, the pole not told."""
    xs, ys = (np.array([v, v + n * d]) for v, n, d in ((place.x, place.shape[1], place.res),
                                                       (place.y, place.shape[0], -place.res)))  # fmt: skip
    lon, lat = Transformer.from_crs(place.crs, "OGC:CRS84", always_xy=True).transform(
        xs[[0, 1, 1, 0]], ys[[0, 0, 1, 1]]
    )
    return shapely.Polygon(np.column_stack([lon, lat]))


@pytest.mark.parametrize(("crs", "sign"), [("EPSG:3413", 1), ("EPSG:3031", -1)])
@pytest.mark.parametrize("cut", [False, True], ids=["rim", "cut"])
def test_a_scene_with_the_pole_in_it_is_mapped_on_its_own_grid(mapped, tmp_path, crs, sign, cut):
    """All around the pole, whether its catalogue drew the scene up to the pole or only told its corners."""
    place = Place(crs, -30_010.0, 31_040.0, 100.0, (600, 620))
    around = shapely.box(-180, 89.6, 180, 90) if sign > 0 else shapely.box(-180, -90, 180, -89.6)
    item = rippled(tmp_path, "pole", WHEN, place, field=waves, around=around if cut else rim_of(place))
    south, north = sorted((89.8 * sign, 90 * sign))
    values, transform, found, outcome, out = mapped(item, aoi=f"-180,{south},180,{north}")
    assert found == crs
    lon, lat = centres(crs, transform, values.shape)
    inside = np.abs(lat) >= 89.8
    assert (np.isfinite(values) != inside).mean() < 1e-3  # the rim is drawn with straight pieces
    own = {band: stored(tmp_path, "pole", band, place, (transform, values.shape)) for band in ("nir08", "red")}
    both = np.isfinite(values) & inside
    np.testing.assert_allclose(values[both], index_of(own["nir08"], own["red"])[both], atol=1e-6)
    np.testing.assert_allclose(own["red"], waves(lon, lat, 2), atol=0.51)  # the pixels are those of the place
    assert np.isfinite(values[np.abs(lat) > 89.999]).all()

    aoi = AOI.parse(f"-180,{south},180,{north}")
    assert outcome.report["estimate"]["area_km2"] == pytest.approx(aoi.area_km2, rel=2e-3)
    assert not [text for text in outcome.report["warnings"] if "of the area" in text]
    described = json.loads((out / "item.json").read_text())
    shape = shapely.geometry.shape(described["geometry"])
    assert shape.is_valid
    low, high = sorted((89.85 * sign, 89.99 * sign))
    assert shape.covers(shapely.box(-179.9, low, 179.9, high))


def test_four_tiles_that_meet_at_the_pole_are_one_map(mapped, tmp_path):
    """As archives in polar grids cut the Arctic and the Antarctic; the pole is a corner of each."""
    items, edge = [], 40_000
    for name, x, y, west in (("ne", 0, edge, 0), ("se", 0, 0, 90), ("sw", -edge, 0, -180), ("nw", -edge, edge, -90)):
        place = Place("EPSG:3031", float(x), float(y), 100.0, (400, 400))
        around = shapely.box(west, -90, west + 90, -89.5)
        items.append(rippled(tmp_path, name, WHEN, place, field=waves, around=around))
    values, transform, crs, _, out = mapped(*items, aoi="-180,-90,180,-89.75")
    assert crs == "EPSG:3031"
    lon, lat = centres(crs, transform, values.shape)
    inside = lat <= -89.75
    assert (np.isfinite(values) != inside).mean() < 1e-3
    nir, red = (np.floor(waves(lon, lat, band) + 0.5) for band in (3, 2))
    both = np.isfinite(values) & inside
    np.testing.assert_allclose(values[both], index_of(nir, red)[both], atol=1e-6)
    (number, clear), *_ = bands_of(out / "observations.tif")
    assert set(np.unique(number[both])) == {1, 2, 3, 4}
    assert set(np.unique(clear[both])) == {1}


def sampled(folder, name, band, place, lon, lat):
    """A band at places on Earth, bilinear from the scene's own pixels, rounded as it is stored."""
    x, y = Transformer.from_crs("OGC:CRS84", place.crs, always_xy=True).transform(lon, lat)
    at = (place.y - y) / place.res - 0.5, (x - place.x) / place.res - 0.5
    with rasterio.open(folder / name / f"{band}.tif") as file:
        return np.floor(map_coordinates(file.read(1).astype(float), at, order=1, mode="nearest") + 0.5)


@pytest.mark.parametrize(
    ("place", "around", "aoi", "declared"),
    [
        # in degrees, up to the pole; the declared grid has the pole far from its origin, inside a block
        (Place("EPSG:4326", -180.0, 90.0, 0.02, (60, 18_000)), shapely.box(-180, 88.8, 180, 90), "-180,89.3,180,90",
         ("EPSG:32661", 500.0)),
        # beyond 84 degrees, in a zone of UTM that is not made for it, and without the pole
        (Place("EPSG:32633", 460_000.0, 9_480_000.0, 100.0, (800, 800)), None, "13,84.7,17,85.2", ("EPSG:3413", 90.0)),
    ],
    ids=["degrees", "utm"],
)  # fmt: skip
def test_a_declared_polar_grid_shows_the_scene_as_it_lies(mapped, tmp_path, place, around, aoi, declared):
    item = rippled(tmp_path, "scene", WHEN, place, field=waves, around=around)
    crs, res = declared
    values, transform, found, _, _ = mapped(item, aoi=aoi, crs=crs, res=res)
    assert (found, transform[0]) == declared
    lon, lat = (np.asarray(v) for v in centres(crs, transform, values.shape))
    west, south, east, north = map(float, aoi.split(","))
    inside = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    valid = np.isfinite(values)
    assert valid.sum() > 10_000
    assert (valid != inside).mean() < 2e-3
    nir, red = (sampled(tmp_path, "scene", band, place, lon, lat) for band in ("nir08", "red"))
    off = np.where(valid, np.abs(values - index_of(nir, red)) * (nir + red) / 2, 0)
    # In units of the stored numbers, which are rounded after they are interpolated, at places good to a thousandth of a
    # pixel: one of degrees is 2 km wide, over which they change by a thousand.
    assert off.max() <= 2
