"""Small worlds for the engine's tests: a scene, a network that sees its neighbourhood, and runs of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from models.weights import ModelHome
from pipelines.begin import begin, look
from pipelines.imagery.gdal import Access, Retry
from pipelines.imagery.sensors import load_sensors
from pipelines.run import Request, run
from pipelines.runner import Loop
from swathe.card import ClassLabel, Input, ModelCard, Output, Resources
from swathe.recipe import Recipe

ROOT = Path(__file__).resolve().parent.parent.parent
BANDS = ("blue", "green", "red", "nir08")
OF_REQUEST = ("overwrite", "access", "store", "network", "treatments")


def smooth(shape, seed, octaves=5):
    """Clouds of values 0..1, the same for the same seed."""
    rng = np.random.default_rng(seed)
    field = np.zeros(shape)
    for k in range(1, octaves + 1):
        coarse = rng.random((2**k + 1, 2**k + 1))
        rows, cols = np.linspace(0, 2**k - 1e-6, shape[0]), np.linspace(0, 2**k - 1e-6, shape[1])
        r, c = rows.astype(int)[:, None], cols.astype(int)[None]
        fr, fc = rows[:, None] - r, cols[None] - c
        field += (
            coarse[r, c] * (1 - fr) * (1 - fc) + coarse[r + 1, c] * fr * (1 - fc)
            + coarse[r, c + 1] * (1 - fr) * fc + coarse[r + 1, c + 1] * fr * fc
        ) / 2**k  # fmt: skip
    return field / octaves * 2


def make_scene(path, shape=(700, 900), seed=3, holes=True):
    """Four bands int16 x 10000 in UTM, named, with scale, and a slanted corner without data."""
    data = np.stack([(smooth(shape, seed + i) * 6000).astype(np.int16) + 1 for i in range(len(BANDS))])
    if holes:
        data[:, np.add.outer(np.arange(shape[0]), np.arange(shape[1])) < shape[0] // 3] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", count=len(BANDS), dtype="int16", height=shape[0], width=shape[1], nodata=-9999,
        crs="EPSG:32633", transform=from_origin(500_000, 4_600_000, 10, 10), tiled=True, blockxsize=256,
        blockysize=256, compress="deflate", interleave="pixel",
    ) as file:  # fmt: skip
        file.write(data)
        file.descriptions = BANDS
        file.scales, file.offsets = (1e-4,) * len(BANDS), (0.0,) * len(BANDS)
    return path


def write_network(path, chip=64, classes=3, seed=0):
    """An ONNX network of two wide convolutions, so that every pixel sees its neighbours and tile edges matter."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.15, (8, len(BANDS), 7, 7)), "b1": rng.normal(0, 0.3, 8),
        "w2": rng.normal(0, 0.25, (classes, 8, 7, 7)), "b2": rng.normal(0, 0.1, classes),
    }  # fmt: skip
    nodes = [
        helper.make_node("Conv", ["tiles", "w1", "b1"], ["a"], pads=[3, 3, 3, 3]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "w2", "b2"], ["scores"], pads=[3, 3, 3, 3]),
    ]
    graph = helper.make_graph(
        nodes, "net",
        [helper.make_tensor_value_info("tiles", TensorProto.FLOAT, ["n", len(BANDS), chip, chip])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", classes, chip, chip])],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, path)
    return path


def network_card(file, **changes):
    """A card for that network."""
    colours = ("#888888", "#1f78b4", "#33a02c")
    facts = {
        "id": "test-net", "title": "A test network", "task": "segmentation", "adapter": "artefact",
        "network": {"file": str(file), "kind": "onnx", "input_layout": "NCHW", "output": "logits"},
        "input": Input(bands=BANDS, chip=64, overlap=16, scale=10.0, mean=(3,) * 4, std=(2,) * 4),
        "output": Output(classes=tuple(
            ClassLabel(value=i, name=name, colour=c, background=i == 0)
            for i, (name, c) in enumerate(zip(("land", "water", "trees"), colours, strict=True))
        )),
        "resources": Resources(batch=4, memory_gb=0.3), "licence": "Apache-2.0", "citation": "none",
    }  # fmt: skip
    return ModelCard(**(facts | changes))


def make_card(folder, **changes):
    """A folder of cards, as SWATHE_MODELS_DIR names it, with that network; gives the card's id."""
    folder.mkdir(exist_ok=True)
    write_network(folder / "net.onnx")
    card = network_card("net.onnx", **changes)
    (folder / f"{card.id}.yaml").write_text(card.model_dump_json(exclude_defaults=True))
    return card.id


class Watch:
    """Remembers what it was told."""

    def __init__(self):
        self.events, self.done = [], []

    def event(self, event):
        self.events.append(event)

    def progress(self, done, total):
        self.done.append((done, total))


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    return ModelHome(tmp_path_factory.mktemp("models"), offline=True)


@pytest.fixture(scope="session")
def scene(tmp_path_factory):
    return make_scene(tmp_path_factory.mktemp("scene") / "scene.tif")


@pytest.fixture(scope="session")
def write_scene():
    """The writer itself: ``write_scene(path, shape)``."""
    return make_scene


@pytest.fixture(scope="session")
def write_card():
    """The writer of a folder with one network: ``write_card(folder)`` gives its id."""
    return make_card


@pytest.fixture(scope="session")
def card(tmp_path_factory, home):
    from models.load import ensure

    folder = tmp_path_factory.mktemp("net")
    return ensure(network_card(write_network(folder / "net.onnx")), home).card


@pytest.fixture(scope="session")
def sensors():
    return load_sensors(ROOT / "configs" / "sensors")


@pytest.fixture(scope="session")
def go(card, scene, home, sensors):
    """Run: ``go(out, runner=…, chunk=…, aoi=…, inputs=…, card=…, content=…)`` gives (outcome, watch)."""

    def go(out, runner=None, **options):
        runner, watch = runner or Loop(), Watch()
        request_options = {k: options.pop(k) for k in OF_REQUEST if k in options}
        request_options |= {"model": options.pop("content")} if "content" in options else {}
        chosen = options.pop("card", card)
        recipe = Recipe(chosen.id, tuple(options.pop("inputs", (str(scene),))), **options)
        access = request_options.setdefault("access", Access(Retry(attempts=3, base_s=0.02)))
        imagery = look(recipe, chosen, sensors, access, request_options.get("network"))
        made = begin(recipe, chosen, imagery, runner.actors)
        request = Request(Path(out), home, keep_cut=recipe.chunk is None, **request_options)
        return run(made, request, runner, watch), watch

    return go
