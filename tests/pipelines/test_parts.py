"""Part files: rasterio reads back what plain numpy says, and nothing is ever left half done."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox

from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.merge import load
from pipelines.products.parts import PartWriter
from pipelines.products.shapes import ShapeRules
from swathe.card import ClassLabel
from swathe.errors import OutputError
from swathe.lattice import Chunk
from swathe.raster import Raster
from swathe.window import Window

CLASSES = tuple(ClassLabel(value=v, name=f"c{v}", colour="#336699", background=v == 0) for v in (0, 1, 2))


def probability(name):
    return RasterSpec(name, "uint8", 255, (name,), Resampling.AVERAGE, 1 / 254)


SPEC = LayerSpec(
    Kind.CLASSES, "t", CLASSES, RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE), probability("score")
)
GRID = GeoBox((3000, 2600), Affine(10, 0, 5e5, 0, -10, 5e6), "EPSG:32633")
CHUNK = Chunk("r00001c00001", Window(1024, 512, 1200, 700))


def blend(window, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.random((3, window.height, window.width), dtype=np.float32)
    return data / data.sum(axis=0), rng.random((window.height, window.width)) > 0.1


def feed(part, chunk, data, mask, heights):
    top = 0
    while top < chunk.window.height:
        bottom = min(chunk.window.height, top + next(heights))
        part.write(Raster(chunk.window.row + top, chunk.window.col, data[:, top:bottom], mask[top:bottom]))
        top = bottom


def heights_of(seed):
    rng = np.random.default_rng(seed)
    while True:
        yield int(rng.integers(1, 700))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_rows_in_any_portions_become_the_same_files(tmp_path, seed):
    data, mask = blend(CHUNK.window)
    with PartWriter(tmp_path, CHUNK, SPEC, grid=GRID, rules=ShapeRules()) as writer:
        feed(writer, CHUNK, data, mask, heights_of(seed))
    result, score = tmp_path / "r00001c00001.result.tif", tmp_path / "r00001c00001.score.tif"
    expected = np.where(mask, data.argmax(axis=0), 255)
    with rasterio.open(result) as file:
        assert np.array_equal(file.read(1), expected)
        assert file.profile["blockxsize"] == file.profile["blockysize"] == 512
        assert (file.nodata, file.compression.name, file.crs.to_epsg()) == (255, "zstd", 32633)
        assert file.transform == Affine(10, 0, 505120, 0, -10, 4989760)
    with rasterio.open(score) as file:
        best = np.floor(data.max(axis=0) * np.float32(254) + np.float32(0.5))
        assert np.array_equal(file.read(1), np.where(mask, best, 255))
    part = writer.part
    assert part is not None
    assert part.files == {
        p.name: p.stat().st_size for p in sorted(tmp_path.iterdir(), key=lambda p: list(part.files).index(p.name))
    }
    assert part.valid == mask.sum()
    assert part.counts == {v: int((expected == v).sum()) for v in (0, 1, 2)}


def test_the_same_rows_give_the_same_bytes(tmp_path):
    data, mask = blend(CHUNK.window)
    contents = []
    for seed in (3, 4):
        with PartWriter(tmp_path, CHUNK, SPEC, grid=GRID, rules=ShapeRules(), attempt=str(seed)) as writer:
            feed(writer, CHUNK, data, mask, heights_of(seed))
        contents.append([p.read_bytes() for p in sorted(tmp_path.iterdir())])
    assert contents[0] == contents[1]


def test_shapes_are_traced_on_the_way(tmp_path):
    data, mask = blend(CHUNK.window)
    data[1] += np.linspace(0, 2, CHUNK.window.height, dtype=np.float32)[:, None]
    with PartWriter(tmp_path, CHUNK, SPEC, grid=GRID, rules=ShapeRules(min_px=1)) as writer:
        feed(writer, CHUNK, data, mask, heights_of(0))
    found = load(tmp_path / "r00001c00001.shapes.npz")
    pixels = int(found.closed.facts.pixels.sum() + found.open.facts.pixels.sum())
    assert writer.part is not None
    assert pixels == writer.part.counts[1] + writer.part.counts[2]
    assert len(found.open) > 0


def test_without_rules_nothing_is_traced(tmp_path):
    data, mask = blend(CHUNK.window)
    with PartWriter(tmp_path, CHUNK, SPEC, grid=GRID) as writer:
        feed(writer, CHUNK, data, mask, heights_of(0))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["r00001c00001.result.tif", "r00001c00001.score.tif"]


@pytest.mark.parametrize("bands", [1, 40])
def test_numbers_and_vectors(tmp_path, bands):
    result = RasterSpec("result", "float32", np.nan, tuple(f"e{i}" for i in range(bands)), Resampling.AVERAGE)
    spec = LayerSpec(Kind.EMBEDDING if bands > 1 else Kind.VALUES, "t", (), result)
    chunk = Chunk("k", Window(0, 0, 600, 300))
    rng = np.random.default_rng(1)
    data, mask = rng.standard_normal((bands, 600, 300), dtype=np.float32), rng.random((600, 300)) > 0.3
    with PartWriter(tmp_path, chunk, spec, grid=GRID, rules=ShapeRules()) as writer:
        feed(writer, chunk, data, mask, heights_of(5))
    with rasterio.open(tmp_path / "k.result.tif") as file:
        assert np.array_equal(file.read(), np.where(mask, data, np.float32(np.nan)), equal_nan=True)
        assert np.isnan(file.nodata)
    assert writer.part is not None
    assert writer.part.valid == mask.sum()
    assert not (tmp_path / "k.shapes.npz").exists()


def test_an_error_leaves_nothing_and_an_older_file_as_it_was(tmp_path):
    old = tmp_path / "r00001c00001.result.tif"
    old.write_bytes(b"of an earlier attempt")
    data, mask = blend(CHUNK.window)
    writer = PartWriter(tmp_path, CHUNK, SPEC, grid=GRID, rules=ShapeRules())

    def interrupted():
        with writer:
            writer.write(Raster(1024, 512, data[:, :900], mask[:900]))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == [old.name]
    assert old.read_bytes() == b"of an earlier attempt"
    assert writer.part is None


def test_missing_rows_leave_nothing(tmp_path):
    data, mask = blend(CHUNK.window)
    with pytest.raises(ValueError, match="rows end"), PartWriter(tmp_path, CHUNK, SPEC, grid=GRID) as writer:
        writer.write(Raster(1024, 512, data[:, :900], mask[:900]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("row", "col", "width"), [(1025, 512, 700), (1024, 511, 700), (1024, 512, 699)])
def test_rows_that_do_not_follow_are_refused(tmp_path, row, col, width):
    data, mask = blend(CHUNK.window)
    with pytest.raises(ValueError, match="do not follow"), PartWriter(tmp_path, CHUNK, SPEC, grid=GRID) as writer:
        writer.write(Raster(row, col, data[:, :10, :width], mask[:10, :width]))


def test_a_folder_that_is_not_there_is_an_output_error(tmp_path):
    with pytest.raises(OutputError), PartWriter(tmp_path / "nowhere", CHUNK, SPEC, grid=GRID):
        pass


def test_a_folder_that_takes_no_files_is_told_by_name():
    """Nobody can write there, not even root."""
    with pytest.raises(OutputError) as caught, PartWriter(Path("/sys"), CHUNK, SPEC, grid=GRID):
        pass
    assert caught.value.problem.code == "output.readonly"
    assert caught.value.hint


def _fill_the_disk(folder, room, answer):
    """In a process of its own: no file may grow beyond ``room`` bytes, which fails just as a full disk does."""
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    data, mask = blend(CHUNK.window)
    try:
        with PartWriter(folder, CHUNK, SPEC, grid=GRID, rules=ShapeRules()) as writer:
            feed(writer, CHUNK, data, mask, heights_of(0))
        answer.put("finished")
    except OutputError as error:
        answer.put(error.problem.code)


@pytest.mark.parametrize("room", [100, 20_000, 400_000, 900_000])
def test_a_full_disk_is_told_by_name_and_leaves_nothing(tmp_path, room):
    context = multiprocessing.get_context("spawn" if os.name == "nt" else "fork")
    answer = context.Queue()
    process = context.Process(target=_fill_the_disk, args=(tmp_path, room, answer))
    process.start()
    assert answer.get(timeout=30) == "output.full"
    process.join()
    assert list(tmp_path.iterdir()) == []
