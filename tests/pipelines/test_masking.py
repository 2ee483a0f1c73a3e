"""Masks of results against numpy on whole arrays, real masks, and the packaged coast."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as ET

import geopandas as gpd
import numpy as np
import pytest
import rasterio
import shapely
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize
from rasterio.warp import Resampling as Warp
from rasterio.warp import reproject
from rio_cogeo.cogeo import cog_validate
from scipy.ndimage import distance_transform_edt

from pipelines.layers.published import Of, layers_of
from pipelines.masking import masked
from pipelines.masking.choose import Site, answers
from pipelines.masking.layers import load_layers, read_layer
from pipelines.masking.masked import painted, write_masked
from pipelines.masking.pack import flat, pack
from pipelines.masking.topojson import read_topojson
from pipelines.masking.vector import PolygonFile, drawn, polygons_of
from pipelines.mosaic.frame import period
from pipelines.products.cog import assemble
from pipelines.products.item import ItemFacts, ModelFacts, make_item
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling
from pipelines.products.overviews import halved
from pipelines.remote.network import Network
from swathe.card import ClassLabel
from swathe.errors import InputError, ReadError
from swathe.masking import CODES, NODATA, Mask, Masking, MaskLayer
from swathe.mosaic import Composite
from swathe.source import MaskRule, SourceMask
from swathe.window import Window
from tests.pipelines.scenes import Place, make_scene, mosaic_of, write

ROOT = Path(__file__).resolve().parent.parent.parent
COAST = ROOT / "configs" / "layers" / "natural-earth-land-10m.topojson.gz"
RESULT = RasterSpec("result", "uint8", 255, ("class",), Resampling.MODE)
CLASSES = (ClassLabel(value=0, name="dry", colour="#d8c090"), ClassLabel(value=1, name="wet", colour="#2060c0"))
LAYER = LayerSpec(Kind.CLASSES, "Floods", CLASSES, RESULT)
HEIGHTS = LayerSpec(Kind.VALUES, "Heights", (), RasterSpec("result", "float32", np.nan, ("m",), Resampling.AVERAGE))
PLACE = Place(shape=(300, 420))


@dataclass(frozen=True)
class Stand:
    """What a plan's work is to masking: imagery, grid, area."""

    imagery: object
    grid: GeoBox
    area: object = None
    stride: int = 1
    origin: tuple = (0, 0)

    @property
    def shape(self):
        return tuple(self.grid.shape)

    @property
    def transform(self):
        return self.grid.transform

    def pixels_of(self, window):
        return window


FILES = object()
"""Given imagery: no mosaic."""


def grid_of(place):
    return GeoBox(place.shape, Affine(*place.transform), place.crs)


def result_of(folder, data, grid, nodata=255):
    with rasterio.open(
        folder / "result.tif", "w", driver="GTiff", count=1, height=data.shape[0], width=data.shape[1],
        dtype=data.dtype, nodata=nodata, crs=str(grid.crs), transform=grid.transform, tiled=True,
    ) as file:  # fmt: skip
        file.write(data, 1)


def observed(folder, index, grid):
    """``index``: (T, h, w) numbers of scenes."""
    bands = np.repeat(index, 2, axis=0).astype(np.uint16)
    with rasterio.open(
        folder / "observations.tif", "w", driver="GTiff", count=len(bands), height=grid.shape[0], width=grid.shape[1],
        dtype="uint16", crs=str(grid.crs), transform=grid.transform,
    ) as file:  # fmt: skip
        file.write(bands)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


def classes_of(shape, seed=0):
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 2, shape).astype(np.uint8)
    data[:20] = 255
    return data


