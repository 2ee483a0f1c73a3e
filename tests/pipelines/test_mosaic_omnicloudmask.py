"""Masks by a network, with networks of the test's own: what must be found is known. None is OmniCloudMask's."""

import hashlib
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import yaml
from numpy.testing import assert_array_equal

from pipelines import searched
from pipelines.mosaic.omnicloudmask import CORE, HALO, PATCH, Classifier, normalised, patch_of, settled
from pipelines.mosaic.reader import MosaicReader
from pipelines.remote.network import Network
from pipelines.saved_search import read as read_kept
from pipelines.saved_search import written
from pipelines.search.sources import read_source
from swathe.card import ModelCard, Weights
from swathe.errors import ImageryError, InputError
from swathe.mosaic import Composite
from swathe.recipe import Recipe, Search
from swathe.source import MaskRule, SourceMask
from swathe.window import Window
from tests.pipelines.scenes import LocalOpener, Place, cropped, make_scene, mosaic_of, write

LOOKS = ("red", "green", "nir")
GROUND, CLOUD, SHADOW = 2000, 8000, 200
PLACE = Place(x=500_000.0, y=4_600_000.0, shape=(900, 1000))
"""Row 0 is row -460000 of the frame, column 0 its column 50000: it lies on two rows and two columns of cores."""


