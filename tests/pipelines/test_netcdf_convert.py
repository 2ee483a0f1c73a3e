"""What the program in the sandbox makes of NetCDF, run here: numbers, ground and times, or one fault."""

from contextlib import chdir
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray
from pyproj import CRS, Transformer

from pipelines.netcdf import isolated
from pipelines.netcdf.convert import Most, converted
from pipelines.sandbox.told import Fault
from tests.pipelines.conftest import ROOT
from tests.pipelines.netcdfs import LAT, LON, METRES, UTM, WRITERS, classic, cube, flat, lonlat, netcdf4

pytestmark = pytest.mark.filterwarnings("ignore:Cannot close a netcdf_file")  # its map goes with the process
MOST = Most(images=50, bands=16, side=10_000, total_mb=100)


@pytest.fixture(params=WRITERS)
def write(request):
    """Each way in which such a file is stored."""
    return WRITERS[request.param]


@dataclass
class Image:
    """One that was made."""

    path: Path
    variable: str
    when: str


def made(path):
    """What became of a file."""
    folder = path.parent / f"{path.stem}-converted"
    folder.mkdir()
    with chdir(folder):
        return [Image(folder / one.file, one.variable, one.when) for one in converted(path, MOST)]


def only(path):
    (image,) = made(path)
    with rasterio.open(image.path) as file:
        return file.read(), file.profile


def refused(path):
    """The fault, which the other side knows."""
    with pytest.raises(Fault) as caught:
        made(path)
    assert caught.value.code in isolated.NETCDF.faults
    return caught.value


