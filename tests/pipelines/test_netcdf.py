"""NetCDF becomes GeoTIFF in the sandbox: the same numbers on the same ground, or one reason why not."""

import shutil
from contextlib import suppress
from dataclasses import replace

import h5py
import numpy as np
import pytest
import rasterio
from pyproj import CRS

from pipelines.begin import begin, look
from pipelines.imagery.archive import Limits, Unpacking
from pipelines.imagery.gdal import Access
from pipelines.imagery.header import read_headers
from pipelines.imagery.inputs import by_date, parse_input
from pipelines.netcdf import isolated
from pipelines.netcdf.isolated import images_of
from pipelines.sandbox import conversion
from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.isolation import Isolation, isolation
from swathe.errors import ImageryError, InputError, LimitError
from tests.pipelines.netcdfs import LAT, LON, WRITERS, classic, cube, lonlat, netcdf4

pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")
BOUNDS = Bounds(seconds=120, memory_mb=3072, output_mb=64, files=1000)


@pytest.fixture(params=WRITERS)
def write(request):
    """Each way in which such a file is stored."""
    return WRITERS[request.param]


def made(path, **more):
    """What became of a file."""
    return images_of(path, path.parent / "converted", **{"bounds": BOUNDS, **more})


def test_what_the_program_prints_is_nobody_s_output(tmp_path, write, capfd, monkeypatch):
    """With --json, standard output is JSON lines; libraries warn, and a file may make one of them say anything."""
    cube(write, tmp_path / "cube.nc", steps=2)
    run = f"print('not JSON', flush=True); {isolated.NETCDF.run}"
    monkeypatch.setattr(isolated, "NETCDF", replace(isolated.NETCDF, run=run))
    assert made(tmp_path / "cube.nc")
    assert capfd.readouterr().out == ""


def refused(path, **more):
    """The problem; nothing is left beside the file."""
    before = sorted(path.parent.iterdir())
    with pytest.raises((ImageryError, LimitError)) as caught:
        made(path, **more)
    assert sorted(path.parent.iterdir()) == before
    problem = caught.value.problem
    assert problem.hint
    assert str(path.parent) not in problem.detail
    return problem


def by_gdal(path, variable="depth"):
    """GDAL's own reading of the same file: numbers, transform, CRS, scale and offset."""
    with rasterio.open(f"netcdf:{path}:{variable}") as file:
        return file.read(), file.transform, file.crs, file.scales[0], file.offsets[0], file.nodata


def test_numbers_and_ground_are_those_that_gdal_reads(tmp_path, write):
    stored = cube(write, tmp_path / "cube.nc")
    images = made(tmp_path / "cube.nc")
    assert [image.path.name for image in images] == [f"cube_depth_2024-{d}.tif" for d in ("01-30", "01-31", "02-01")]
    assert [(image.variable, image.when[:10]) for image in images] == [
        ("depth", "2024-01-30"), ("depth", "2024-01-31"), ("depth", "2024-02-01")]  # fmt: skip
    data, transform, crs, scale, offset, nodata = by_gdal(tmp_path / "cube.nc")
    assert crs is None or crs == CRS.from_epsg(4326)
    for n, image in enumerate(images):
        with rasterio.open(image.path) as file:
            assert (file.read(1) == data[n]).all()
            assert (file.read(1) == stored[n, ::-1]).all()
            assert file.transform.almost_equals(transform, 1e-9)
            assert (file.crs.to_epsg(), file.dtypes, file.nodata) == (4326, ("int16",), nodata)
            assert (file.scales[0], file.offsets[0]) == (scale, offset) == (0.01, 12.5)
            assert file.tags()["TIFFTAG_DATETIME"] == f"{image.when[:10].replace('-', ':')} 00:00:00"
            assert (file.descriptions, file.tags()["units"]) == (("depth",), "m")
            assert file.profile["compress"] == "deflate"
            assert file.profile["tiled"]
    assert not any(header.by_pixel for header in read_headers([str(i.path) for i in images], Access()))