def scl_of(shape, seed):
    rng = np.random.default_rng(seed)
    coarse = rng.choice([3, 4, 6, 8, 9, 10, 11, 0], size=(shape[0] // 20 + 1, shape[1] // 20 + 1))
    return np.kron(coarse, np.ones((20, 20)))[: shape[0], : shape[1]].astype(np.uint8)


def near(found, radius):
    return found if not radius or not found.any() else distance_transform_edt(~found) <= radius


# --- what is asked for ----------------------------------------------------------------------------------------------


def test_masks_are_named_in_any_order_and_kept_in_one():
    asked = Masking.parse("clouds, water=jrc,ocean", 3, ("fmask=a.tif",))
    assert [m for m, _ in asked.masks] == [Mask.WATER, Mask.OCEAN, Mask.CLOUDS]
    assert dict(asked.masks)[Mask.WATER] == "jrc"
    assert asked.files[0].rule is MaskRule.FMASK


@pytest.mark.parametrize(
    ("text", "buffer", "files", "code"),
    [
        ("fog", 0, (), "mask.unknown"),
        ("", 0, (), "mask.unknown"),
        ("clouds", -1, (), "mask.buffer"),
        ("clouds", 100_000, (), "mask.buffer"),
        ("clouds", 0, ("a.tif",), "mask.file"),
        ("clouds", 0, ("omnicloudmask=a.tif",), "mask.file"),
        ("clouds", 0, ("fmask=",), "mask.file"),
    ],
)
def test_what_cannot_be_asked_is_refused(text, buffer, files, code):
    with pytest.raises(InputError) as told:
        Masking.parse(text, buffer, files)
    assert told.value.problem.code == code
    assert told.value.hint


# --- scenes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def two_scenes(tmp_path):
    """(mosaic, (2, h, w) scene classes, (h, w) which scene was used: 0, 1 or 2)."""
    grid = grid_of(PLACE)
    codes = np.stack([scl_of(PLACE.shape, n) for n in (1, 2)])
    scenes = [make_scene(tmp_path, f"s{n}", PLACE, scl=codes[n], when=f"2024-07-0{n + 1}T10:00:00Z") for n in (0, 1)]
    rule = SourceMask(rule=MaskRule.SCL, asset="scl", drop=("nodata",))
    mosaic = mosaic_of(scenes, PLACE, mask=rule, composite=Composite.LATEST)
    used = np.random.default_rng(5).choice([0, 1, 2], size=PLACE.shape)
    observed(tmp_path, used[None], grid)
    return mosaic, codes, used


def site_of(folder, mosaic, layers=(), **options):
    imagery = Stand(mosaic, grid_of(PLACE), **options)
    return Site(imagery, folder, {card.id: card for card in layers})


@pytest.mark.parametrize("buffer", [0, 4])
@pytest.mark.parametrize("side", [512, 1024])
def test_each_pixel_is_masked_by_the_scene_it_is_from(two_scenes, tmp_path, monkeypatch, buffer, side):
    monkeypatch.setattr(masked, "SIDE", side)
    mosaic, codes, used = two_scenes
    data = classes_of(PLACE.shape)
    data[used == 0] = 255
    result_of(tmp_path, data, grid_of(PLACE))
    facts = write_masked(site_of(tmp_path, mosaic), Masking.parse("clouds,snow", buffer), LAYER)

    def said(words):
        each = np.stack([near(np.isin(c, words), buffer) for c in codes])
        return np.where(used == 0, each.any(axis=0), np.where(used == 1, each[0], each[1]))

    want = np.where(data == 255, NODATA, data.astype(np.int16))
    want[said([11])] = 998
    want[said([3, 8, 9, 10])] = 999
    found = read(tmp_path / "masked.tif")
    assert found.dtype == np.int16
    assert np.array_equal(found, want)
    assert (want == 998).any()
    by_mask = {m["mask"]: m for m in facts["masks"]}
    assert by_mask["clouds"]["pixels"] == (want == 999).sum()
    assert by_mask["snow"]["found"] == said([11]).sum() > by_mask["snow"]["pixels"]
    assert by_mask["clouds"]["from"]["kind"] == "scenes"
    assert by_mask["clouds"]["from"]["rule"] == "scl"
    assert facts["pixels"]["nodata"] == (want == NODATA).sum()
    assert np.array_equal(read(tmp_path / "result.tif"), data)


def test_a_buffer_does_not_depend_on_the_area(two_scenes, tmp_path):
    """Clouds beyond a result's edge count: a part of it is masked as the whole is."""
    mosaic, _, used = two_scenes
    data = classes_of(PLACE.shape)
    result_of(tmp_path, data, grid_of(PLACE))
    write_masked(site_of(tmp_path, mosaic), Masking.parse("clouds", 9), LAYER)
    whole = read(tmp_path / "masked.tif")
    part = Window(37, 51, 100, 90)
    (tmp_path / "part").mkdir()
    small = grid_of(PLACE)[part.row : part.bottom, part.col : part.right]
    cut = part.within(Window(0, 0, *PLACE.shape))
    result_of(tmp_path / "part", data[cut], small)
    observed(tmp_path / "part", used[None][:, *cut], small)
    from tests.pipelines.scenes import cropped

    stand = Stand(cropped(mosaic, part), small)
    write_masked(Site(stand, tmp_path / "part", {}), Masking.parse("clouds", 9), LAYER)
    assert np.array_equal(read(tmp_path / "part" / "masked.tif"), whole[cut])


def test_outside_the_area_nothing_is_masked(two_scenes, tmp_path):
    mosaic, *_ = two_scenes
    data = np.full(PLACE.shape, 255, np.uint8)
    result_of(tmp_path, data, grid_of(PLACE))
    area = shapely.box(PLACE.x + 500, PLACE.y - 2000, PLACE.x + 2500, PLACE.y - 500)
    write_masked(site_of(tmp_path, mosaic, area=area), Masking.parse("clouds"), LAYER)
    found = read(tmp_path / "masked.tif")
    assert (found[50:200, 50:250] == 999).any()
    found[50:200, 50:250] = NODATA
    assert (found == NODATA).all()


def test_permanent_water_is_water_whenever_the_ground_was_seen(two_scenes, tmp_path):
    mosaic, codes, _ = two_scenes
    data = np.ones(PLACE.shape, np.uint8)
    result_of(tmp_path, data, grid_of(PLACE))
    card = MaskLayer(id="own-water", title="w", masks=("water",), kind="scenes", licence="-", documentation="-")
    for asked, layers in (("water=scenes", ()), ("water", (card,))):
        write_masked(site_of(tmp_path, mosaic, layers), Masking.parse(asked), LAYER)
        clear = ~np.isin(codes, [0, 3, 8, 9, 10, 11])
        always = ((codes == 6) | ~clear).all(axis=0) & clear.any(axis=0)
        assert np.array_equal(read(tmp_path / "masked.tif") == 997, always)
        assert always.any()


def test_what_nothing_can_tell_is_said(two_scenes, tmp_path):
    mosaic, *_ = two_scenes
    bare = site_of(tmp_path, FILES)
    for asked, site, word in (
        ("clouds", bare, "--mask-file"),
        ("snow", bare, "--mask-file"),
        ("water", site_of(tmp_path, mosaic), "water=scenes"),
        ("ocean", bare, "layer"),
        ("clouds", site_of(tmp_path, replace(mosaic, mask=None)), "--source"),
        ("snow", site_of(tmp_path, replace(mosaic, mask=SourceMask(rule=MaskRule.VALID, asset="m"))), "SCL"),
    ):
        with pytest.raises(InputError) as told:
            answers(Masking.parse(asked), site.work, site.layers)
        assert told.value.problem.code == "mask.unanswered"
        assert word in told.value.hint
    some = answers(Masking.parse("clouds,snow,water,ocean"), site_of(tmp_path, mosaic).work, {})
    assert some.masks == (Mask.SNOW, Mask.CLOUDS)
    assert [error.problem.code for error in some.missing] == ["mask.unanswered"] * 2
    with pytest.raises(InputError) as told:
        answers(Masking.parse("water=nowhere"), bare.work, {})
    assert told.value.problem.code == "mask.layer"


def test_an_embedding_has_no_room_for_codes(tmp_path):
    layer = LayerSpec(
        Kind.EMBEDDING, "E", (), RasterSpec("result", "float32", np.nan, ("e0", "e1"), Resampling.AVERAGE)
    )
    result_of(tmp_path, np.zeros(PLACE.shape, np.float32), grid_of(PLACE), np.nan)
    with pytest.raises(InputError) as told:
        write_masked(site_of(tmp_path, FILES), Masking.parse("ocean"), layer)
    assert told.value.problem.code == "mask.embedding"
    assert not (tmp_path / "masked.tif").exists()


# --- files and layers -----------------------------------------------------------------------------------------------


def test_a_real_fmask_as_a_file_of_ones_own(real_data, tmp_path):
    """An HLS tile's Fmask over a grid of another CRS and pixel, against GDAL's nearest neighbour."""
    (path,) = (real_data / "hls_fmask_fulltile").glob("*.tif")
    grid = GeoBox((700, 900), Affine(0.0004, 0, -106.6, 0, -0.0003, 29.05), "EPSG:4326")
    data = np.ones(tuple(grid.shape), np.uint8)
    result_of(tmp_path, data, grid)
    site = Site(Stand(FILES, grid), tmp_path, {})
    facts = write_masked(site, Masking.parse("clouds,snow", 0, (f"fmask={path}",)), LAYER)
    codes = np.full(data.shape, 255, np.uint8)
    with rasterio.open(path) as file:
        reproject(rasterio.band(file, 1), codes, dst_transform=grid.transform, dst_crs="EPSG:4326",
                  resampling=Warp.nearest, tolerance=0, dst_nodata=255)  # fmt: skip
    cloud = (codes != 255) & (codes & 0b1011 > 0)
    found = read(tmp_path / "masked.tif")
    assert ((found == 999) != cloud).mean() < 1e-3
    assert 0.001 < cloud.mean() < 0.999
    (told,) = [m["from"] for m in facts["masks"] if m["mask"] == "clouds"]
    assert told["kind"] == "files"
    assert told["words"] == ["cloud", "shadow", "cirrus"]


def test_a_mask_file_on_the_same_grid_is_taken_pixel_by_pixel(real_data, tmp_path):
    (path,) = (real_data / "hls_fmask_fulltile").glob("*.tif")
    with rasterio.open(path) as file:
        codes, transform = file.read(1)[1000:1900, 500:1700], file.transform
    grid = GeoBox((3660, 3660), transform, "EPSG:32613")[1000:1900, 500:1700]
    data = np.zeros(codes.shape, np.uint8)
    result_of(tmp_path, data, grid)
    write_masked(Site(Stand(FILES, grid), tmp_path, {}), Masking.parse("clouds", 2, (f"fmask={path}",)), LAYER)
    with rasterio.open(path) as file:
        around = file.read(1)[998:1902, 498:1702]
    want = near((around != 255) & (around & 0b1011 > 0), 2)[2:-2, 2:-2]
    assert np.array_equal(read(tmp_path / "masked.tif") == 999, want)


def card_of(**facts):
    return MaskLayer(**{"id": "own", "title": "Own", "licence": "CC0-1.0", "documentation": "here"} | facts)


def test_a_raster_layer_with_a_threshold(tmp_path):
    """Occurrence of water in percent, of 30 m, half outside; two files of which the first counts."""
    coarse = Place(PLACE.crs, PLACE.x - 600, PLACE.y + 300, 30.0, (90, 100))
    occurrence = np.random.default_rng(3).integers(0, 102, coarse.shape).astype(np.uint8)
    occurrence[occurrence == 101] = 255
    first = write(tmp_path / "gsw.tif", occurrence, coarse.crs, coarse.transform, nodata=255)
    second = write(tmp_path / "all.tif", np.full(coarse.shape, 100, np.uint8), coarse.crs, coarse.transform)
    data = np.zeros(PLACE.shape, np.uint8)
    data[:, -30:] = 255
    result_of(tmp_path, data, grid_of(PLACE))
    card = card_of(masks=("water",), kind="raster", files=(str(first), str(second)), at_least=75, at_most=100)
    facts = write_masked(site_of(tmp_path, FILES, (card,)), Masking.parse("water"), LAYER)
    rows, cols = np.indices(PLACE.shape)
    r, c = (rows * 10 + 5 + 300) // 30, (cols * 10 + 5 + 600) // 30
    inside = (r < 90) & (c < 100)
    at = np.where(inside, occurrence[np.minimum(r, 89), np.minimum(c, 99)], 0)
    want = ((at >= 75) & (at <= 100)) | ((at == 255) & inside)
    assert np.array_equal(read(tmp_path / "masked.tif") == 997, want & (data != 255))
    assert facts["masks"][0]["from"]["at_least"] == 75
    assert facts["masks"][0]["from"]["licence"] == "CC0-1.0"


@pytest.mark.parametrize("outside", [False, True])
def test_polygons_of_a_file(tmp_path, outside):
    import geopandas as gpd

    shapes = [
        shapely.Point(PLACE.x + 900, PLACE.y - 900).buffer(700),
        shapely.box(PLACE.x, PLACE.y - 2950, 5e5 + 800, 0),
    ]
    gpd.GeoSeries(shapes, crs=PLACE.crs).to_crs("EPSG:4326").to_file(tmp_path / "lakes.gpkg")
    data = np.zeros(PLACE.shape, np.uint8)
    result_of(tmp_path, data, grid_of(PLACE))
    card = card_of(masks=("water",), kind="vector", files=(str(tmp_path / "lakes.gpkg"),), outside=outside)
    write_masked(site_of(tmp_path, FILES, (card,)), Masking.parse("water"), LAYER)
    want = rasterize([(s, 1) for s in shapes], PLACE.shape, transform=Affine(*PLACE.transform)).astype(bool)
    found = read(tmp_path / "masked.tif") == 997
    assert (found != (want != outside)).sum() <= 3
    assert 0.05 < want.mean() < 0.95


def test_numbers_keep_their_type_and_are_never_averaged_with_a_code(tmp_path):
    rng = np.random.default_rng(1)
    data = rng.random(PLACE.shape).astype(np.float32) * 50
    data[:10], data[100, 100] = np.nan, 999
    result_of(tmp_path, data, grid_of(PLACE), np.nan)
    (tmp_path / "half.geojson").write_text(json.dumps(shapely.geometry.mapping(shapely.box(-180, -90, 15.02, 90))))
    card = card_of(masks=("ocean",), kind="vector", files=(str(tmp_path / "half.geojson"),))
    facts = write_masked(site_of(tmp_path, FILES, (card,)), Masking.parse("ocean"), HEIGHTS)
    with rasterio.open(tmp_path / "masked.tif") as file:
        found, small = file.read(1), None
        assert file.nodata == NODATA
        assert file.dtypes == ("float32",)
        tags = file.tags(1)
    hidden = found == 997
    assert hidden[10:].any()
    assert not hidden[10:].all()
    assert (found[:10] == NODATA).all()
    assert np.array_equal(found[10:][~hidden[10:]], data[10:][~hidden[10:]])
    assert float(tags["STATISTICS_MAXIMUM"]) < 51 or not hidden[100, 100]
    assert "1 pixels" in facts["warning"]
    assert small is None


# --- the file -------------------------------------------------------------------------------------------------------


def test_the_file_is_a_cog_with_names_colours_and_codes(two_scenes, tmp_path):
    mosaic, *_ = two_scenes
    result_of(tmp_path, classes_of(PLACE.shape), grid_of(PLACE))
    write_masked(site_of(tmp_path, mosaic), Masking.parse("clouds,snow"), LAYER)
    assert cog_validate(tmp_path / "masked.tif", strict=True)[0]
    with rasterio.open(tmp_path / "masked.tif") as file:
        assert (file.transform, file.crs, file.nodata) == (Affine(*PLACE.transform), PLACE.crs, NODATA)
        assert file.tags(1)["CLASS_999"] == "cloud"
        assert float(file.tags(1)["STATISTICS_MAXIMUM"]) == 1
    style = (tmp_path / "masked.qml").read_text()
    assert all(word in style for word in ("dry", "wet", "#d8c090", "snow and ice", 'value="999"'))
    assert "cloud" in (tmp_path / "masked.tif.aux.xml").read_text()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def ends_in(style):
    """Of the ramp in a QGIS style."""
    (renderer,) = ET.parse(style).iter("rasterrenderer")
    return float(renderer.get("classificationMin")), float(renderer.get("classificationMax"))


SLOPE = np.add.outer(np.arange(PLACE.shape[0]), 2 * np.arange(PLACE.shape[1])).astype(np.float32)


@pytest.mark.parametrize("range_", [None, (-1.0, 900.0)])
@pytest.mark.parametrize(
    ("heights", "ends"),
    [(SLOPE, None), (np.full_like(SLOPE, 7), (6.5, 7.5)), (np.full_like(SLOPE, np.nan), (0.0, 1.0))],
    ids=["a slope", "one number", "nothing"],
)
def test_styles_and_tiles_of_a_result_and_of_what_is_masked_of_it_have_the_same_colours(
    tmp_path, heights, ends, range_
):
    grid, layer = grid_of(PLACE), replace(HEIGHTS, range=range_)
    part = write(tmp_path / "part.tif", heights, PLACE.crs, PLACE.transform, nodata=np.nan)
    assemble([(part, Window(0, 0, *PLACE.shape))], grid, layer, layer.result, tmp_path / "result.tif")
    (tmp_path / "half.geojson").write_text(json.dumps(shapely.geometry.mapping(shapely.box(-180, -90, 15.02, 90))))
    card = card_of(masks=("ocean",), kind="vector", files=(str(tmp_path / "half.geojson"),))
    write_masked(site_of(tmp_path, FILES, (card,)), Masking.parse("ocean"), layer)
    when = datetime(2024, 5, 1, tzinfo=UTC)
    item = make_item(ItemFacts("one", "Heights", grid, layer, ModelFacts("m", "M"), when, when), tmp_path).to_dict()
    spans = {one.file: one.style.span for one in layers_of(item, Of("j1", "u1", "m", range_))}
    assert set(spans) == {"result.tif", "masked.tif"}
    told = {*spans.values(), ends_in(tmp_path / "result.qml"), ends_in(tmp_path / "masked.qml")}
    assert len(told) == 1, told
    assert ends is None or told == {range_ or ends}


def test_overviews_of_wide_numbers_vote_as_those_of_bytes():
    rng = np.random.default_rng(0)
    narrow = rng.choice([0, 1, 7, 255], size=(61, 77)).astype(np.uint8)
    numbers = narrow.astype(np.int16)
    wide = np.where(narrow == 255, NODATA, np.where(narrow == 7, 999, numbers))
    small = halved(narrow, Resampling.MODE).astype(np.int16)
    want = np.where(small == 255, NODATA, np.where(small == 7, 999, small))
    assert np.array_equal(halved(wide, Resampling.MODE, NODATA), want)


def test_clouds_stand_over_snow_and_snow_over_water():
    every = {mask: np.ones((1, 1), bool) for mask in Mask}
    spec = masked.masked_layer(LAYER, tuple(Mask)).result
    data, valid = np.zeros((1, 1, 1), np.uint8), np.ones((1, 1), bool)
    for mask, code in ((Mask.SHAPES, 996), (Mask.CLOUDS, 999), (Mask.SNOW, 998), (Mask.OCEAN, 997), (Mask.WATER, 997)):
        assert painted(data, valid, every, spec)[0, 0, 0] == code == CODES[mask]
        del every[mask]


# --- the coast ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def coast():
    return polygons_of(COAST)


def test_the_packaged_coast_knows_land_from_sea(coast):
    places = {
        (0.0, 0.0): False, (13.4, 52.5): True, (-60.0, -3.0): True, (179.0, 68.0): True, (-175.0, 66.5): True,
        (0.0, -89.9): True, (0.0, 89.9): False, (-150.0, 10.0): False, (134.0, -25.0): True, (178.0, -17.8): True,
        (51.0, 42.0): True,  # the Caspian is no ocean
    }  # fmt: skip
    for (lon, lat), land in places.items():
        grid = GeoBox((3, 3), Affine(0.01, 0, lon - 0.015, 0, -0.01, lat + 0.015), "EPSG:4326")
        assert drawn(coast, grid, Window(0, 0, 3, 3))[1, 1] == land, (lon, lat)


def test_a_third_of_the_globe_is_land(coast):
    grid = GeoBox((180, 360), Affine(1, 0, -180, 0, -1, 90), "EPSG:4326")
    land = drawn(coast, grid, Window(0, 0, 180, 360))
    weight = np.cos(np.radians(89.5 - np.arange(180)))[:, None]
    assert 0.286 < (land * weight).sum() / (weight.sum() * 360) < 0.292


@pytest.mark.parametrize("crs", ["EPSG:32633", "EPSG:3035", "EPSG:3857"])
def test_it_is_drawn_alike_in_any_window_of_any_crs(coast, crs):
    from pyproj import Transformer

    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(12.0, 46.0)
    grid = GeoBox((150, 200), Affine(1000, 0, x, 0, -1000, y), crs)
    whole = drawn(coast, grid, Window(0, 0, 150, 200))
    pieces = np.zeros_like(whole)
    for window in Window(0, 0, 150, 200).split(77):
        pieces[window.within(Window(0, 0, 150, 200))] = drawn(coast, grid, window)
    assert np.array_equal(whole, pieces)
    assert 0.1 < whole.mean() < 0.9
    cols, rows = np.meshgrid(np.arange(200) + 0.5, np.arange(150) + 0.5)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*(grid.transform @ (cols, rows)))
    near_by = shapely.union_all(coast.within((lon.min() - 1, lat.min() - 1, lon.max() + 1, lat.max() + 1)))
    shapely.prepare(near_by)
    assert (shapely.contains_xy(near_by, lon, lat) != whole).mean() < 2e-4


def test_it_crosses_the_antimeridian(coast):
    east = GeoBox((100, 100), Affine(0.02, 0, 179, 0, -0.02, 69), "EPSG:4326")
    land = drawn(coast, east, Window(0, 0, 100, 100))
    west = GeoBox((100, 50), Affine(0.02, 0, -180, 0, -0.02, 69), "EPSG:4326")
    assert np.array_equal(land[:, 50:], drawn(coast, west, Window(0, 0, 100, 50)))
    assert land[:, :50].any()
    assert land[:, 50:].any()


@pytest.mark.parametrize("side", ["east", "west"])
@pytest.mark.parametrize(
    ("crs", "pixel", "north"), [("EPSG:4326", 0.02, 71.7), ("EPSG:4269", 0.02, 71.7), ("EPSG:3857", 2000.0, 1.1645e7),
                                ("EPSG:3395", 2000.0, 1.1605e7), ("EPSG:6933", 2000.0, 6.965e6)],
)  # fmt: skip
def test_it_is_drawn_where_a_grid_runs_on(coast, tmp_path, crs, pixel, north, side):
    """Wrangel Island, on a grid that runs on over 180 to the east or to the west; also from polygons in UTM."""
    from pyproj import Transformer

    whole = period(crs)
    start = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(179.0, 0)[0] - whole * (side == "west")
    grid = GeoBox((100, 100), Affine(pixel, 0, start, 0, -pixel, north), crs)
    window = Window(0, 0, 100, 100)
    land = drawn(coast, grid, window)
    cols, rows = np.meshgrid(np.arange(100) + 0.5, np.arange(100) + 0.5)
    lon, lat = Transformer.from_crs(crs, "EPSG:4326", always_xy=True).transform(*(grid.transform @ (cols, rows)))
    lon = (np.asarray(lon) + 180) % 360 - 180
    near_by = shapely.union_all(coast.within((-180, 60, 180, 75)))
    shapely.prepare(near_by)
    for half in (land[:, :40], land[:, 60:]):
        assert 0.03 < half.mean() < 0.97
    assert (shapely.contains_xy(near_by, lon, lat) != land).mean() < 1e-3
    boxes = [shapely.intersection(near_by, shapely.box(*box)) for box in ((178, 60, 180, 75), (-180, 60, -176, 75))]
    parts = gpd.GeoSeries(boxes, crs="EPSG:4326").explode()
    parts[parts.geom_type == "Polygon"].to_crs("EPSG:32601").to_file(tmp_path / "utm.gpkg")
    again = drawn(PolygonFile(tmp_path / "utm.gpkg"), grid, window)
    assert (again != land).mean() < 2e-3


def test_it_is_drawn_around_a_pole(coast):
    grid = GeoBox((130, 130), Affine(50_000, 0, -3.25e6, 0, -50_000, 3.25e6), "EPSG:6932")  # of true areas
    land = drawn(coast, grid, Window(0, 0, 130, 130))
    assert land[65, 65]
    assert land.sum() * 50e3**2 / 1e12 == pytest.approx(12.38, rel=0.03)  # without its ice shelves
    assert np.array_equal(land[60:70, 60:70], drawn(coast, grid, Window(60, 60, 10, 10)))


def test_the_ocean_of_a_lagoon_is_masked_and_its_source_is_told(real_data, tmp_path):
    """Grado: half a real scene is sea, as the coarse coast has it."""
    (path,) = (real_data / "s2_l2a_aquileia").glob("*B03*")
    with rasterio.open(path) as file:
        grid = GeoBox(file.shape, file.transform, file.crs.to_string())
    data = np.zeros(tuple(grid.shape), np.uint8)
    result_of(tmp_path, data, grid)
    layers = load_layers([ROOT / "configs" / "layers"])
    site = Site(Stand(FILES, grid), tmp_path, layers)
    facts = write_masked(site, Masking.parse("ocean"), LAYER, Network())
    ocean = read(tmp_path / "masked.tif") == 997
    assert 0.15 < ocean.mean() < 0.6
    assert not ocean[:100, :600].any()
    (told,) = facts["masks"]
    assert told["from"]["id"] == "natural-earth-ocean"
    assert "public domain" in told["from"]["licence"]
    assert "1:10" in told["from"]["resolution"]


def test_a_coast_of_the_sphere_is_packed_flat(tmp_path):
    """A ring over 180 degrees and one around the pole, as spherical TopoJSON has them."""
    arcs = [
        [[170, 60], [-170, 60], [-170, 70], [170, 70], [170, 60]],
        [[-180, -70], [0, -75], [179.999, -70], [-180, -70]],
    ]
    document = {"type": "Topology", "arcs": arcs, "objects": {"land": {
        "type": "GeometryCollection", "geometries": [{"type": "MultiPolygon", "arcs": [[[0]], [[1]]]}]}}}  # fmt: skip
    (tmp_path / "land.json").write_text(json.dumps(document))
    assert flat(read_topojson(tmp_path / "land.json")[0]).bounds == (170, 60, 190, 70)
    assert pack(tmp_path / "land.json", tmp_path / "land.topojson.gz") > 8
    packed = read_topojson(tmp_path / "land.topojson.gz")
    assert shapely.is_valid(packed).all()
    land = shapely.union_all(packed)
    assert land.area == pytest.approx(200 + 360 * 17.5, rel=0.01)
    for lon, lat, inside in ((175, 65, True), (-175, 65, True), (0, 65, False), (10, -89, True), (10, -60, False)):
        assert land.contains(shapely.Point(lon, lat)) == inside


# --- cards ----------------------------------------------------------------------------------------------------------


def test_all_shipped_layers_can_be_read():
    found = load_layers([ROOT / "configs" / "layers"])
    assert all(Path(file).exists() for card in found.values() for file in card.files)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("kind: raster\nfiles: [a.tif]\nmasks: [water]", "at_least"),
        ("kind: vector\nfiles: [https://example.org/a.gpkg]\nmasks: [ocean]", "this machine"),
        ("kind: vector\nmasks: [ocean]", "files"),
        ("kind: scenes\nmasks: [clouds]", "water alone"),
        ("kind: vector\nfiles: [a.gpkg]\nmasks: [fog]", "masks"),
        ("kind: vector\nfiles: [a.gpkg]\nmasks: [ocean]\nid: b", "id"),
    ],
)
def test_cards_that_do_not_hold_together(tmp_path, text, word):
    file = tmp_path / "own.yaml"
    head = "" if "id:" in text else "id: own\n"
    file.write_text(f"{head}title: t\nlicence: l\ndocumentation: d\n{text}\n")
    with pytest.raises(InputError) as told:
        read_layer(file)
    assert told.value.problem.code == "layer.invalid"
    assert word in told.value.detail


def test_a_layer_that_is_gone_is_an_error_not_an_empty_mask(tmp_path):
    result_of(tmp_path, np.zeros(PLACE.shape, np.uint8), grid_of(PLACE))
    for card in (
        card_of(masks=("water",), kind="raster", files=(str(tmp_path / "gone.tif"),), at_least=1),
        card_of(masks=("water",), kind="vector", files=(str(tmp_path / "gone.gpkg"),)),
    ):
        with pytest.raises(ReadError):
            write_masked(site_of(tmp_path, FILES, (card,)), Masking.parse("water"), LAYER)
        assert not (tmp_path / "masked.tif").exists()