# --- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [True, False])
def test_numbers_and_times_are_those_that_xarray_reads(tmp_path, up):
    cube(classic, tmp_path / "cube.nc", steps=5, up=up)
    with xarray.open_dataset(tmp_path / "cube.nc", engine="scipy") as seen:
        wanted, times = seen.depth.sortby("lat", ascending=False).values, seen.time.values
    images = made(tmp_path / "cube.nc")
    assert [np.datetime64(image.when.rstrip("Z")) for image in images] == list(times.astype("datetime64[s]"))
    for n, image in enumerate(images):
        with rasterio.open(image.path) as file:
            found = file.read(1, masked=True).astype("f8") * file.scales[0] + file.offsets[0]
        np.testing.assert_allclose(found.filled(np.nan), wanted[n], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"])
def test_every_type_keeps_its_numbers(tmp_path, dtype):
    limits = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else None
    low, high = (max(limits.min, -(2**53)), min(limits.max, 2**53)) if limits else (-60_000.0, 60_000.0)
    numbers = np.linspace(low, high, 48).astype(dtype).reshape(6, 8)
    numbers[0, :2] = low, high
    netcdf4_numbers = flat(netcdf4, tmp_path / "a.nc", numbers, {"_FillValue": np.dtype(dtype).type(7)})
    found, _ = only(tmp_path / "a.nc")
    assert (found[0] == netcdf4_numbers[::-1].astype(found.dtype)).all()
    assert found.dtype.itemsize >= min(np.dtype(dtype).itemsize, 4)


def test_whole_numbers_that_no_type_holds_are_refused(tmp_path):
    flat(netcdf4, tmp_path / "a.nc", np.full((6, 8), 2**53 + 1, "i8"))
    assert refused(tmp_path / "a.nc").code == "type"


def test_what_is_missing_is_nodata(tmp_path, write):
    numbers = np.arange(48, dtype="f4").reshape(6, 8)
    numbers[1], numbers[2, :4], numbers[2, 4:] = -9999, 1e20, np.nan
    flat(write, tmp_path / "a.nc", numbers, {"_FillValue": np.float32(-9999), "missing_value": np.float32(1e20)})
    found, said = only(tmp_path / "a.nc")
    assert said["nodata"] == -9999
    assert (found[0, -2] == -9999).all()
    assert (found[0, -3, :4] == -9999).all()
    assert np.isnan(found[0, -3, 4:]).all()
    assert (found[0, 0] == numbers[-1]).all()


def test_numbers_beyond_the_valid_ones_are_nodata(tmp_path, write):
    numbers = np.arange(48, dtype="u1" if write is netcdf4 else "i1").reshape(6, 8)
    flat(write, tmp_path / "a.nc", numbers, {"valid_range": np.array([8, 39], numbers.dtype)})
    found, said = only(tmp_path / "a.nc")
    assert ((found[0] != said["nodata"]) == ((numbers >= 8) & (numbers <= 39))[::-1]).all()


def test_what_nobody_wrote_is_nodata(tmp_path):
    """NetCDF fills with numbers of its own, where none is said."""
    numbers = np.full((6, 8), 9.969209968386869e36, "f4")
    numbers[2] = 5
    flat(classic, tmp_path / "a.nc", numbers)
    found, said = only(tmp_path / "a.nc")
    assert (found[0] == said["nodata"]).sum() == 40


def test_bytes_may_be_meant_unsigned(tmp_path):
    numbers = np.arange(200, 248).astype("u1").reshape(6, 8)
    flat(classic, tmp_path / "a.nc", numbers.view("i1"), {"_Unsigned": "true", "_FillValue": np.int8(-1)})
    found, said = only(tmp_path / "a.nc")
    assert (found[0] == numbers[::-1]).all()
    assert (said["dtype"], said["nodata"]) == ("uint8", 255)


def test_compressed_chunks_and_large_grids(tmp_path):
    numbers = np.random.default_rng(1).integers(0, 1000, (1100, 1300)).astype("i2")
    flat(netcdf4_packed, tmp_path / "a.nc", numbers, grid=lonlat(step=0.01, shape=numbers.shape, up=True))
    found, said = only(tmp_path / "a.nc")
    assert (found[0] == numbers[::-1]).all()
    assert (said["blockxsize"], said["blockysize"]) == (512, 512)


def netcdf4_packed(path, dims, variables):
    return netcdf4(path, dims, variables, chunks=(100, 130), compression="gzip", shuffle=True)


# --- the ground -------------------------------------------------------------------------------------------------------


def test_single_precision_is_read_as_decimals(tmp_path, write):
    flat(write, tmp_path / "a.nc", grid=lonlat(10.05, 45.05, 0.1, dtype="f4"))
    assert tuple(only(tmp_path / "a.nc")[1]["transform"])[:6] == (0.1, 0, 10, 0, -0.1, 45.6)


def test_columns_may_run_west_and_dimensions_lie_crosswise(tmp_path, write):
    numbers = np.arange(48, dtype="f4").reshape(8, 6)  # (lon, lat)
    dims, coordinates = lonlat()
    along, lon, said = coordinates["lon"]
    coordinates["lon"] = along, lon[::-1], said
    write(tmp_path / "a.nc", dims, {**coordinates, "depth": (("lon", "lat"), numbers, {})})
    found, said = only(tmp_path / "a.nc")
    assert (found[0] == numbers.T[::-1, ::-1]).all()
    assert tuple(said["transform"])[:6] == (0.25, 0, 9.875, 0, -0.25, 46.375)


@pytest.mark.parametrize(("first", "moved"), [(0.0, 4), (22.5, 4), (-180.0, 0), (-157.5, 0), (180.0, 0)])
def test_longitudes_around_the_world_begin_at_180_west(tmp_path, write, first, moved):
    dims, coordinates = lonlat(first, 45.0, 45.0, (2, 8))
    coordinates["lat"] = ("lat",), np.array([-22.5, 22.5]), LAT
    numbers = flat(write, tmp_path / "a.nc", grid=(dims, coordinates))
    found, said = only(tmp_path / "a.nc")
    assert (found[0] == np.roll(numbers[::-1], -moved, axis=1)).all()
    west = said["transform"].c
    assert -202.5 <= west < -157.4
    for column in range(8):  # each column is where its longitude is
        at = west + 22.5 + 45 * column
        source = list(numbers[-1]).index(found[0, 0, column])
        assert (first + 45 * source - at) % 360 == 0


@pytest.mark.parametrize(("first", "west"), [(200.0, -160.125), (170.0, 169.875), (179.0, 178.875), (-5.0, -5.125)])
def test_a_part_of_the_world_stays_in_one_piece(tmp_path, write, first, west):
    numbers = flat(write, tmp_path / "a.nc", grid=lonlat(first))
    found, said = only(tmp_path / "a.nc")
    assert (found[0] == numbers[::-1]).all()
    assert said["transform"].c == west


@pytest.mark.parametrize(("unit", "factor"), [("m", 1), ("km", 1000), ("", 1)])
def test_projected_grids_have_the_crs_of_their_mapping(tmp_path, write, unit, factor):
    dims = {"y": 6, "x": 8}
    x, y = (500_000 + 30 * np.arange(8)) / factor, (5_000_000 - 30 * np.arange(6)) / factor
    said = {axis: {**METRES[axis], "units": unit} if unit else METRES[axis] | {"units": "m"} for axis in "xy"}
    coordinates = {"y": (("y",), y, said["y"]), "x": (("x",), x, said["x"])}
    mapping = {"utm": ((), np.int32(0), UTM)}
    flat(write, tmp_path / "a.nc", grid=(dims, coordinates), attributes={"grid_mapping": "utm"}, more=mapping)
    _, found = only(tmp_path / "a.nc")
    assert tuple(found["transform"])[:6] == pytest.approx((30, 0, 499_985, 0, -30, 5_000_015))
    wanted = CRS.from_epsg(32633)
    for place in ((500_000, 5_000_000), (700_000, 5_300_000)):
        here = Transformer.from_crs(found["crs"].to_wkt(), 4326, always_xy=True).transform(*place)
        assert here == pytest.approx(Transformer.from_crs(wanted, 4326, always_xy=True).transform(*place), abs=1e-9)


def test_a_mapping_may_be_wkt(tmp_path, write):
    dims = {"y": 6, "x": 8}
    coordinates = {"y": (("y",), 5_000_000 - 30.0 * np.arange(6), METRES["y"]),
                   "x": (("x",), 500_000 + 30.0 * np.arange(8), METRES["x"])}  # fmt: skip
    mapping = {"spatial_ref": ((), np.int32(0), {"crs_wkt": CRS.from_epsg(32633).to_wkt("WKT1_GDAL")})}
    flat(write, tmp_path / "a.nc", grid=(dims, coordinates), attributes={"grid_mapping": "spatial_ref"}, more=mapping)
    _, found = only(tmp_path / "a.nc")
    assert found["crs"].to_epsg() == 32633


def test_further_dimensions_are_bands(tmp_path, write):
    dims, coordinates = lonlat()
    numbers = np.arange(2 * 3 * 48, dtype="i4").reshape(2, 3, 6, 8)
    variables = {"time": (("time",), np.array([0.0, 0.25]), {"units": "days since 2024-01-30 06:00:00"}),
                 "level": (("level",), np.array([1000.0, 850, 500]), {"units": "hPa"}), **coordinates,
                 "wind": (("time", "level", "lat", "lon"), numbers, {})}  # fmt: skip
    write(tmp_path / "a.nc", {"time": 2, "level": 3, **dims}, variables)
    images = made(tmp_path / "a.nc")
    assert [image.when for image in images] == ["2024-01-30T06:00:00Z", "2024-01-30T12:00:00Z"]
    for n, image in enumerate(images):
        with rasterio.open(image.path) as file:
            assert (file.read() == numbers[n, :, ::-1]).all()


@pytest.mark.parametrize(("units", "calendar", "wanted"), [
    ("hours since 1900-01-01 00:00:0.0", "gregorian", "2024-01-30T06:00:00Z"),
    ("seconds since 2024-01-30T08:00:00+02:00", "proleptic_gregorian", "2024-01-30T06:00:00Z"),
    ("days since 2024-01-30", "noleap", ""), ("days since 2024-01-30", "360_day", ""),
    ("months since 2024-01-01", "standard", ""), ("days since 0001-01-01", "standard", ""),
    ("days since 2024-13-45", "standard", ""),
])  # fmt: skip
def test_times_are_told_or_not_guessed(tmp_path, units, calendar, wanted):
    dims, coordinates = lonlat()
    hours = (datetime(2024, 1, 30, 6, tzinfo=UTC) - datetime(1900, 1, 1, tzinfo=UTC)).total_seconds() / 3600
    number = {"h": hours, "s": 0.0}.get(units[0], 5.0)
    variables = {"time": (("time",), np.array([number]), {"units": units, "calendar": calendar}), **coordinates,
                 "depth": (("time", "lat", "lon"), np.zeros((1, 6, 8), "f4"), {})}  # fmt: skip
    classic(tmp_path / "a.nc", {"time": 1, **dims}, variables)
    (image,) = made(tmp_path / "a.nc")
    assert image.when == wanted


# --- what cannot be ---------------------------------------------------------------------------------------------------


def test_without_a_grid_there_is_no_image(tmp_path, write):
    write(tmp_path / "a.nc", {"time": 4}, {"level": (("time",), np.arange(4.0), {})})
    assert refused(tmp_path / "a.nc").code == "variables"


def test_grids_that_bend_are_refused(tmp_path, write):
    lat, lon = np.meshgrid(np.arange(6.0), np.arange(8.0), indexing="ij")
    write(tmp_path / "a.nc", {"y": 6, "x": 8}, {
        "lat": (("y", "x"), lat, LAT), "lon": (("y", "x"), lon, LON),
        "depth": (("y", "x"), lat * lon, {"coordinates": "lat lon"}),
    })  # fmt: skip
    fault = refused(tmp_path / "a.nc")
    assert (fault.code, "depth" in fault.detail) == ("curvilinear", True)
    write(tmp_path / "numbered.nc", {"y": 6, "x": 8}, {  # rows and columns have numbers, which are no places
        "y": (("y",), np.arange(6.0), {}), "x": (("x",), np.arange(8.0), {}),
        "lat": (("y", "x"), lat, LAT), "lon": (("y", "x"), lon, LON), "depth": (("y", "x"), lat * lon, {}),
    })  # fmt: skip
    assert refused(tmp_path / "numbered.nc").code == "curvilinear"


def test_uneven_and_unknown_spacing_is_refused(tmp_path, write):
    dims, coordinates = lonlat()
    uneven = np.array([45, 45.25, 45.5, 45.75, 46, 46.3])
    flat(write, tmp_path / "a.nc", grid=(dims, coordinates | {"lat": (("lat",), uneven, LAT)}))
    problem = refused(tmp_path / "a.nc")
    assert (problem.code, "lat" in problem.detail) == ("spacing", True)
    flat(write, tmp_path / "b.nc", grid=lonlat(shape=(1, 8)))
    assert "lat" in refused(tmp_path / "b.nc").detail
    nothing = np.full(6, np.nan)
    flat(write, tmp_path / "c.nc", grid=(dims, coordinates | {"lat": (("lat",), nothing, LAT)}))
    assert refused(tmp_path / "c.nc").code == "spacing"


def test_one_row_has_its_height_from_its_bounds(tmp_path, write):
    dims, coordinates = lonlat(shape=(1, 8))
    coordinates["lat"] = ("lat",), np.array([45.0]), {**LAT, "bounds": "lat_bnds"}
    depth = np.arange(8, dtype="f4").reshape(1, 8)
    write(tmp_path / "a.nc", {**dims, "nv": 2}, {
        **coordinates, "lat_bnds": (("lat", "nv"), np.array([[44.75, 45.25]]), {}),
        "depth": (("lat", "lon"), depth, {}),
    })  # fmt: skip
    found, said = only(tmp_path / "a.nc")
    assert (found[0] == depth).all()
    assert (said["transform"].e, said["transform"].f) == (-0.5, 45.25)


def test_a_crs_is_said_and_known_or_refused(tmp_path, write):
    coordinates = {"y": (("y",), 30.0 * np.arange(6), METRES["y"]), "x": (("x",), 30.0 * np.arange(8), METRES["x"])}
    grid = {"y": 6, "x": 8}, coordinates
    flat(write, tmp_path / "a.nc", grid=grid)
    assert refused(tmp_path / "a.nc").code == "no_crs"
    for n, mapping in enumerate((
        {"grid_mapping_name": "of a kind that nobody knows"}, {"crs_wkt": "PROJCS[nonsense"},
        {"grid_mapping_name": "latitude_longitude"},
        {"grid_mapping_name": "rotated_latitude_longitude", "grid_north_pole_latitude": 39.25,
         "grid_north_pole_longitude": -162.0},
    )):  # fmt: skip
        path = tmp_path / f"b{n}.nc"
        more = {"crs": ((), np.int32(0), mapping)}
        flat(write, path, grid=grid, attributes={"grid_mapping": "crs"}, more=more)
        assert refused(path).code == "crs"


def test_attributes_of_a_liar_do_no_harm(tmp_path):
    for n, said in enumerate(({"scale_factor": "much"}, {"scale_factor": np.float64(np.nan)}, {"add_offset": "x" * 9},
                              {"_FillValue": "none"}, {"missing_value": np.arange(40.0)})):  # fmt: skip
        flat(netcdf4, tmp_path / f"a{n}.nc", attributes=said)
        if n < 3:
            assert refused(tmp_path / f"a{n}.nc").code == "unreadable"
        else:
            found, _ = only(tmp_path / f"a{n}.nc")
            assert found.shape == (1, 6, 8)


def test_every_fault_is_known_on_the_other_side():
    import re

    code = "".join(path.read_text() for path in (ROOT / "pipelines" / "netcdf").glob("*.py"))
    raised = set(re.findall(r'Fault\(\s*"([a-z_]+)"', code))
    assert len(raised) > 8
    assert raised <= set(isolated.NETCDF.faults)