def write_network(path, weights, bias, kernel=1):
    """One convolution: (1, 3, 1024, 1024) -> (1, 4, 1024, 1024). ``weights``: (4,) of the mean of all bands around."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    table = np.broadcast_to(
        np.array(weights, np.float32)[:, None, None, None] / (3 * kernel**2), (4, 3, kernel, kernel)
    )
    pad = kernel // 2
    node = helper.make_node("Conv", ["image", "w", "b"], ["logits"], kernel_shape=[kernel] * 2, pads=[pad] * 4)
    shape = [("image", 3), ("logits", 4)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, c, PATCH, PATCH]) for n, c in shape]
    held = [numpy_helper.from_array(np.ascontiguousarray(table), "w"),
            numpy_helper.from_array(np.array(bias, np.float32), "b")]  # fmt: skip
    graph = helper.make_graph([node], "clouds", ends[:1], ends[1:], held)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def by_brightness(path, **options):
    """Cloud above one standard deviation of the mean, shadow below it, thin cloud never."""
    return write_network(path, (0, 10, 0, -10), (0, -10, -99, -10), **options)


def mask_of(*paths, **options):
    networks = tuple(Weights(uri=str(path)) for path in paths)
    return SourceMask(rule=MaskRule.OMNICLOUDMASK, networks=networks, **options)


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    return by_brightness(tmp_path_factory.mktemp("net") / "clouds.onnx")


def sky(shape=PLACE.shape):
    """Ground with two clouds and a shadow; a cloud lies across the border of two cores."""
    data = np.full(shape, GROUND, np.uint16)
    edge = -(-50_000 // CORE) * CORE - 50_000
    data[100:180, edge - 40 : edge + 40] = CLOUD
    data[500:560, 200:300] = CLOUD
    data[300:360, 600:680] = SHADOW
    return data


def scene_of(folder, name, data, place=PLACE, **options):
    made = make_scene(folder, name, place, data=[data] * 3, bands=LOOKS, nodata=0, **options)
    return replace(made, looks=made.bands)


def read(mosaic, window=None, opener=None):
    with MosaicReader(mosaic, opener or LocalOpener()) as reader:
        return reader.read(window or Window(0, 0, *mosaic.shape))


def test_each_band_is_normalised_by_its_own_valid_pixels():
    # By hand: of 1, 3, 5, 7 the mean is 4 and the standard deviation sqrt(5); a band that is all alike is 0.
    data = np.array([[[1, 3], [5, 7]], [[9, 9], [9, 9]], [[1, 3], [99, 99]]], np.float32)
    valid = np.array([[[1, 1], [1, 1]], [[1, 1], [1, 1]], [[1, 1], [0, 0]]], bool)
    found = normalised(data, valid)
    np.testing.assert_allclose(found[0], np.array([[-3, -1], [1, 3]]) / np.sqrt(5), rtol=1e-6)
    assert_array_equal(found[1:], [[[0, 0], [0, 0]], [[-1, 1], [0, 0]]])


def test_clouds_and_shadows_are_masked(tmp_path, net):
    data = sky()
    mosaic = mosaic_of([scene_of(tmp_path, "s", data)], PLACE, mask=mask_of(net))
    stack = read(mosaic)
    assert_array_equal(stack.mask[0], data == GROUND)
    assert 0.9 < stack.mask.mean() < 1
    assert not stack.data[0][:, data != GROUND].any()


@pytest.mark.parametrize(("drop", "kept"), [(("shadow",), (GROUND, CLOUD)), (("cloud", "cirrus"), (GROUND, SHADOW))])
def test_only_what_is_to_be_dropped_is(tmp_path, net, drop, kept):
    data = sky()
    stack = read(mosaic_of([scene_of(tmp_path, "s", data)], PLACE, mask=mask_of(net, drop=drop)))
    assert_array_equal(stack.mask[0], np.isin(data, kept))


def test_thin_cloud_is_cirrus(tmp_path):
    thin = write_network(tmp_path / "thin.onnx", (0, 0, 10, 0), (0, -99, -10, -99))
    data = sky()
    stack = read(mosaic_of([scene_of(tmp_path, "s", data)], PLACE, mask=mask_of(thin, drop=("cirrus",))))
    assert_array_equal(stack.mask[0], data != CLOUD)


def test_a_buffer_lies_around_them(tmp_path, net):
    data = np.full(PLACE.shape, GROUND, np.uint16)
    data[400:420, 500:520] = CLOUD
    stack = read(mosaic_of([scene_of(tmp_path, "s", data)], PLACE, mask=mask_of(net, buffer_m=50)))
    rows, cols = np.indices(PLACE.shape)
    down = np.maximum(0, np.maximum(400 - rows, rows - 419))
    across = np.maximum(0, np.maximum(500 - cols, cols - 519))
    assert_array_equal(stack.mask[0], np.hypot(down, across) * 10 > 50)


def test_the_logits_of_all_networks_are_averaged(tmp_path):
    # The first says cloud by 4, the second clear by 6: clear by 1; with a third like the first cloud by 2 of 3.
    cloudy = write_network(tmp_path / "a.onnx", (0, 0, 0, 0), (0, 4, -99, -99))
    clear = write_network(tmp_path / "b.onnx", (0, 0, 0, 0), (6, 0, -99, -99))
    scene = scene_of(tmp_path, "s", sky())
    assert read(mosaic_of([scene], PLACE, mask=mask_of(cloudy, clear))).mask.all()
    assert not read(mosaic_of([scene], PLACE, mask=mask_of(cloudy, clear, cloudy))).mask.any()


def test_no_data_is_no_ground(tmp_path, net):
    data = sky()
    rows, cols = np.indices(data.shape)
    data[rows + cols < 500] = 0
    stack = read(mosaic_of([scene_of(tmp_path, "s", data)], PLACE, mask=mask_of(net, drop=("shadow",))))
    assert_array_equal(stack.mask[0], (data != 0) & (data != SHADOW))


def test_a_pixels_mask_does_not_depend_on_the_area(tmp_path):
    """A network that sees its neighbours, over texture: normalisation alone differs from patch to patch."""
    blurred = by_brightness(tmp_path / "blurred.onnx", kernel=9)
    rng = np.random.default_rng(7)
    coarse = np.kron(rng.integers(500, 4000, (91, 101)), np.ones((10, 10)))[:900, :1000]
    data = (coarse + rng.integers(0, 400, coarse.shape)).astype(np.uint16)
    whole = mosaic_of([scene_of(tmp_path, "s", data)], PLACE, mask=mask_of(blurred, buffer_m=30))
    window = Window(333, 411, 200, 222)
    large, small = read(whole), read(cropped(whole, window))
    part = (slice(333, 533), slice(411, 633))
    assert 0.2 < small.mask.mean() < 0.9
    assert_array_equal(small.mask[0], large.mask[0][part])
    assert_array_equal(small.data[0], large.data[0][:, *part])


def test_codes_are_those_of_the_patch_that_holds_the_pixel(tmp_path):
    """Against the plainest way: each core's patch, normalised and looked at by itself."""
    blurred = by_brightness(tmp_path / "blurred.onnx", kernel=5)
    rng = np.random.default_rng(3)
    world = rng.integers(0, 9000, (3, 2400, 2400)).astype(np.float32)
    world[:, :1200] //= 3  # darker northern half, so that patches differ in mean

    def bands(window):
        rows, cols = slice(window.row + 500, window.bottom + 500), slice(window.col + 500, window.right + 500)
        return world[:, rows, cols], np.ones((3, window.height, window.width), bool)

    window = Window(CORE - 30, CORE - 20, 60, 50)
    found = Classifier(mask_of(blurred)).codes("s", window, bands)
    wanted = np.empty_like(found)
    for row, col in ((0, 0), (0, 1), (1, 0), (1, 1)):
        patch = patch_of(row, col)
        mean = normalised(*bands(patch)).mean(axis=0, dtype=np.float64)
        padded = np.pad(mean, 2)
        level = sum(padded[i : i + PATCH, j : j + PATCH] for i in range(5) for j in range(5)) / 25
        codes = np.where(level > 1, 1, np.where(level < -1, 3, 0)).astype(np.uint8)[HALO:-HALO, HALO:-HALO]
        shared = window.intersection(Window(row * CORE, col * CORE, CORE, CORE))
        wanted[shared.within(window)] = codes[shared.within(Window(row * CORE, col * CORE, CORE, CORE))]
    assert_array_equal(found, wanted)


