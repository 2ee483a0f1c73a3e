"""The real SDK and the notebooks' ways, in an environment of their own, against a whole service on a socket."""

import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

import geopandas as gpd
import pytest
import yaml
from shapely.geometry import box

from pipelines.demo import catalogue
from pipelines.sandbox.isolation import isolation
from serve.running.planner import planner
from serve.running.service import Beside
from serve.settings import ServiceSettings
from tests.serve.client.conftest import up
from tests.serve.dialects.geostudio.conftest import write_image
from tests.serve.dialects.geostudio.test_models import CONFIG

ROOT = Path(__file__).resolve().parents[4]
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
EXAMPLES = ROOT / "examples" / "geostudio"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass
class Running:
    """A service, and somebody's configuration of the SDK."""

    url: str
    key: str
    config: Path
    box: str
    folder: Path

    def drive(self, script, *arguments, patience=600):
        """A program in the clients' environment; what it printed."""
        done = subprocess.run([PYTHON, script, *map(str, arguments)], capture_output=True, text=True, check=False,
                              cwd=self.folder, timeout=patience)  # fmt: skip
        assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    if not PYTHON.exists():
        pytest.skip("the clients are not here: make clients")
    folder = tmp_path_factory.mktemp("running")
    coast = catalogue.write(folder / "coast", size=512, seed=5)
    card = yaml.safe_load((ROOT / "configs" / "sources" / "local-catalogue.yaml").read_text())
    (folder / "sources").mkdir()
    (folder / "sources" / "coast.yaml").write_text(yaml.safe_dump(card | {"id": "coast", "url": str(coast.catalog)}))
    settings = ServiceSettings.read(data_dir=folder / "data", local_roots=(coast.folder,), allow_private_urls=True,
                                    sources_dir=folder / "sources")  # fmt: skip
    west, south, east, north = (float(v) for v in str(coast.aoi).split(","))
    with up(settings) as house:
        plans = Beside("planner", 0.2, planner(settings, house.desk.store).turn)
        plans.start()
        key = "pak-" + house.person()[1].removeprefix("swk-")
        config = folder / "studio.env"
        config.write_text(f"GEOSTUDIO_API_KEY={key}\nBASE_STUDIO_UI_URL={house.url}\n")
        yield Running(house.url, key, config, f"{west},{(south + north) / 2},{east},{north}", folder)
        plans.stop()


@pytest.fixture(scope="module")
def scene(running):
    return write_image(running.folder / "scene.tif")


@pytest.mark.torch
def test_what_users_of_the_sdk_do(running, scene):
    from models import terratorch
    from models.trained import About, trained_card
    from swathe.card import ModelCard

    (running.folder / "config.yaml").write_text(CONFIG)
    about = About("tune", "A tune", weights="https://a.example/x.ckpt")
    card = ModelCard.model_validate(trained_card(running.folder / "config.yaml", about))
    checkpoint = terratorch.write_random_checkpoint(card, running.folder / "state-dict.ckpt", seed=3)
    six = write_image(running.folder / "six-bands.tif", scale=0, names=("",) * 6)
    said = running.drive(ROOT / "tests" / "clients" / "studio.py", running.config, scene, running.box,
                         "2024-07-01_2024-07-10", running.folder / "config.yaml", checkpoint, six,
                         EXAMPLES / "fill.py")  # fmt: skip
    assert said.strip().endswith("all of it")


def test_a_model_on_a_place(running):
    said = running.drive(EXAMPLES / "place.py", running.config, "water-mndwi", running.box, "2024-07-01_2024-07-10")
    assert "FINISHED" in said
    assert "_pred_masked.tif" in said
    assert "under clouds" in said


def test_a_model_on_an_image_of_ones_own(running, scene):
    assert "on the grid of scene.tif" in running.drive(EXAMPLES / "own_image.py", running.config, "water-ndwi", scene,
                                                       "2024-07-25")  # fmt: skip


def test_a_ready_made_layer(running):
    heights = write_image(running.folder / "heights.tif", scale=0, names=("",), top=1000)
    assert "Made elsewhere" in running.drive(EXAMPLES / "ready_made_layer.py", running.config, heights)


@pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")
def test_ready_made_shapes(running):
    fields = gpd.GeoDataFrame({"n": [1]}, geometry=[box(10, 50, 10.1, 50.1)], crs="EPSG:4326")
    fields.to_file(running.folder / "fields.gpkg", driver="GPKG")
    fields.to_file(running.folder / "fields.shp")
    with zipfile.ZipFile(running.folder / "fields.zip", "w") as archive:
        for part in ("shp", "shx", "dbf", "prj"):
            archive.write(running.folder / f"fields.{part}", f"fields.{part}")
    for name in ("fields.gpkg", "fields.zip"):
        assert "Made elsewhere" in running.drive(
            EXAMPLES / "ready_made_layer.py", running.config, running.folder / name
        )


def test_a_program_of_ones_own(running, scene):
    said = running.drive(EXAMPLES / "own_script.py", running.url, running.key, "water-ndwi", scene, "2024-07-25",
                         EXAMPLES / "fill.py")  # fmt: skip
    assert "generic-python-processor" in said
    assert "changed" in said
