"""A whole run over a server that misbehaves: what passes leaves no trace, what stays lost is told."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
from scipy.ndimage import binary_dilation

from pipelines.imagery.gdal import Access, Retry
from pipelines.remote.network import Network
from swathe.errors import ReadError
from swathe.state import State
from tests.pipelines.fault_server import Every, FaultServer, Reset, Status, never

RETRY = Access(Retry(attempts=5, base_s=0.01, cap_s=0.05, timeout_s=2))
ROOT = Path(__file__).resolve().parent.parent.parent
LOOPBACK = Network(allow_private=True)


@pytest.fixture
def server(scene):
    with FaultServer(scene.parent) as running:
        yield running


def pixels(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.fixture
def whole(go, tmp_path):
    go(tmp_path / "whole", chunk=512)
    return pixels(tmp_path / "whole" / "result.tif")


@pytest.mark.parametrize("fault", [Status(503), Reset(2000)], ids=["503", "reset"])
def test_passing_faults_leave_no_trace(go, server, scene, tmp_path, whole, fault):
    server.faults = Every(3, fault)
    outcome, _ = go(tmp_path / "out", inputs=(server.url(scene.name),), chunk=512, access=RETRY, network=LOOPBACK)
    assert outcome.state is State.DONE
    assert np.array_equal(pixels(tmp_path / "out" / "result.tif"), whole)


def test_what_stays_lost_is_listed_and_done_by_the_next_run(go, server, scene, tmp_path, whole):
    size = scene.stat().st_size

    def gone(request):
        return Status(404) if size * 0.5 < request.start < size * 0.75 else None

    server.faults = never
    url, out = server.url(scene.name), tmp_path / "out"
    outcome, _ = go_with_faults(go, server, gone, out, url)
    assert outcome.state is State.INCOMPLETE
    report = json.loads((out / "report.json").read_text())
    assert report["status"] == "incomplete"
    assert report["chunks"]["failed"] > 0
    assert report["failed"]
    assert all("read" in lost["error"] for lost in report["failed"])
    assert report["pixels"]["lost"] > 0 or report["pixels"]["valid_fraction"] < (whole != 255).mean()
    assert json.loads((out / "item.json").read_text())["properties"]["swathe:status"] == "incomplete"
    partial = pixels(out / "result.tif")
    lost = (partial == 255) & (whole != 255)
    apart = ~binary_dilation(lost, np.ones((3, 3)), iterations=64)  # no tile of these pixels saw a loss
    assert 0.1 < apart.mean() < 0.9
    assert np.array_equal(partial[apart], whole[apart])
    server.faults = never
    outcome, _ = go(out, inputs=(url,), chunk=512, access=RETRY, network=LOOPBACK)
    assert outcome.state is State.DONE
    assert np.array_equal(pixels(out / "result.tif"), whole)


def go_with_faults(go, server, faults, out, url, **more):
    """The look at the file goes well; the faults begin with the first chunk."""
    from pipelines.runner import Loop

    class Unlucky(Loop):
        def map(self, hire, order, chunks):
            server.faults = faults
            yield from super().map(hire, order, chunks)

    return go(out, Unlucky(), inputs=(url,), chunk=512, access=RETRY, network=LOOPBACK, **more)


def test_a_threshold_of_the_whole_area_is_not_found_in_part_of_it(go, server, scene, tmp_path, monkeypatch):
    """It would be another one. The sibling with a fixed threshold does what is there; later the same run goes on."""
    from models.registry import load_cards

    cards, size = load_cards([ROOT / "configs" / "models"]), scene.stat().st_size
    monkeypatch.setattr("pipelines.fit.WORTH_A_POOL", 0)  # the runner counts, and with it the faults begin

    def gone(request):
        return Status(404) if size * 0.5 < request.start < size * 0.75 else None

    url, out = server.url(scene.name), tmp_path / "out"
    with pytest.raises(ReadError, match="water-ndwi-otsu is found over the whole area") as caught:
        go_with_faults(go, server, gone, out, url, card=cards["water-ndwi-otsu"])
    assert caught.value.problem.code == "read.lost"
    assert "or take water-ndwi," in caught.value.hint
    assert not (out / "result.tif").exists()
    server.faults = never
    fixed, _ = go_with_faults(go, server, gone, tmp_path / "fixed", url, card=cards["water-ndwi"])
    assert fixed.state is State.INCOMPLETE
    server.faults = never
    outcome, _ = go(out, card=cards["water-ndwi-otsu"], inputs=(url,), chunk=512, access=RETRY, network=LOOPBACK)
    assert outcome.state is State.DONE