@pytest.mark.slow
def test_the_documented_export_gives_the_classes_of_the_original(tmp_path):
    """The package's smaller network with random weights, normalised and run by torch as the package does."""
    torch = pytest.importorskip("torch")
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    net = smp.Unet("tu-regnety_004", encoder_weights=None, in_channels=3, classes=4).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.zeros(1, 3, PATCH, PATCH),), tmp_path / "net.onnx", dynamo=False)
    rng = np.random.default_rng(0)
    data = np.kron(rng.integers(300, 6000, (3, 128, 128)), np.ones((8, 8))) + rng.integers(0, 300, (3, PATCH, PATCH))
    data[:, :400, :300] = 0
    valid = data != 0
    found = Classifier(mask_of(tmp_path / "net.onnx")).codes("s", Window(0, 0, CORE, CORE), lambda _: (data, valid))
    x, seen = torch.from_numpy(data.astype(np.float32)), torch.from_numpy(valid)
    count = seen.sum(dim=(1, 2), keepdim=True)
    centred = torch.where(seen, x - x.sum(dim=(1, 2), keepdim=True) / count, 0)
    with torch.no_grad():
        logits = net((centred / ((centred**2).sum(dim=(1, 2), keepdim=True) / count).sqrt())[None])[0]
    wanted = np.where(valid.all(axis=0), logits.argmax(dim=0).numpy(), 255)[HALO:-HALO, HALO:-HALO]
    assert len(np.unique(wanted)) > 2
    assert (found != wanted).mean() < 1e-4
    assert_array_equal(found == 255, wanted == 255)


def test_each_patch_is_looked_at_once_by_all_threads(net):
    looked, gate = [], threading.Barrier(4)

    def bands(window):
        looked.append(window)
        return np.ones((3, PATCH, PATCH), np.uint16), np.ones((3, PATCH, PATCH), bool)

    classifier = Classifier(mask_of(net))

    def ask():
        gate.wait(10)
        classifier.codes("s", Window(-10, 5, 20, 20), bands)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted((w.row, w.col) for w in looked) == [(-CORE - HALO, -HALO), (-HALO, -HALO)]


def test_a_lost_file_costs_its_scene_and_is_told(tmp_path, net):
    good, bad = (scene_of(tmp_path, name, np.full(PLACE.shape, GROUND + n, np.uint16))
                 for n, name in enumerate(("good", "bad")))  # fmt: skip
    mosaic = mosaic_of([[bad, good]], PLACE, mask=mask_of(net), composite=Composite.BEST, max_loss=0.6)
    with MosaicReader(mosaic, LocalOpener(broken={bad.looks[1].href})) as reader:
        stack = reader.read(Window(0, 0, *PLACE.shape))
        assert {(loss.scene, loss.asset) for loss in reader.losses} == {("bad", "red")}
    assert stack.mask.all()
    assert (stack.data == GROUND).all()


# --- what cannot be done ----------------------------------------------------------------------------------------------


def refused(action):
    with pytest.raises(ImageryError) as told:
        action()
    assert "Traceback" not in told.value.detail
    assert told.value.hint
    return told.value.problem.code


def test_networks_that_are_not_here_are_one_clear_problem(tmp_path, net):
    assert refused(lambda: settled(mask_of())) == "mask.unavailable"
    assert refused(lambda: settled(mask_of(tmp_path / "nowhere.onnx"))) == "mask.unavailable"
    other = SourceMask(rule=MaskRule.OMNICLOUDMASK, networks=(Weights(uri=str(net), sha256="0" * 64),))
    assert refused(lambda: settled(other)) == "mask.changed"
    assert settled(mask_of(net)).networks[0].sha256 == hashlib.sha256(net.read_bytes()).hexdigest()


def test_files_that_are_no_such_network_are_refused(tmp_path):
    (tmp_path / "text.onnx").write_text("no network")
    scene = scene_of(tmp_path, "s", sky())
    mosaic = mosaic_of([scene], PLACE, mask=mask_of(tmp_path / "text.onnx"), max_loss=0.9)
    assert refused(lambda: read(mosaic)) == "mask.network"


def test_a_network_that_changes_under_a_run_is_refused(tmp_path):
    file = by_brightness(tmp_path / "net.onnx")
    mosaic = mosaic_of([scene_of(tmp_path, "s", sky())], PLACE, mask=settled(mask_of(file)))
    write_network(file, (0, 0, 0, 0), (0, 9, 0, 0))
    assert refused(lambda: read(mosaic)) == "mask.changed"


