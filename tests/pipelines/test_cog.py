"""The COG: rio-cogeo says whether it is one; rasterio and plain loops say whether it is the right one."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import rasterio
from affine import Affine
from odc.geo.geobox import GeoBox
from rio_cogeo import cog_validate

from pipelines.products import overviews
from pipelines.products.cog import Effort, assemble
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.overviews import halved, levels, side
from pipelines.products.statistics import Statistics
from swathe.card import ClassLabel
from swathe.errors import OutputError
from swathe.window import Window

CLASSES = (
    ClassLabel(value=0, name="land & <rest>", colour="#d8c090", background=True),
    ClassLabel(value=4, name="forêt", colour="#208030"),
    ClassLabel(value=1, name="water", colour="#2060C0"),
)
RESULT = RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE)
SCORE = RasterSpec("score", "uint8", 255, ("score",), Resampling.AVERAGE, 1 / 254)
FLOOD = LayerSpec(Kind.CLASSES, "Flood map", CLASSES, RESULT, SCORE)
NUMBERS = RasterSpec("result", "float32", math.nan, ("NDVI",), Resampling.AVERAGE, unit="1")


def grid_of(shape, crs="EPSG:32633"):
    return GeoBox(shape, Affine(10, 0, 5e5, 0, -10, 5e6), crs)


def classes_of(shape, seed=0):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([0, 1, 4, 255], size=(shape[0] // 7 + 1, shape[1] // 7 + 1), p=[0.5, 0.2, 0.2, 0.1])
    fine = np.kron(coarse, np.ones((7, 7))).astype(np.uint8)[: shape[0], : shape[1]].copy()
    noise = rng.random(shape) < 0.2
    fine[noise] = rng.choice([0, 1, 4, 255], size=noise.sum())
    return fine


def scatter(image, spec, folder, cuts, lost=()):
    """Cut an image into part files; those whose number is in ``lost`` are not written."""
    bands, parts = image if image.ndim == 3 else image[None], []
    rows, cols = ([*range(0, n, cuts), n] for n in bands.shape[1:])
    for i in range(len(rows) - 1):
        for j in range(len(cols) - 1):
            window = Window(rows[i], cols[j], rows[i + 1] - rows[i], cols[j + 1] - cols[j])
            if len(parts) + 1 in lost:
                lost = [n for n in lost if n != len(parts) + 1]
                continue
            path = folder / f"r{i:05d}c{j:05d}.{spec.name}.tif"
            profile = {"driver": "GTiff", "height": window.height, "width": window.width, "count": len(bands)}
            profile |= {"tiled": True, "blockxsize": spec.block, "blockysize": spec.block}
            where = grid_of(bands.shape[1:])[window.row : window.bottom, window.col : window.right].transform
            with rasterio.open(path, "w", dtype=bands.dtype, nodata=spec.nodata, transform=where, **profile) as file:
                file.write(bands[:, window.row : window.bottom, window.col : window.right])
            parts.append((path, window))
    return parts


@pytest.fixture
def room(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("shape", [(1500, 1100), (512, 512), (1, 1), (700, 3), (2049, 513)])
def test_it_is_a_cog_with_the_pixels_of_the_parts(tmp_path, room, shape):
    image = classes_of(shape)
    target = assemble(scatter(image, RESULT, room, 512), grid_of(shape), FLOOD, RESULT, tmp_path / "result.tif")
    assert cog_validate(str(target), strict=True) == (True, [], [])
    with rasterio.open(target) as file:
        assert np.array_equal(file.read(1), image)
        assert (file.nodata, file.crs.to_epsg(), file.transform) == (255, 32633, grid_of(shape).transform)
        assert (file.compression.name, file.block_shapes[0][1] in (512, 16, *shape)) == ("zstd", True)
        assert file.tags()["AREA_OR_POINT"] == "Area"
        assert file.descriptions == ("class",)
        assert len(file.overviews(1)) == levels(*shape, 512)


def test_palette_and_class_names_are_there_for_gdal(tmp_path, room):
    image = classes_of((600, 700))
    target = assemble(scatter(image, RESULT, room, 512), grid_of(image.shape), FLOOD, RESULT, tmp_path / "result.tif")
    with rasterio.open(target) as file:
        palette = file.colormap(1)
        assert (palette[0][:3], palette[1][:3], palette[4][:3]) == ((216, 192, 144), (32, 96, 192), (32, 128, 48))
        assert palette[255][3] == 0
        assert file.colorinterp[0].name == "palette"
        tags = file.tags(1)
    assert [tags[f"CLASS_{v}"] for v in (0, 1, 4)] == ["land & <rest>", "water", "forêt"]
    side_file = (tmp_path / "result.tif.aux.xml").read_text(encoding="utf-8")
    # GDAL itself, asked for the category names that it found in the side file.
    with rasterio.open(target) as file, rasterio.open(tmp_path / "copy.vrt", "w", **_like(file)):
        pass
    rasterio.shutil.copy(target, tmp_path / "copy.vrt", driver="VRT")
    names = [e.text or "" for e in _xml(tmp_path / "copy.vrt").iter("Category")]
    assert names == ["land & <rest>", "water", "", "", "forêt"]
    assert "GDALRasterAttributeTable" in side_file
    assert [e.get("label") for e in _xml(tmp_path / "result.qml").iter("paletteEntry")] == [
        "land & <rest>",
        "forêt",
        "water",
    ]


def _like(file):
    return {"driver": "GTiff", "height": file.height, "width": file.width, "count": 1, "dtype": "uint8",
            "transform": file.transform}  # fmt: skip


def _xml(path):
    from xml.etree import ElementTree as ET

    return ET.fromstring(path.read_bytes())


def test_statistics_are_exact(tmp_path, room):
    image = classes_of((1300, 900))
    target = assemble(scatter(image, RESULT, room, 512), grid_of(image.shape), FLOOD, RESULT, tmp_path / "result.tif")
    with rasterio.open(target) as file:
        tags = file.tags(1)
    valid = image[image != 255]
    found = [float(tags[f"STATISTICS_{n}"]) for n in ("MINIMUM", "MAXIMUM", "MEAN", "STDDEV", "VALID_PERCENT")]
    expected = [valid.min(), valid.max(), valid.mean(), valid.std(), 100 * valid.size / image.size]
    assert found == pytest.approx(expected, rel=1e-4)
    assert found[2:4] == pytest.approx(expected[2:4], rel=1e-12)


def test_a_score_has_a_scale_and_no_palette(tmp_path, room):
    image = np.where(classes_of((900, 600)) == 255, 255, np.arange(600) % 255).astype(np.uint8)
    target = assemble(scatter(image, SCORE, room, 512), grid_of(image.shape), FLOOD, SCORE, tmp_path / "score.tif")
    assert cog_validate(str(target), strict=True)[0]
    with rasterio.open(target) as file:
        assert np.array_equal(file.read(1), image)
        assert (file.scales, file.offsets, file.nodata) == ((1 / 254,), (0.0,), 255)
        assert file.colorinterp[0].name == "gray"
    assert not (tmp_path / "score.tif.aux.xml").exists()


@pytest.mark.parametrize("bands", [1, 70])
def test_numbers_and_vectors(tmp_path, room, bands):
    shape = (bands, 600, 300)
    image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    image[:, :50, :70] = np.nan
    spec = RasterSpec("result", "float32", math.nan, tuple(f"e{i}" for i in range(bands)), Resampling.AVERAGE, unit="m")
    layer = LayerSpec(Kind.EMBEDDING if bands > 1 else Kind.VALUES, "t", (), spec)
    target = assemble(scatter(image, spec, room, 512), grid_of(shape[1:]), layer, spec, tmp_path / "result.tif")
    assert cog_validate(str(target), strict=True)[0]
    with rasterio.open(target) as file:
        assert np.array_equal(file.read(), image, equal_nan=True)
        assert np.isnan(file.nodata)
        assert file.units[0] == "m"
        assert float(file.tags(bands)["STATISTICS_MEAN"]) == pytest.approx(np.nanmean(image[-1], dtype=np.float64))
        assert file.descriptions[-1] == f"e{bands - 1}"
        assert len(file.overviews(1)) == levels(600, 300, spec.block)
    assert (tmp_path / "result.qml").exists() == (bands == 1)


def test_pixels_of_lost_chunks_are_nodata(tmp_path, room):
    image = classes_of((1024, 1024))
    parts = scatter(image, RESULT, room, 512, lost=[2])
    target = assemble(parts, grid_of(image.shape), FLOOD, RESULT, tmp_path / "result.tif")
    image[:512, 512:] = 255
    with rasterio.open(target) as file:
        assert np.array_equal(file.read(1), image)


def test_nothing_but_nodata_is_a_valid_cog(tmp_path):
    target = assemble([], grid_of((600, 600)), FLOOD, RESULT, tmp_path / "result.tif")
    assert cog_validate(str(target), strict=True)[0]
    with rasterio.open(target) as file:
        assert (file.read(1) == 255).all()
        assert "STATISTICS_MEAN" not in file.tags(1)


def test_the_same_pixels_give_the_same_bytes_however_cut_and_however_many_threads(tmp_path, room):
    image = classes_of((1500, 1300))
    contents = set()
    for number, (cuts, threads) in enumerate(((512, 1), (1024, 2), (2048, 4))):
        folder = room / str(number)
        folder.mkdir()
        parts = scatter(image, RESULT, folder, cuts)
        target = assemble(parts, grid_of(image.shape), FLOOD, RESULT, tmp_path / "result.tif", Effort(threads=threads))
        contents.add(target.read_bytes())
    assert len(contents) == 1


def test_overviews_are_those_of_a_plain_loop(tmp_path, room, monkeypatch):
    monkeypatch.setattr(overviews, "_SIDE", 512)
    image = classes_of((1101, 703))
    target = assemble(scatter(image, RESULT, room, 512), grid_of(image.shape), FLOOD, RESULT, tmp_path / "result.tif")
    expected = image
    for level in range(levels(*image.shape, 512)):
        expected = plain_mode(expected)
        with rasterio.open(target, overview_level=level) as file:
            assert np.array_equal(file.read(1), expected)


def plain_mode(image):
    """The most frequent valid value of every 2 x 2 pixels, one square at a time."""
    small = np.full(tuple(-(-n // 2) for n in image.shape), 255, np.uint8)
    for row in range(small.shape[0]):
        for col in range(small.shape[1]):
            square = image[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].ravel().tolist()
            counts = Counter(v for v in square if v != 255)  # most_common keeps the order of first sight
            if counts:
                small[row, col] = counts.most_common(1)[0][0]
    return small


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), (5, 4), (9, 11), (64, 33)])
@pytest.mark.parametrize("nodata", [0.0, 0.3, 1.0])
def test_means_are_those_of_a_plain_loop(shape, nodata):
    rng = np.random.default_rng(int(nodata * 10) + shape[0])
    absent = rng.random(shape) < nodata
    stored = rng.integers(0, 255, shape).astype(np.uint8)
    values = rng.standard_normal(shape).astype(np.float32)
    stored[absent], values[absent] = 255, np.nan
    small = tuple(-(-n // 2) for n in shape)
    means, floats = np.full(small, 255, np.uint8), np.full(small, np.nan)
    for row in range(small[0]):
        for col in range(small[1]):
            square = slice(2 * row, 2 * row + 2), slice(2 * col, 2 * col + 2)
            here = ~absent[square]
            if here.any():
                means[row, col] = math.floor(stored[square][here].mean(dtype=np.float64) + 0.5)
                floats[row, col] = values[square][here].mean(dtype=np.float64)
    assert np.array_equal(halved(stored, Resampling.AVERAGE), means)
    assert np.allclose(halved(values, Resampling.AVERAGE), floats, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_a_block_of_many_bands_stays_small():
    deep = RasterSpec("result", "float32", math.nan, tuple(map(str, range(768))), Resampling.AVERAGE)
    assert side(deep) ** 2 * 768 * 4 <= 64 << 20
    assert side(RESULT) == 2048


def test_statistics_of_nothing_are_none():
    assert Statistics(NUMBERS).items(0) == {}
    assert Statistics(NUMBERS).span(0) == (0.0, 1.0)
    constant = Statistics(NUMBERS)
    constant.add(np.full((1, 2, 2), 7, np.float32))
    assert constant.span(0) == (6.5, 7.5)


def test_a_damaged_part_is_named_and_the_older_result_stays(tmp_path, room):
    image = classes_of((1024, 600))
    parts = scatter(image, RESULT, room, 512)
    target = tmp_path / "result.tif"
    target.write_bytes(b"of an earlier run")
    content = parts[1][0].read_bytes()
    parts[1][0].write_bytes(content[: len(content) // 2])
    with pytest.raises(OutputError, match=parts[1][0].name) as caught:
        assemble(parts, grid_of(image.shape), FLOOD, RESULT, target)
    assert caught.value.problem.code == "output.part"
    parts[1][0].unlink()
    with pytest.raises(OutputError, match=parts[1][0].name):
        assemble(parts, grid_of(image.shape), FLOOD, RESULT, target)
    assert target.read_bytes() == b"of an earlier run"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "result.tif"]


def test_what_an_interrupted_run_left_behind_is_cleared_away(tmp_path, room):
    stale = tmp_path / ".result.tif.scratch"
    stale.mkdir()
    (stale / "whole.tif").write_bytes(b"half")
    image = classes_of((30, 30))
    assemble(scatter(image, RESULT, room, 512), grid_of(image.shape), FLOOD, RESULT, tmp_path / "result.tif")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["parts", "result.qml", "result.tif", "result.tif.aux.xml"]


def test_a_full_disk_is_told_by_name(tmp_path, room):
    import multiprocessing

    image = np.random.default_rng(0).integers(0, 250, (1024, 1024)).astype(np.uint8)
    parts = scatter(image, SCORE, room, 512)
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_fill_the_disk, args=(parts, image.shape, tmp_path, answer))
    process.start()
    codes = [answer.get(timeout=60) for _ in range(4)]
    process.join()
    assert codes == ["output.full"] * 4
    assert [p.name for p in tmp_path.iterdir()] == ["parts"]


def _fill_the_disk(parts, shape, folder, answer):
    import resource
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    for space in (500, 60_000, 500_000, 1_100_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (space, resource.RLIM_INFINITY))
        try:
            assemble(parts, grid_of(shape), FLOOD, SCORE, folder / "score.tif")
            answer.put("finished")
        except OutputError as error:
            answer.put(error.problem.code)
