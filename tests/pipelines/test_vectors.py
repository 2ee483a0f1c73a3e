"""Vector files become rasters in the sandbox, under names that tell them apart, or one reason why not."""

import json
import sqlite3
import zipfile
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from shapely.geometry import Point, box

from pipelines.imagery.archive import Limits
from pipelines.sandbox import conversion
from pipelines.sandbox.bounds import Bounds
from pipelines.sandbox.isolation import Isolation, isolation
from pipelines.vectors import isolated
from pipelines.vectors.isolated import MOST, images_of, is_vectors
from swathe.errors import ImageryError, LimitError
from tests.pipelines.vectors import SHAPES, package, shapefile, table

pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")
SMALL = replace(MOST, side=100)


def made(path, **more):
    return images_of(path, path.parent / "converted", **{"most": SMALL, **more})


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


def test_names_tell_layers_and_columns_apart(tmp_path):
    path = package(tmp_path / "two.gpkg", shapes=[box(0, 0, 1, 1)])
    houses = table([box(600_000, 5e6, 600_100, 5_000_200)], "EPSG:32632", height=[3.5])
    houses.to_file(path, layer="häuser", driver="GPKG")
    images = made(path)
    assert [one.path.name for one in images] == ["two_roads.tif", "two_h-user.tif", "two_h-user_height.tif"]
    assert images[1].layer == "häuser"
    with rasterio.open(images[2].path) as file:
        assert (file.crs.to_epsg(), np.nanmax(file.read(1))) == (32632, 3.5)
    (alone, numbers) = images_of(shapefile(tmp_path / "sites.zip", shapes=[Point(3, 4)], size=[2]), tmp_path / "other")
    assert (alone.path.name, numbers.path.name) == ("sites.tif", "sites_size.tif")


# --- what is one ------------------------------------------------------------------------------------------------------


def test_it_is_known_by_its_bytes_or_its_ending(tmp_path):
    path = package(tmp_path / "a.gpkg")
    named = tmp_path / "download"
    named.write_bytes(path.read_bytes())
    assert is_vectors(path)
    assert is_vectors(named)
    assert is_vectors(shapefile(tmp_path / "b.zip", shapes=SHAPES[:1]))
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("a.tif", b"II*\0")
        archive.writestr("a.shp", b"")
    assert not is_vectors(tmp_path / "c.zip")
    with sqlite3.connect(tmp_path / "d.sqlite") as base:
        base.execute("CREATE TABLE notes (text TEXT)")
    assert not is_vectors(tmp_path / "d.sqlite")


# --- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_damaged_files_are_refused(tmp_path):
    whole = package(tmp_path / "whole.gpkg", shapes=SHAPES * 500).read_bytes()
    rng = np.random.default_rng(9)
    for n in (101, len(whole) // 2):
        path = tmp_path / f"cut{n}.gpkg"
        path.write_bytes(whole[:n])
        assert refused(path).code in ("vectors.unreadable", "vectors.layers")
    broken = bytearray(whole)
    for at in rng.integers(4096, len(whole), 400):
        broken[at] = rng.integers(0, 256)
    (tmp_path / "broken.gpkg").write_bytes(broken)
    with suppress(ImageryError, LimitError):  # by chance it may still be one
        made(tmp_path / "broken.gpkg")


@pytest.mark.parametrize(("name", "data", "code"), [
    ("a.gpkg", b"SQLite format 3\0" + bytes(500), "unreadable"), ("a.gpkg", b"", "unreadable"),
    ("a.shp", b"\0\0\x27\x0a" + bytes(96), "alone"),
])  # fmt: skip
def test_what_is_none_is_refused_by_name(tmp_path, name, data, code):
    (tmp_path / name).write_bytes(data)
    problem = refused(tmp_path / name)
    assert (problem.code, name in problem.detail) == (f"vectors.{code}", True)


@pytest.mark.slow
def test_more_than_is_taken_is_refused(tmp_path):
    path = package(tmp_path / "a.gpkg")
    assert refused(path, most=replace(SMALL, vertices=5)).code == "vectors.size"
    assert refused(path, bounds=Bounds(seconds=0.05)).code == "vectors.time"
    assert refused(path, limits=Limits(side=40)).code == "image.size"


def test_an_archive_is_looked_at_before_anything_opens_it(tmp_path):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.shp", bytes(50_000_000))
    with pytest.raises(ImageryError) as caught:
        is_vectors(path)
    assert caught.value.refined == "archive.ratio"


def test_where_no_program_can_be_shut_in_none_is_run(tmp_path, monkeypatch):
    path = package(tmp_path / "a.gpkg")
    monkeypatch.setattr(conversion, "isolation", lambda: Isolation("none", None, "bubblewrap is not installed"))
    problem = refused(path)
    assert (problem.code, "gdal_rasterize" in problem.hint) == ("vectors.isolation", True)


@pytest.mark.parametrize("said", [
    {"file": "../../etc/passwd"}, {"layer": ["a"]}, {"column": 3}, {"alone": "yes"}, {"file": "2.tif"}, {"file": None},
])  # fmt: skip
def test_a_program_that_was_taken_over_gains_nothing(tmp_path, monkeypatch, said):
    image = {"file": "1.tif", "layer": "a", "column": "", "alone": True} | said
    run = (f"import json; open('1.tif', 'wb').write(b'x' * 99); "
           f"open('told.json', 'w').write({json.dumps(json.dumps({'images': [image]}))})")  # fmt: skip
    path = package(tmp_path / "a.gpkg")
    monkeypatch.setattr(isolated, "VECTORS", replace(isolated.VECTORS, run=run))
    assert refused(path).code == "vectors.unreadable"
