"""Pictures: pixels are looked up where they must be, and no text may leave the page."""

from __future__ import annotations

import math

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from PIL import Image, ImageDraw

from pipelines.products import page as page_module
from pipelines.products.cog import assemble
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.lettering import Lettering, plain
from pipelines.products.page import MARGIN, Caption, Entry, page, round_length, ticks
from pipelines.products.picture import Picture, picture, ramp, size
from pipelines.products.preview import Masked, Wording, write_preview
from swathe.card import ClassLabel
from swathe.errors import OutputError
from swathe.masking import NODATA, Mask, code_labels
from swathe.window import Window

CLASSES = (
    ClassLabel(value=0, name="land", colour="#d8c090", background=True),
    ClassLabel(value=1, name="water", colour="#2060c0"),
)
RESULT = RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE)
LAYER = LayerSpec(Kind.CLASSES, "Flood map", CLASSES, RESULT)
NUMBERS = RasterSpec("result", "float32", math.nan, ("biomass",), Resampling.AVERAGE, unit="Mg/ha")


def grid_of(shape, crs="EPSG:32633", step=10.0, corner=(5e5, 5e6)):
    return GeoBox(shape, Affine(step, 0, corner[0], 0, -step, corner[1]), crs)


def cog_of(image, layer, folder, grid=None):
    bands = image if image.ndim == 3 else image[None]
    grid = grid or grid_of(bands.shape[1:])
    profile = {"driver": "GTiff", "height": bands.shape[1], "width": bands.shape[2], "count": len(bands)}
    with rasterio.open(folder / "part.tif", "w", dtype=bands.dtype, transform=grid.transform, **profile) as file:
        file.write(bands)
    placed = [(folder / "part.tif", Window(0, 0, *bands.shape[1:]))]
    return assemble(placed, grid, layer, layer.result, folder / "result.tif"), grid


def test_classes_have_their_colours_and_nodata_is_transparent(tmp_path):
    image = np.zeros((1024, 1024), np.uint8)
    image[:512], image[512:, 512:] = 1, 255
    cog, _ = cog_of(image, LAYER, tmp_path)
    rgba = picture(cog, LAYER, 256, 1.0).rgba
    assert rgba.shape == (256, 256, 4)
    assert (rgba[:128] == (0x20, 0x60, 0xC0, 255)).all()
    assert (rgba[128:, :128] == (0xD8, 0xC0, 0x90, 255)).all()
    assert (rgba[128:, 128:, 3] == 0).all()
    over = picture(cog, LAYER, 256, 1.0, overlay=True).rgba
    assert 0 < over[0, 0, 3] < 255
    assert over[200, 10, 3] == 0


def test_values_run_along_the_ramp_between_the_ends_of_their_range(tmp_path):
    image = np.linspace(0, 100, 600 * 600, dtype=np.float32).reshape(600, 600)
    image[:100, :100] = np.nan
    layer = LayerSpec(Kind.VALUES, "t", (), NUMBERS, range=(0.0, 50.0))
    cog, _ = cog_of(image, layer, tmp_path)
    shown = picture(cog, layer, 600, 1.0)
    assert shown.span == (0.0, 50.0)
    assert (shown.rgba[:100, :100, 3] == 0).all()
    assert shown.rgba[150, 5, :3].tolist() == ramp(256)[round(image[150, 5] / 50 * 255)].tolist()
    assert shown.rgba[-1, -1, :3].tolist() == ramp(2)[1].tolist() == [253, 231, 37]
    free = picture(cog, LayerSpec(Kind.VALUES, "t", (), NUMBERS), 600, 1.0).span
    assert free == pytest.approx(np.nanpercentile(image, (2, 98)), rel=0.02)


def test_one_value_everywhere_and_no_value_at_all_can_be_shown(tmp_path):
    layer = LayerSpec(Kind.VALUES, "t", (), NUMBERS)
    cog, _ = cog_of(np.full((20, 20), 7, np.float32), layer, tmp_path)
    assert picture(cog, layer, 100, 1.0).span == (6.5, 7.5)
    cog, _ = cog_of(np.full((20, 20), np.nan, np.float32), layer, tmp_path)
    assert picture(cog, layer, 100, 1.0).span == (0.0, 1.0)


