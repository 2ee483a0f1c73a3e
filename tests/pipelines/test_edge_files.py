"""Every awkward file of the collection: read right, pixel by pixel against rasterio, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio

from pipelines.imagery.area import crop, inside
from pipelines.imagery.inspect import Declared, inspect, parse_input
from pipelines.imagery.read import Reader
from pipelines.mosaic.frame import ends
from swathe.aoi import AOI
from swathe.card import Input
from swathe.errors import AreaError, InputError
from swathe.recipe import Radiometry
from swathe.window import Window

OUTCOME = {
    "GeogToWGS84GeoKey5.tif": "read",
    "RGBA.uint16.tif": "read",
    "all-nodata.tif": "read",
    "cog_dateline.tif": "read",
    "cog_gcps_ovr.tif": "grid.gcps",
    "cog_rgb_mask.tif": "read",
    "cog_tags.tif": "read",
    "corrupt.tif": "imagery.unreadable",
    "gcps.tif": "grid.gcps",
    "inverted_lat.tif": "grid.south_up",
    "nt_20201024_f18_nrt_s.tif": "read",
    "nz_habitat_anticross_4326_1deg.tif": "read",
    "rotated.tif": "grid.rotated",
    "s2_band.jp2": "read",
}
DESCRIBED = {"all-nodata.tif": ("blue", "green", "red", "nir"), "cog_tags.tif": ("green",)}


def look(path, **said):
    """Name the first three bands; the numbers are taken as they are."""
    with rasterio.open(path) as file:
        names = tuple(("blue", "green", "red")[: file.count]) + ("-",) * (file.count - 3)
    if path.name in DESCRIBED:
        names = DESCRIBED[path.name]
    radiometry = Radiometry(bands=names, scale=1.0, **said)
    return inspect(
        [parse_input(str(path))], Input(bands=tuple(n for n in names if n != "-")), Declared((), radiometry, {})
    )


def test_every_file_has_an_outcome(real_data):
    assert {p.name for p in (real_data / "edge").iterdir()} == set(OUTCOME)


@pytest.mark.parametrize("name", [n for n, outcome in OUTCOME.items() if outcome != "read"])
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_refused_by_name(real_data, name, capfd):
    with pytest.raises(InputError) as caught:
        look(real_data / "edge" / name)
    problem = caught.value.problem
    assert problem.code == OUTCOME[name]
    assert name in problem.detail
    assert problem.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [n for n, outcome in OUTCOME.items() if outcome == "read"])
def test_read_right(real_data, name):
    path = real_data / "edge" / name
    imagery = look(path)
    with Reader(imagery) as reader, rasterio.open(path) as file:
        bands = [b.index for b in imagery.dates[0].bands]
        window = Window(-5, -7, imagery.shape[0] + 9, imagery.shape[1] + 11)
        stack = reader.read(window)
        rows, cols = slice(5, 5 + file.height), slice(7, 7 + file.width)
        np.testing.assert_array_equal(stack.data[0][:, rows, cols], file.read(bands))
        valid = np.logical_and.reduce(file.read_masks(bands) != 0) & np.isfinite(file.read(bands)).all(axis=0)
        np.testing.assert_array_equal(stack.mask[0, rows, cols], valid)
        assert stack.mask.sum() == valid.sum()
        assert rasterio.crs.CRS.from_user_input(imagery.crs) == file.crs
        assert imagery.transform == tuple(file.transform)[:6]


def test_nothing_is_valid_in_a_file_of_nodata(real_data):
    imagery = look(real_data / "edge" / "all-nodata.tif")
    with Reader(imagery) as reader:
        assert not reader.read(Window(0, 0, *imagery.shape)).mask.any()


def test_the_tags_of_a_file_are_its_radiometry(real_data):
    path = real_data / "edge" / "cog_tags.tif"
    imagery = inspect([parse_input(str(path))], Input(bands=("green",)), Declared())
    band = imagery.dates[0].bands[0]
    assert (band.scale, band.offset, band.nodata, imagery.sensor) == (1e-4, 1000.0, -1000, "tags")


def centres(imagery, window):
    """Longitude and latitude of every pixel's centre, by rasterio."""
    transform = rasterio.Affine(*imagery.transform)
    rows, cols = np.mgrid[window.row : window.bottom, window.col : window.right]
    xs, ys = rasterio.transform.xy(transform, rows.ravel(), cols.ravel())
    lon, lat = rasterio.warp.transform(imagery.crs, "EPSG:4326", xs, ys)
    return np.reshape(lon, rows.shape), np.reshape(lat, rows.shape)


