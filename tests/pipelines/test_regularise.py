"""Regular polygons: turned rectangles come back from their pixels; real buildings; what holds for any outline."""

import json

import geopandas
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize, shapes
from shapely import affinity

from pipelines.products.geoparquet import Drawing
from pipelines.products.ground import ground_of
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.orthogonal import Limits, orthogonal
from pipelines.products.regularise import regularise
from swathe.card import ClassLabel
from swathe.errors import InputError
from swathe.regularity import Manner, Regularity

CLASSES = (
    ClassLabel(value=0, name="ground", colour="#d8c090", background=True),
    ClassLabel(value=1, name="building", colour="#c02020"),
    ClassLabel(value=2, name="yard", colour="#20c020"),
)
RESULT = RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE)
LAYER = LayerSpec(Kind.CLASSES, "Buildings", CLASSES, RESULT)
UTM = GeoBox((400, 500), Affine(0.5, 0, 5e5, 0, -0.5, 5e6), "EPSG:32633")


def traced(shape, transform=None):
    """A shape as pixels of 1, and its outline."""
    west, _, _, north = shape.bounds
    transform = transform or Affine(1, 0, np.floor(west) - 3, 0, -1, np.ceil(north) + 3)
    size = int(max(np.ptp(shapely.get_coordinates(shape), axis=0)) / -transform.e) + 100
    pixels = rasterize([(shape, 1)], (size, size), transform=transform, dtype="uint8")
    found = [shapely.geometry.shape(s) for s, _ in shapes(pixels, mask=pixels == 1, transform=transform)]
    return max(found, key=lambda p: p.area)


def iou(one, other):
    return one.intersection(other).area / one.union(other).area


def right_angles(polygon, squeeze=1.0):
    """Largest deviation of a corner from 90 degrees."""
    worst = 0.0
    for ring in (polygon.exterior, *polygon.interiors):
        points = np.array(ring.coords)[:-1] * (squeeze, 1)
        steps = np.roll(points, -1, axis=0) - points
        angle = np.degrees(np.arctan2(steps[:, 1], steps[:, 0]))
        turn = np.abs((angle - np.roll(angle, 1) + 180) % 360 - 180)
        worst = max(worst, float(np.abs(turn - 90).max()))
    return worst


PLANS = {
    4: lambda w, h: shapely.box(0, 0, w, h),
    6: lambda w, h: shapely.box(0, 0, w, h).difference(shapely.box(0, 0, w / 2, h / 2)),
    8: lambda w, h: shapely.box(0, 0, w, h).difference(shapely.box(0.3 * w, 0.6 * h, 0.7 * w, h)),
}


@pytest.mark.parametrize("corners", PLANS)
def test_turned_buildings_come_back_from_their_pixels(corners):
    rng = np.random.default_rng(corners)
    gains, turns = [], []
    for _ in range(40):
        angle = rng.uniform(0, 180)
        truth = affinity.rotate(PLANS[corners](*rng.uniform(12, 40, 2)), angle, origin=(0, 0))
        pixels = traced(truth)
        found = orthogonal(pixels, 1.0)
        assert found.regular
        assert len(found.polygon.exterior.coords) - 1 == corners
        assert right_angles(found.polygon) < 1e-6
        assert iou(found.polygon, truth) > 0.92
        assert found.iou == pytest.approx(iou(found.polygon, pixels))
        gains.append(iou(found.polygon, truth) - iou(pixels, truth))
        first = np.array(found.polygon.exterior.coords[1]) - found.polygon.exterior.coords[0]
        turns.append(abs((np.degrees(np.arctan2(first[1], first[0])) - angle + 45) % 90 - 45))
    assert np.mean(gains) > 0.02
    assert np.median(turns) < 0.5


def test_a_courtyard_stays():
    truth = affinity.rotate(shapely.box(0, 0, 40, 30).difference(shapely.box(12, 10, 28, 20)), 27)
    found = orthogonal(traced(truth), 1.0)
    assert found.regular
    assert len(found.polygon.interiors) == 1
    assert right_angles(found.polygon) < 1e-6
    assert iou(found.polygon, truth) > 0.93