def test_pixels_it_was_not_made_for_are_refused(tmp_path, net):
    coarse = Place(res=250.0, x=500_000.0, y=4_600_000.0, shape=(60, 60))
    data = np.full(coarse.shape, GROUND, np.uint16)
    mosaic = mosaic_of([scene_of(tmp_path, "s", data, coarse)], coarse, mask=mask_of(net))
    assert refused(lambda: read(mosaic)) == "mask.resolution"


# --- from a place and a time ------------------------------------------------------------------------------------------

CARD = ModelCard.model_validate({
    "id": "ndvi", "title": "ndvi", "task": "regression", "adapter": "formula", "network": {"index": "NDVI"},
    "input": {"bands": ("red", "nir"), "chip": 64, "overlap": 0}, "licence": "none", "citation": "none",
})  # fmt: skip


def write_source(folder, **mask):
    source = {
        "id": "mine", "title": "mine", "kind": "folder", "url": "images", "licence": "own", "documentation": "own",
        "bands": {"red": {"asset": "B04"}, "green": {"asset": "B03"}, "nir": {"asset": "B08"}},
        "radiometry": {"rule": "fixed", "scale": 1e-4}, "mask": {"rule": "omnicloudmask"} | mask,
    }  # fmt: skip
    (folder / "mine.yaml").write_text(yaml.safe_dump(source))
    return folder / "mine.yaml"


def look(source, aoi="15.01,41.50,15.05,41.53"):
    recipe = Recipe(CARD.id, search=Search(source.id, dates=("2024-07",)), aoi=aoi)
    return searched.look(recipe, CARD, searched.Archive({source.id: source}, Network()))


@pytest.fixture
def archive(tmp_path):
    data = np.full(PLACE.shape, GROUND, np.uint16)
    data[:, 300:420] = CLOUD
    for band in ("B03", "B04", "B08"):
        name = tmp_path / "images" / f"T33TWF_20240725T100031_{band}.tif"
        write(name, data, PLACE.crs, PLACE.transform, nodata=0)
    by_brightness(tmp_path / "clouds.onnx")
    return tmp_path


def test_a_search_measures_what_the_network_sees(archive):
    source = read_source(write_source(archive, networks=[{"uri": "clouds.onnx"}]))
    mosaic = look(source)
    (scene,) = mosaic.scenes
    assert [a.name for a in scene.looks] == list(LOOKS)
    assert [a.name for a in scene.bands] == ["red", "nir"]
    stack = read(mosaic)
    with MosaicReader(replace(mosaic, mask=None), LocalOpener()) as reader:
        plain = reader.read(Window(0, 0, *mosaic.shape))
    cloudy = plain.data[0, 0] == CLOUD
    assert cloudy.any()
    assert_array_equal(stack.mask[0], plain.mask[0] & ~cloudy)
    inner = cloudy[64:-64, 64:-64]  # the area; around it lies a tile's width
    assert scene.clear == pytest.approx(1 - inner.mean(), abs=0.02)
    kept = read_kept(written("asked", mosaic), "asked")
    assert kept is not None
    assert kept.fingerprint == mosaic.fingerprint
    assert kept.mask == mosaic.mask


def test_a_run_is_known_by_the_networks_hash_not_by_its_place(archive):
    here = look(read_source(write_source(archive, networks=[{"uri": "clouds.onnx"}])))
    (archive / "clouds.onnx").rename(archive / "moved.onnx")
    moved = look(read_source(write_source(archive, networks=[{"uri": "moved.onnx"}])))
    write_network(archive / "moved.onnx", (0, 10, 0, 0), (0, -11, -99, -99))
    other = look(read_source(write_source(archive, networks=[{"uri": "moved.onnx"}])))
    assert here.fingerprint == moved.fingerprint != other.fingerprint


def test_what_is_missing_is_said_before_anything_is_searched(archive):
    (archive / "images").rename(archive / "gone")
    for networks in ([], [{"uri": "nowhere.onnx"}]):
        source = read_source(write_source(archive, networks=networks))
        assert refused(lambda source=source: look(source)) == "mask.unavailable"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"bands": {"red": {"asset": "B04"}}}, "looks at red, green and nir"),
        ({"mask": {"rule": "scl", "asset": "scl", "networks": [{"uri": "a.onnx"}]}}, "needs none"),
    ],
)
def test_cards_that_cannot_work_are_refused(archive, change, why):
    file = write_source(archive)
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | change))
    with pytest.raises(InputError, match=why) as told:
        read_source(file)
    assert told.value.problem.code == "source.invalid"