@pytest.mark.parametrize("box", [(179.2, 51.1, -179.4, 51.6), (178.4, 51.2, 178.9, 51.5), (-179.3, 51.2, -179, 51.5)])
def test_an_area_across_the_antimeridian_on_a_utm_grid(real_data, box):
    """The grid of cog_dateline.tif runs from 178° E to 178.5° W without a break."""
    imagery = look(real_data / "edge" / "cog_dateline.tif")
    west, south, east, north = box
    cut = crop(imagery, AOI.parse(",".join(map(str, box))))
    mask = inside(cut.geometry, rasterio.Affine(*imagery.transform), cut.window)
    assert mask is not None
    lon, lat = centres(imagery, cut.window)
    within = (lon >= west) | (lon <= east) if west > east else (lon >= west) & (lon <= east)
    expected = within & (lat >= south) & (lat <= north)
    assert (mask != expected).mean() < 1e-5
    assert cut.covered == pytest.approx(1, abs=1e-6)
    assert cut.window.width < 1200
    for edge in (mask[:2], mask[-2:], mask[:, :2], mask[:, -2:]):
        assert edge.any()


@pytest.mark.parametrize("box", [(179.9, -0.1, -179.9, 0.1), (179.9, -0.1, 179.95, 0.1), (-179.95, -0.1, -179.9, 0.1)])
@pytest.mark.parametrize("crs", ["EPSG:3857", "EPSG:6933", "EPSG:4326"])
@pytest.mark.parametrize("end", [1, -1])
def test_an_area_on_a_grid_that_runs_on_past_the_end_of_the_world(tmp_path, box, crs, end):
    """A result of a run across 180 degrees is imagery as well."""
    west, east = ends(crs)
    res = (east - west) / 36_000
    start = (east if end > 0 else west) - 50 * res
    with rasterio.open(tmp_path / "on.tif", "w", driver="GTiff", count=1, width=100, height=100, dtype="uint8", crs=crs,
                       transform=rasterio.Affine(res, 0, start, 0, -res, 50 * res)) as file:  # fmt: skip
        file.write(np.ones((1, 100, 100), np.uint8))
    imagery = look(tmp_path / "on.tif")
    cut = crop(imagery, AOI.parse(",".join(map(str, box))))
    assert cut.covered == pytest.approx(1, abs=1e-6)
    first = round((box[0] % 360 - 179.5) * 100)
    assert abs(cut.window.col - first) <= 1
    assert abs(cut.window.width - (box[2] - box[0]) % 360 * 100) <= 1


def test_the_whole_date_line_file_is_covered_by_an_area_around_it(real_data):
    imagery = look(real_data / "edge" / "cog_dateline.tif")
    cut = crop(imagery, AOI.parse("170,45,-170,60"))
    assert cut.window == Window(0, 0, *imagery.shape)
    assert inside(cut.geometry, rasterio.Affine(*imagery.transform), cut.window) is None
    assert 0.02 < cut.covered < 0.03


def test_a_polar_grid_with_the_pole_in_it(real_data):
    imagery = look(real_data / "edge" / "nt_20201024_f18_nrt_s.tif")
    cut = crop(imagery, AOI.parse("-180,-90,180,-70"))
    mask = inside(cut.geometry, rasterio.Affine(*imagery.transform), cut.window)
    assert mask is not None
    _, lat = centres(imagery, cut.window)
    assert (mask != (lat <= -70)).mean() < 1e-3


def test_a_grid_from_180_to_180_is_cut_in_two(real_data):
    imagery = look(real_data / "edge" / "nz_habitat_anticross_4326_1deg.tif")
    cut = crop(imagery, AOI.parse("170,-50,-170,-30"))
    mask = inside(cut.geometry, rasterio.Affine(*imagery.transform), cut.window)
    assert mask is not None
    columns = np.flatnonzero(mask.any(axis=0)) + cut.window.col
    assert columns.tolist() == [*range(10), *range(350, 360)]


@pytest.mark.parametrize(
    "name", ["cog_dateline.tif", "cog_tags.tif", "nt_20201024_f18_nrt_s.tif", "GeogToWGS84GeoKey5.tif"]
)
def test_an_area_elsewhere_is_refused(real_data, name):
    with pytest.raises(AreaError) as caught:
        crop(look(real_data / "edge" / name), AOI.parse("-60,10,-59,11"))
    assert caught.value.problem.code == "area.outside"


def test_a_datum_that_nobody_knows(real_data):
    imagery = look(real_data / "edge" / "GeogToWGS84GeoKey5.tif")
    cut = crop(imagery, AOI.parse("9.0002,52.0005,9.0012,52.0016"))
    assert 30 < cut.window.height < 50
    assert 30 < cut.window.width < 50