def test_angles_are_right_on_the_ground_where_coordinates_are_degrees():
    squeeze = float(np.cos(np.radians(60)))
    metres = affinity.rotate(shapely.box(0, 0, 40, 24), 33)
    degrees = shapely.transform(metres, lambda xy: xy / (111_320 * squeeze, 111_320) + (10, 60))
    pixel = 1 / 111_320
    outline = traced(degrees, Affine(pixel / squeeze, 0, 10 - 40 * pixel, 0, -pixel, 60 + 60 * pixel))
    found = orthogonal(outline, pixel, squeeze)
    assert found.regular
    assert right_angles(found.polygon, squeeze) < 1e-6
    assert right_angles(found.polygon) > 1
    assert iou(found.polygon, degrees) > 0.9


def test_what_has_no_right_angles_is_left_as_it_was():
    disc = traced(shapely.Point(0, 0).buffer(60))
    strict = orthogonal(disc, 1.0, limits=Limits(iou=0.995, area=0.001))
    assert not strict.regular
    assert strict.polygon.equals(disc)


@given(st.integers(0, 2**32 - 1), st.integers(3, 40), st.floats(0.2, 0.9), st.sampled_from([0.3, 1.0, 7.0]))
@settings(max_examples=60)
def test_any_outline_stays_valid_and_near(seed, side, share, pixel):
    rng = np.random.default_rng(seed)
    coarse = rng.random((side, side)) < share
    image = np.kron(coarse, np.ones((2, 2), bool)).astype(np.uint8)
    place = Affine(pixel, 0, 1e5, 0, -pixel, 5e6)
    for shape, _ in shapes(image, mask=image == 1, transform=place):
        polygon = shapely.geometry.shape(shape)
        found = orthogonal(polygon, pixel)
        assert found.polygon.is_valid
        assert found.polygon.area > 0
        assert abs(found.polygon.area / polygon.area - 1) <= 0.15 + 1e-6
        if found.regular:
            assert right_angles(found.polygon) < 1e-4
            assert iou(found.polygon, polygon) >= 0.7 - 1e-9
        else:
            assert found.polygon.equals(polygon)


def chip_of(real_data):
    """Labels of real buildings, drawn on a grid of 30 cm."""
    labels = geopandas.read_file(real_data / "buildings_oam_chips" / "labels.geojson")
    labels = labels.to_crs(labels.estimate_utm_crs())
    west, south, east, north = labels.total_bounds
    return labels, Affine(0.3, 0, west - 3, 0, -0.3, north + 3), (south, east)


def test_real_buildings_are_nearer_to_their_labels_than_their_pixels_are(real_data):
    labels, place, _ = chip_of(real_data)
    before, after, regular = [], [], 0
    for label in labels.geometry.explode():
        if label.area < 20 or not label.is_valid:
            continue
        window = place * Affine.translation(
            int((label.bounds[0] - place.c) / 0.3) - 3, int((place.f - label.bounds[3]) / 0.3) - 3
        )
        outline = traced(label, window)
        found = orthogonal(outline, 0.3)
        regular += found.regular
        before.append(iou(outline, label))
        after.append(iou(found.polygon, label))
    assert len(before) > 100
    assert regular / len(before) > 0.85
    assert np.mean(after) > 0.9
    assert np.median(after) > np.median(before)


# --- files ----------------------------------------------------------------------------------------------------------


def town(folder, name="result.tif", codes=False):
    """Turned buildings in yards; where codes are, the left half is masked."""
    rng = np.random.default_rng(2)
    image = np.zeros(tuple(UTM.shape), np.uint8)
    for x in range(20, 230, 40):
        for y in range(20, 180, 40):
            plan = affinity.rotate(shapely.box(0, 0, *rng.uniform(10, 18, 2)), rng.uniform(0, 90), origin="center")
            plan = affinity.translate(plan, 5e5 + x, 5e6 - y - 10)
            yard = plan.buffer(4)
            rasterize([(yard, 2), (plan, 1)], out=image, transform=UTM.transform)
    image[:30] = 255
    data, nodata = image, 255
    if codes:
        data, nodata = np.where(image == 255, -9999, image).astype(np.int16), -9999
        data[:, :250] = 999
    with rasterio.open(folder / name, "w", driver="GTiff", count=1, height=400, width=500, dtype=data.dtype,
                       crs="EPSG:32633", transform=UTM.transform, nodata=nodata) as file:  # fmt: skip
        file.write(data, 1)
    return folder / name, image


DRAWING = Drawing(LAYER, UTM, ground_of(UTM))