@pytest.mark.parametrize("bands", [1, 2, 24])
def test_an_embedding_shows_what_differs_most(tmp_path, bands):
    rng = np.random.default_rng(0)
    image = rng.standard_normal((bands, 64, 96)).astype(np.float32) * 0.01
    image[0, :, 48:] += 10
    image[:, :5] = np.nan
    spec = RasterSpec("result", "float32", math.nan, tuple(map(str, range(bands))), Resampling.AVERAGE)
    layer = LayerSpec(Kind.EMBEDDING, "t", (), spec)
    cog, _ = cog_of(image, layer, tmp_path)
    rgba = picture(cog, layer, 96, 1.0).rgba.astype(int)
    height, width = rgba.shape[:2]
    assert (rgba[: height // 16, :, 3] == 0).all()
    assert abs(rgba[height // 2 :, : width // 3, 0].mean() - rgba[height // 2 :, -width // 3 :, 0].mean()) > 150


@given(height=st.integers(1, 40_000), width=st.integers(1, 40_000), aspect=st.floats(0.05, 2))
def test_pictures_keep_proportions_and_fit(height, width, aspect):
    rows, cols = size(height, width, 1024, aspect)
    assert max(rows, cols) <= 1024
    assert min(rows, cols) >= 1
    if min(rows, cols) > 20:
        assert cols / rows == pytest.approx(width * aspect / height, rel=0.06)


def test_small_rasters_are_enlarged_and_degrees_are_squeezed():
    assert size(1, 1, 1024, 1.0) == (1024, 1024)
    assert size(300, 200, 1024, 1.0) == (900, 600)
    assert size(700, 300, 1024, 1.0) == (700, 300)
    assert size(8192, 8192, 1024, 0.5) == (1024, 512)


def test_the_page_holds_title_map_legend_and_scale(tmp_path):
    image = np.zeros((900, 1200), np.uint8)
    image[300:600, 400:800] = 1
    image[:100, :100] = 255
    cog, grid = cog_of(image, LAYER, tmp_path)
    target = write_preview(cog, LAYER, grid, tmp_path / "preview.png", Wording("Flood", "today", "me", {1: "11 %"}))
    with Image.open(target) as shown:
        pixels = np.asarray(shown.convert("RGB")).astype(int)
        assert (shown.format, shown.info["Title"]) == ("PNG", "Flood")
    water = (pixels == (0x20, 0x60, 0xC0)).all(axis=2)
    rows = np.flatnonzero(water.any(axis=1))
    gaps = np.flatnonzero(np.diff(rows) > 1)
    assert len(gaps) >= 1  # on the map and, below it, in the legend
    assert water.sum() == pytest.approx(300 * 400 * (1024 / 1200) ** 2 + 400, rel=0.02)
    assert pixels.shape[1] == 1024 + 2 * MARGIN
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix == ".png") == ["preview.png"]


def test_under_classes_lies_the_background_and_where_there_is_no_result_hatching(tmp_path):
    image = np.zeros((600, 600), np.uint8)
    image[:, 300:] = 1
    image[400:] = 255
    cog, grid = cog_of(image, LAYER, tmp_path)
    under = np.full((50, 50, 3), (200, 30, 40), np.uint8)
    target = write_preview(cog, LAYER, grid, tmp_path / "p.png", Wording("t"), background=under)
    with Image.open(target) as shown:
        pixels = np.asarray(shown.convert("RGB")).astype(int)
    assert (pixels[200, MARGIN + 50 + (640 - 600) // 2] == (200, 30, 40)).all()
    mixed = pixels[200, -MARGIN - 50 - (640 - 600) // 2]
    assert mixed[0] < 200 < mixed[2] + 80
    assert pixels[500:650, 100:500].min() > 200


@pytest.mark.parametrize("kind", [Kind.CLASSES, Kind.VALUES])
def test_what_is_masked_is_covered_and_stands_in_the_legend(tmp_path, kind):
    """Where there is a value; a gap stays one, whatever the mask says of it."""
    image = np.zeros((600, 600), np.uint8)
    image[:, 300:] = 1
    image[400:] = 255
    layer = LAYER if kind is Kind.CLASSES else LayerSpec(Kind.VALUES, "t", (), NUMBERS)
    numbers = image if kind is Kind.CLASSES else np.where(image == 255, np.nan, image).astype(np.float32)
    cog, grid = cog_of(numbers, layer, tmp_path)
    codes = code_labels([Mask.CLOUDS])
    hidden = image.astype(np.int16)
    hidden[100:] = codes[0].value
    with rasterio.open(tmp_path / "masked.tif", "w", driver="GTiff", width=600, height=600, count=1, dtype="int16",
                       nodata=NODATA, crs=grid.crs, transform=grid.transform) as file:  # fmt: skip
        file.write(hidden, 1)
    masked = Masked(tmp_path / "masked.tif", codes)
    target = write_preview(cog, layer, grid, tmp_path / "p.png", Wording("t"), masked=masked)
    with Image.open(target) as shown:
        pixels = np.asarray(shown.convert("RGB"))
    cloud = (pixels == tuple(bytes.fromhex(codes[0].colour[1:]))).all(axis=2)
    rows = np.flatnonzero(cloud.sum(axis=1) > 500)
    assert (len(rows), rows[-1] - rows[0]) == (300, 299)
    assert cloud[rows[-1] + 1 :].sum() > 200  # its line of the legend


class Recorder(ImageDraw.ImageDraw):
    """Remembers what was written where."""

    seen: list = []  # noqa: RUF012

    def text(self, xy, text, *args, font=None, **more):
        Recorder.seen.append((self.im.size, self.textbbox(xy, text, font=font)))
        super().text(xy, text, *args, font=font, **more)


words = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=60)


@settings(deadline=None, max_examples=40)
@given(
    title=words, names=st.lists(words, max_size=24), shape=st.tuples(st.integers(1, 700), st.integers(1, 1024)),
    span=st.one_of(st.none(), st.tuples(st.floats(-1e6, 1e6), st.floats(0.001, 1e6))), metres=st.floats(0.001, 1e5),
)  # fmt: skip
def test_no_text_leaves_the_page_or_runs_into_other_text(title, names, shape, span, metres):
    nothing, ends = np.zeros((*shape, 4), np.uint8), None if span is None else (span[0], span[0] + span[1])
    shown = Picture(nothing, nothing[..., 3] > 0, ends)
    entries = tuple(Entry("#336699", n, n[:9]) for n in names)
    caption = Caption(title, title, title, entries, unit=title, metres_per_pixel=metres, nodata=True)
    Recorder.seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page_module.ImageDraw, "Draw", Recorder)
        page(shown, caption)
    boxes = [b for _, b in Recorder.seen if b[2] > b[0]]
    (width, height) = Recorder.seen[0][0]
    assert all(left >= 0 and right <= width and top >= 0 and bottom <= height for left, top, right, bottom in boxes)
    words_only = [b for b in boxes if span is None]  # ticks of a ramp may come close
    for i, one in enumerate(words_only):
        for other in words_only[i + 1 :]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart, (one, other)


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6))
def test_ticks_are_round_and_few(low, width):
    found = ticks(low, low + width)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-6 * width <= t <= low + width * (1 + 1e-6) for t in found)


def test_lengths_of_a_scale_bar_are_round():
    assert [round_length(m) for m in (1, 1.9, 2, 4999, 5000, 0.07)] == [1, 1, 2, 2000, 5000, pytest.approx(0.05)]


def test_letters_without_a_font_become_their_nearest():
    assert plain("forêt \u2013 10 km² \u00d7 Größe") == "foret - 10 km2 x Grosse"
    assert plain("水") == "?"
    letters = Lettering(rich=False)
    assert letters.fitted("a" * 200, 20, 100).endswith("...")
    assert letters.length(letters.fitted("a" * 200, 20, 100), 20) <= 100
    assert Lettering.of("plain") == Lettering(rich=False)


def test_a_locked_or_missing_folder_is_told_by_name(tmp_path):
    cog, grid = cog_of(np.zeros((9, 9), np.uint8), LAYER, tmp_path)
    with pytest.raises(OutputError):
        write_preview(cog, LAYER, grid, tmp_path / "nowhere" / "p.png", Wording("t"))
