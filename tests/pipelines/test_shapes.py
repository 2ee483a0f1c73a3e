"""Polygons: GDAL's own polygoniser on the whole raster is the oracle, however the raster is cut."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import rasterio.features
import shapely
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipelines.products import shapes as shapes_module
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.merge import load, merge, save
from pipelines.products.regions import Frame
from pipelines.products.shapes import ShapeRules, Tracer, trace
from pipelines.products.simplify import polygons_of
from swathe.card import ClassLabel
from swathe.errors import OutputError
from swathe.window import Window

CLASSES = tuple(ClassLabel(value=v, name=f"c{v}", colour="#336699", background=v == 0) for v in (0, 1, 2, 7))
SPEC = LayerSpec(Kind.CLASSES, "t", CLASSES, RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE))
ALL = ShapeRules(min_px=1)

# Few values over small areas give what is hard: holes, islands in holes, pixels that touch at corners only.
images = st.tuples(st.integers(1, 24), st.integers(1, 24)).flatmap(
    lambda shape: arrays.arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 1, 1, 2, 7, 255]))
)
relaxed = settings(deadline=None, max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])


def scores_of(image):
    rows, cols = np.indices(image.shape)
    return ((rows * 37 + cols * 11) % 255).astype(np.uint8)


def cut(length, inner):
    edges = [0, *sorted({i for i in inner if 0 < i < length}), length]
    return list(itertools.pairwise(edges))


def traced(image, rows, cols, rules, folder):
    """Every chunk on its own, through files, then merged."""
    score, frame, paths = scores_of(image), Frame(image.shape), []
    for (top, bottom), (left, right) in itertools.product(cut(image.shape[0], rows), cut(image.shape[1], cols)):
        window = Window(top, left, bottom - top, right - left)
        part = trace(image[top:bottom, left:right], score[top:bottom, left:right], window, frame, SPEC, rules)
        paths.append(folder / f"{len(paths)}.npz")
        save(part, paths[-1])
    return list(merge(paths, rules))


def rows_of(found):
    """{first pixel: (value, pixels, score, polygon)}; proves that no region comes twice."""
    table = {}
    for part in found:
        facts = part.facts
        polygons = polygons_of(part.outlines)
        for i, polygon in enumerate(polygons):
            assert int(facts.first[i]) not in table
            table[int(facts.first[i])] = (int(facts.value[i]), int(facts.pixels[i]), int(facts.score[i]), polygon)
    return table


def expected(image, score, min_px=1):
    """The same from GDAL and a mask per polygon."""
    keep = np.isin(image, [c.value for c in SPEC.drawn])
    table = {}
    for geometry, value in rasterio.features.shapes(image, mask=keep, connectivity=4):
        polygon = shapely.geometry.shape(geometry)
        inside = rasterio.features.geometry_mask([polygon], image.shape, rasterio.Affine.identity(), invert=True)
        if inside.sum() >= min_px:
            first = int(np.flatnonzero(inside)[0])
            table[first] = (int(value), int(inside.sum()), int(score[inside].sum(dtype=int)), polygon)
    return table


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, row in wanted.items():
        assert found[key][:3] == row[:3]
        assert shapely.normalize(found[key][3]).equals_exact(shapely.normalize(row[3]), 0)


@relaxed
@given(image=images)
def test_one_piece_is_what_gdal_gives(image, tmp_path):
    found = rows_of(traced(image, [], [], ALL, tmp_path))
    same(found, expected(image, scores_of(image)))


@relaxed
@given(
    image=images,
    rows=st.lists(st.integers(1, 23), max_size=4),
    cols=st.lists(st.integers(1, 23), max_size=4),
    band=st.integers(1, 9),
    min_px=st.integers(1, 6),
)
def test_cuts_leave_no_trace(image, rows, cols, band, min_px, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes_module, "BAND", band)
        found = rows_of(traced(image, rows, cols, ShapeRules(min_px=min_px), tmp_path))
    same(found, expected(image, scores_of(image), min_px))


def test_rings_run_counterclockwise_on_a_map_and_holes_clockwise(tmp_path):
    image = np.ones((7, 7), np.uint8)
    image[2:5, 2:5] = 0
    (polygon,) = (row[3] for row in rows_of(traced(image, [3], [3], ALL, tmp_path)).values())
    north_up = shapely.transform(polygon, lambda xy: xy * (1, -1))
    assert shapely.is_ccw(north_up.exterior)
    assert not shapely.is_ccw(north_up.interiors[0])


def test_a_region_that_winds_through_every_chunk_is_one(tmp_path):
    image = np.zeros((41, 41), np.uint8)
    image[::2] = 1
    image[1::4, -1] = image[3::4, 0] = 1
    found = rows_of(traced(image, range(5, 41, 5), range(7, 41, 7), ALL, tmp_path))
    assert len(found) == 1
    same(found, expected(image, scores_of(image)))


def test_the_stream_is_the_same_every_time_and_each_region_comes_once_complete(tmp_path):
    rng = np.random.default_rng(3)
    image = rng.choice([0, 1, 2], size=(60, 60), p=[0.3, 0.5, 0.2]).astype(np.uint8)
    first = [p.facts.first.tolist() for p in traced(image, [20, 40], [20, 40], ALL, tmp_path)]
    assert [p.facts.first.tolist() for p in traced(image, [20, 40], [20, 40], ALL, tmp_path)] == first
    assert len(first) > 9  # chunk by chunk, not all at the end


def test_a_chunk_that_is_missing_counts_as_nodata(tmp_path):
    image = np.ones((20, 20), np.uint8)
    frame, score = Frame(image.shape), scores_of(image)
    whole = image.copy()
    whole[10:, 10:] = 255
    paths = []
    for row, col in ((0, 0), (0, 10), (10, 0)):
        window = Window(row, col, 10, 10)
        cutout = window.within(Window(0, 0, 20, 20))
        paths.append(tmp_path / f"m{row}{col}.npz")
        save(trace(image[cutout], score[cutout], window, frame, SPEC, ALL), paths[-1])
    same(rows_of(merge(paths, ALL)), expected(whole, score))


def test_nothing_to_draw_gives_no_polygons(tmp_path):
    assert rows_of(traced(np.zeros((9, 9), np.uint8), [4], [4], ALL, tmp_path)) == {}
    assert list(merge([], ALL)) == []


def test_row_weights_are_summed(tmp_path):
    image = np.ones((6, 4), np.uint8)
    frame = Frame(image.shape, np.arange(1, 7) * 10)
    parts = [trace(image[a:b], None, Window(a, 0, b - a, 4), frame, SPEC, ALL) for a, b in ((0, 2), (2, 6))]
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for part, path in zip(parts, paths, strict=True):
        save(part, path)
    (found,) = merge(paths, ALL)
    assert found.facts.ground.tolist() == [4 * 210]
    assert found.facts.score.tolist() == [0]


def test_rows_that_do_not_fill_the_chunk_are_refused():
    tracer = Tracer(Window(0, 0, 8, 8), Frame((8, 8)), SPEC, ALL)
    tracer.add(np.ones((5, 8), np.uint8))
    with pytest.raises(ValueError, match="row 5"):
        tracer.finish()


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 and then nothing"])
def test_a_damaged_file_is_named(tmp_path, damage):
    path = tmp_path / "r00000c00000.shapes.npz"
    path.write_bytes(damage)
    with pytest.raises(OutputError, match=path.name) as caught:
        list(merge([path], ALL))
    assert caught.value.problem.code == "output.part"


def test_a_file_gives_back_what_was_saved(tmp_path):
    image = np.random.default_rng(1).choice([0, 1, 2], size=(30, 30)).astype(np.uint8)
    for rules in (ALL, ShapeRules(1, 1.5)):
        part = trace(image, scores_of(image), Window(0, 0, 30, 30), Frame((60, 60)), SPEC, rules)
        save(part, tmp_path / "part.npz")
        back = load(tmp_path / "part.npz")
        assert back.closed.facts.first.tolist() == part.closed.facts.first.tolist()
        assert np.array_equal(back.closed.outlines.points, part.closed.outlines.points)
        assert np.array_equal(back.open.drawing.region, part.open.drawing.region)


# --- simplified -----------------------------------------------------------------------------------------------


def blobs(side, seed):
    """Smooth regions, the kind of outline that is worth simplifying."""
    from scipy.ndimage import gaussian_filter

    field = gaussian_filter(np.random.default_rng(seed).standard_normal((side, side)), 6)
    return np.array([7, 1, 2, 1], np.uint8)[np.digitize(field / field.std(), [-0.8, 0.0, 0.9])]


@pytest.fixture
def small_cells(monkeypatch):
    from pipelines.products import simplify

    monkeypatch.setattr(simplify, "CELL", 32)
    monkeypatch.setattr(shapes_module, "BAND", 32)


@pytest.mark.usefixtures("small_cells")
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_simplified_borders_stay_shared(tmp_path, seed):
    image = blobs(120, seed)
    found = rows_of(traced(image, [32, 96], [64], ShapeRules(1, 2.0), tmp_path))
    polygons = np.array([row[3] for row in found.values()])
    assert shapely.is_valid(polygons).all()
    assert shapely.area(polygons).sum() == image.size  # no overlap where the union is whole, no gap where it is not
    assert shapely.union_all(polygons).area == image.size
    exact = rows_of(traced(image, [], [], ALL, tmp_path))
    assert found.keys() == exact.keys()
    assert sum(shapely.get_num_coordinates(polygons)) < 0.6 * sum(len(r[3].exterior.coords) for r in exact.values())


@pytest.mark.usefixtures("small_cells")
def test_simplified_outlines_do_not_depend_on_the_chunks(tmp_path):
    image = blobs(128, 5)
    rules = ShapeRules(1, 1.5)
    found = [rows_of(traced(image, r, c, rules, tmp_path)) for r, c in (([], []), ([32], [96]), ([64, 96], [32, 64]))]
    for other in found[1:]:
        same(other, found[0])


@pytest.mark.usefixtures("small_cells")
def test_simplified_regions_keep_the_facts_of_their_pixels(tmp_path):
    image = blobs(100, 7)
    found = rows_of(traced(image, [64], [32], ShapeRules(5, 2.0), tmp_path))
    wanted = expected(image, scores_of(image), 5)
    assert {k: v[:3] for k, v in found.items()} == {k: v[:3] for k, v in wanted.items()}


@pytest.mark.usefixtures("small_cells")
@relaxed
@given(image=images)
def test_simplifying_never_breaks_a_polygon(image, tmp_path):
    found = rows_of(traced(image, [7], [11], ShapeRules(1, 1.0), tmp_path))
    polygons = np.array([row[3] for row in found.values()], dtype=object)
    assert shapely.is_valid(polygons).all()
    drawn = np.isin(image, [1, 2, 7])
    assert len(found) == len(expected(image, scores_of(image)))
    assert drawn.any() == bool(len(found))