def test_a_table_and_a_geojson_of_buildings(tmp_path):
    raster, image = town(tmp_path)
    facts = regularise(raster, DRAWING, Regularity(), 4)
    table = geopandas.read_parquet(tmp_path / "regularised.parquet")
    assert table.crs == "EPSG:32633"
    assert table.geometry.is_valid.all()
    assert facts["count"] == len(table) == facts["regular"] + facts["kept"]
    buildings = table[table["class"] == 1]
    assert len(buildings) == 24
    assert buildings["regular"].all()
    assert all(right_angles(p) < 1e-4 for p in buildings.geometry)
    assert buildings["area_m2"].to_numpy() == pytest.approx(buildings.geometry.area.to_numpy(), abs=0.02)
    assert (buildings["area_m2"] / (buildings["pixels"] * 0.25) - 1).abs().max() <= facts["largest_area_change"] + 1e-3
    assert (image == 1).sum() == buildings["pixels"].sum()
    document = json.loads((tmp_path / "regularised.geojson").read_text())
    assert len(document["features"]) == len(table)
    assert document["features"][0]["properties"]["regular"] in (True, False)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_squares_of_any_size_give_the_same_table(tmp_path, monkeypatch):
    from pipelines.products import regularise as module

    raster, _ = town(tmp_path)
    tables = []
    for side in (4096, 512, 128):
        monkeypatch.setattr(module, "SIDE", side)
        regularise(raster, DRAWING, Regularity(), 4)
        table = geopandas.read_parquet(tmp_path / "regularised.parquet").sort_values("id")
        tables.append([(row.id, row.geometry.wkb, row.area_m2) for row in table.itertuples()])
    assert tables[0] == tables[1] == tables[2]


def test_what_is_masked_becomes_no_polygon(tmp_path):
    raster, image = town(tmp_path, "masked.tif", codes=True)
    regularise(raster, DRAWING, Regularity(), 1)
    table = geopandas.read_parquet(tmp_path / "regularised.parquet")
    assert table["pixels"].sum() == ((image[:, 250:] > 0) & (image[:, 250:] < 255)).sum()
    assert table.geometry.bounds["minx"].min() > 5e5 + 115


def test_smooth_outlines_still_share_their_borders(tmp_path):
    raster, image = town(tmp_path)
    facts = regularise(raster, DRAWING, Regularity(Manner.SMOOTH, 1.5), 1)
    table = geopandas.read_parquet(tmp_path / "regularised.parquet")
    assert "regular" not in table
    assert facts["manner"] == "smooth"
    assert shapely.coverage_is_valid(table.geometry.to_numpy())
    exact = ((image > 0) & (image < 255)).sum() * 0.25
    assert table.geometry.area.sum() == pytest.approx(exact, rel=0.03)
    corners = shapely.get_num_coordinates(table.geometry.to_numpy()).sum()
    regularise(raster, DRAWING, Regularity(Manner.SMOOTH, 0.5), 1)
    finer = geopandas.read_parquet(tmp_path / "regularised.parquet")
    assert corners < shapely.get_num_coordinates(finer.geometry.to_numpy()).sum()


def test_a_result_of_numbers_has_no_polygons(tmp_path):
    heights = LayerSpec(Kind.VALUES, "H", (), RasterSpec("result", "float32", np.nan, ("m",), Resampling.AVERAGE))
    with pytest.raises(InputError) as told:
        regularise(tmp_path / "result.tif", Drawing(heights, UTM, ground_of(UTM)), Regularity(), 4)
    assert told.value.problem.code == "regularise.classes"


def test_nothing_to_draw_gives_empty_files(tmp_path):
    with rasterio.open(tmp_path / "result.tif", "w", driver="GTiff", count=1, height=400, width=500, dtype="uint8",
                       crs="EPSG:32633", transform=UTM.transform, nodata=255) as file:  # fmt: skip
        file.write(np.zeros((400, 500), np.uint8), 1)
    assert regularise(tmp_path / "result.tif", DRAWING, Regularity(), 4)["count"] == 0
    assert len(geopandas.read_parquet(tmp_path / "regularised.parquet")) == 0


@pytest.mark.parametrize("text", ["round", "buildings=0", "smooth=x", "buildings=900", ""])
def test_manners_that_are_none_are_refused(text):
    with pytest.raises(InputError) as told:
        Regularity.parse(text)
    assert told.value.problem.code == "regularise.unknown"
    assert Regularity.parse("smooth=1.5") == Regularity(Manner.SMOOTH, 1.5)