def test_several_variables_are_several_images_and_others_none(tmp_path, write):
    dims, coordinates = lonlat()
    numbers = np.arange(48, dtype="f4").reshape(6, 8)
    write(tmp_path / "a_2023-05-06.nc", dims, {
        **coordinates, "lat_bnds": (("lat", "lon"), numbers, {}), "B03": (("lat", "lon"), numbers, {}),
        "B08": (("lat", "lon"), numbers + 1, {}), "profile": (("lat",), numbers[:, 0], {}),
        "lat2": (("lat",), numbers[:, 0], {"bounds": "lat_bnds"}),
    })  # fmt: skip
    assert sorted(image.path.name for image in made(tmp_path / "a_2023-05-06.nc")) == [
        "a-2023-05-06_B03.tif", "a-2023-05-06_B08.tif"]  # fmt: skip


def test_variables_of_groups_are_found(tmp_path):
    netcdf4(tmp_path / "a.nc", {}, {})
    with h5py.File(tmp_path / "a.nc", "a") as file:
        for name, numbers, said in (("lat", 45 + 0.25 * np.arange(6), LAT), ("lon", 10 + 0.25 * np.arange(8), LON)):
            file[f"data/{name}"] = numbers
            file[f"data/{name}"].attrs.update(said)
            file[f"data/{name}"].make_scale(name)
        file["data/inner/depth"] = np.arange(48.0).reshape(6, 8)
        for n, name in enumerate(("lat", "lon")):
            file["data/inner/depth"].dims[n].attach_scale(file[f"data/{name}"])
    (image,) = made(tmp_path / "a.nc")
    assert (image.variable, image.path.name) == ("data/inner/depth", "a_data-inner-depth.tif")


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_damaged_files_are_refused(tmp_path, write):
    cube(write, tmp_path / "whole.nc", steps=40)
    whole = (tmp_path / "whole.nc").read_bytes()
    for n in (3, len(whole) // 3, len(whole) - 500):
        path = tmp_path / f"cut{n}.nc"
        path.write_bytes(whole[:n])
        assert refused(path).code in ("netcdf.unreadable", "netcdf.variables", "netcdf.spacing")
    rng = np.random.default_rng(9)
    broken = bytearray(whole)
    for at in rng.integers(8, 700, 12):
        broken[at] = rng.integers(0, 256)
    (tmp_path / "broken.nc").write_bytes(broken)
    with suppress(ImageryError, LimitError):  # by chance it may still be one
        made(tmp_path / "broken.nc")
        shutil.rmtree(tmp_path / "converted")
    assert not list(tmp_path.glob("converted*"))


def test_other_files_are_no_netcdf(tmp_path):
    (tmp_path / "a.nc").write_bytes(b"PK\3\4" + bytes(100))
    assert refused(tmp_path / "a.nc").code == "netcdf.unreadable"
    (tmp_path / "b.nc").write_bytes(b"CDF\5" + bytes(100))
    problem = refused(tmp_path / "b.nc")
    assert (problem.code, "nccopy" in problem.hint) == ("netcdf.format", True)


@pytest.mark.slow
def test_more_than_is_taken_is_refused_before_it_is_read(tmp_path):
    cube(classic, tmp_path / "long.nc", steps=501, shape=(2, 2))
    problem = refused(tmp_path / "long.nc")
    assert (problem.code, "501" in problem.detail) == ("netcdf.images", True)
    with h5py.File(tmp_path / "bomb.nc", "w") as file:  # claims 80 GB and holds nothing
        for name, size, said in (("lat", 100_000, LAT), ("lon", 100_000, LON)):
            file[name] = np.linspace(0, 50, size)
            file[name].attrs.update(said)
            file[name].make_scale(name)
        file.create_dataset("depth", (100_000, 100_000), "f8", chunks=(1000, 1000), compression="gzip")
        for n, name in enumerate(("lat", "lon")):
            file["depth"].dims[n].attach_scale(file[name])
    assert (tmp_path / "bomb.nc").stat().st_size < 3_000_000
    assert refused(tmp_path / "bomb.nc").code == "netcdf.size"
    cube(classic, tmp_path / "a.nc")
    assert refused(tmp_path / "a.nc", limits=Limits(side=4)).code == "netcdf.size"
    assert refused(tmp_path / "a.nc", bounds=Bounds(seconds=0.05)).code == "netcdf.time"
    (tmp_path / "large.nc").write_bytes(b"CDF\1")
    with (tmp_path / "large.nc").open("r+b") as file:
        file.truncate(BOUNDS.memory_mb << 20)
    assert refused(tmp_path / "large.nc").code == "netcdf.size"


def test_numbers_of_other_files_are_not_fetched(tmp_path):
    (tmp_path / "secret.bin").write_bytes(np.arange(48, dtype="f4").tobytes())
    dims, coordinates = lonlat()
    netcdf4(tmp_path / "a.nc", dims, coordinates)
    with h5py.File(tmp_path / "a.nc", "a") as file:
        file.create_dataset("depth", (6, 8), "f4", external=[(str(tmp_path / "secret.bin"), 0, 192)])
        for n, name in enumerate(("lat", "lon")):
            file["depth"].dims[n].attach_scale(file[name])
    assert refused(tmp_path / "a.nc").code == "netcdf.external"


def test_where_no_program_can_be_shut_in_none_is_run(tmp_path, monkeypatch):
    cube(classic, tmp_path / "a.nc")
    monkeypatch.setattr(conversion, "isolation", lambda: Isolation("none", None, "bubblewrap is not installed"))
    problem = refused(tmp_path / "a.nc")
    assert (problem.code, "GeoTIFF" in problem.hint) == ("netcdf.isolation", True)


@pytest.mark.parametrize("program", [
    "import os; os.symlink('/etc/passwd', '1.tif'); told()", "open('1.tif', 'wb').write(b'x' * 99); told()",
    "os.mkdir('1.tif'); told()", "open('told.json', 'w').write('[' * 99999)", "os.symlink('/etc/passwd', 'told.json')",
    "told(file='../../etc/passwd')", "told(variable=['a'])", "os._exit(3)", "told(fault=['..', 'x' * 9999])",
    "os.kill(os.getpid(), 11)", "",
])  # fmt: skip
def test_a_program_that_was_taken_over_gains_nothing(tmp_path, monkeypatch, program):
    """Whatever the file makes of the program: what it leaves is looked at as a stranger's."""
    said = ("import json, os\n"
            "def told(**more):\n"
            "    image = {'file': '1.tif', 'variable': 'a', 'when': '', 'step': 0} | more\n"
            "    fault = {'fault': more['fault']} if 'fault' in more else {}\n"
            "    open('told.json', 'w').write(json.dumps({'images': [image], **fault}))\n")  # fmt: skip
    monkeypatch.setattr(isolated, "NETCDF", replace(isolated.NETCDF, run=said + program))
    cube(classic, tmp_path / "a.nc")
    problem = refused(tmp_path / "a.nc")
    assert problem.code in ("netcdf.unreadable", "image.content")
    assert "root:" not in problem.detail


# --- among inputs -----------------------------------------------------------------------------------------------------


def hrefs(path, room, text="", times=1):
    (files,) = by_date([parse_input(f"{text}{path}")], times, Unpacking(room))
    return files.hrefs


def test_on_the_command_line_a_moment_is_chosen(tmp_path, write):
    cube(write, tmp_path / "cube.nc")
    room = tmp_path / "room"
    (one,) = hrefs(tmp_path / "cube.nc", room, "2024-01-31=")
    assert one.endswith("cube_depth_2024-01-31.tif")
    assert hrefs(tmp_path / "cube.nc", room, "2024-01-31T00:00:00Z=") == (one,)
    for text in ("", "2024-05-01="):
        with pytest.raises(InputError) as caught:
            hrefs(tmp_path / "cube.nc", room, text)
        assert (caught.value.problem.code, "2024-01-31" in caught.value.hint) == ("netcdf.moments", True)
    assert len(list(room.iterdir())) == 1


def test_a_run_reads_netcdf_by_the_names_of_its_variables(tmp_path, write):
    from models.registry import load_cards
    from swathe.recipe import Recipe
    from tests.pipelines.conftest import ROOT

    card = load_cards((ROOT / "configs" / "models",))["water-ndwi"]
    dims, coordinates = lonlat(shape=(64, 64), step=0.001)
    numbers = np.random.default_rng(2).integers(1, 9000, (2, 64, 64)).astype("i2")
    said = {"scale_factor": 1e-4, "add_offset": 0.0, "_FillValue": np.int16(0)}
    write(tmp_path / "a.nc", dims, {
        **coordinates, "green": (("lat", "lon"), numbers[0], said), "nir": (("lat", "lon"), numbers[1], said),
    })  # fmt: skip
    recipe = Recipe(card.id, (str(tmp_path / "a.nc"),))
    plan = begin(recipe, card, look(recipe, card, {}), 1)
    assert [band.name for band in plan.work.imagery.dates[0].bands] == list(card.input.bands)
    assert {band.scale for band in plan.work.imagery.dates[0].bands} == {1e-4}
