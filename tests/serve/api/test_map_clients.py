"""Map clients that were written by others, over a socket: OWSLib, and GDAL's own drivers."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
from owslib.util import ServiceException
from owslib.wms import WebMapService
from owslib.wmts import WebMapTileService
from PIL import Image

from tests.serve.api.results import CLASSES, made

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def shop(house, served, tmp_path_factory):
    """(address, key, id of a job, pixels)."""
    owner, result = house.person(), made(tmp_path_factory.mktemp("clients"))
    job = house.left(owner, result.files).id
    with served(house.app) as url:
        yield url, owner.key, job, result


def pixels(answer):
    return np.asarray(Image.open(io.BytesIO(answer.read())).convert("RGBA"))


@pytest.mark.parametrize("version", ["1.1.1", "1.3.0"])
def test_owslib_reads_the_wms_and_gets_the_picture(shop, version):
    url, key, job, result = shop
    wms = WebMapService(f"{url}/api/layers/wms?job={job}&api_key={key}", version=version)
    assert set(wms.contents) == {f"{job}-{part}" for part in ("result", "score", "observations-1", "observations-2")}
    assert {op.name for op in wms.operations} >= {"GetCapabilities", "GetMap", "GetFeatureInfo"}
    layer = wms[f"{job}-result"]
    assert "EPSG:32633" in layer.crsOptions
    assert layer.boundingBoxWGS84[0] == pytest.approx(15.0, abs=0.01)
    assert key in layer.styles["default"]["legend"]
    asked = {"layers": [layer.name], "srs": "EPSG:32633", "size": (900, 700), "format": "image/png",
             "bbox": (500000, 5593000, 509000, 5600000), "transparent": True}  # fmt: skip
    seen = pixels(wms.getmap(**asked))
    table = np.zeros((256, 4), np.uint8)
    for c in CLASSES:
        table[c.value] = (*bytes.fromhex(c.colour[1:]), 255)
    assert (seen == table[result.pixels["result.tif"][0]]).all()  # the file's own grid: pixel for pixel
    under = wms.getfeatureinfo(**asked, query_layers=[layer.name], info_format="text/plain", xy=(500, 300)).read()
    assert b"Flood map: Result: " in under
    with pytest.raises(ServiceException, match="shown in"):
        wms.getmap(**{**asked, "srs": "EPSG:27700"})


def test_owslib_reads_the_wmts_and_gets_the_tile(shop):
    url, key, job, _ = shop
    for address in (f"{url}/api/layers/wmts?job={job}&api_key={key}",
                    f"{url}/api/layers/wmts/1.0.0/WMTSCapabilities.xml?job={job}&api_key={key}"):  # fmt: skip
        wmts = WebMapTileService(address)
        layer = wmts[f"{job}-result"]
        assert set(layer.tilematrixsetlinks) == {"WebMercatorQuad"}
        tile = wmts.gettile(layer=layer.id, tilematrixset="WebMercatorQuad", tilematrix="12", row=1381, column=2219)
        assert pixels(tile).shape == (256, 256, 4)
        assert key in layer.resourceURLs[0]["template"]


def test_gdal_opens_the_wms_as_a_raster(shop):
    """In a process of its own: here GDAL is kept off the network."""
    url, key, job, _ = shop
    source = (
        f"WMS:{url}/api/layers/wms?api_key={key}&SERVICE=WMS&VERSION=1.3.0&REQUEST=GetMap&LAYERS={job}-result&STYLES="
        "&CRS=EPSG:32633&FORMAT=image/png&TRANSPARENT=TRUE&BBOX=500000,5593000,509000,5600000"
    )
    program = """
import sys, rasterio
with rasterio.open(sys.argv[1]) as file:
    print(file.driver, file.count, file.crs.to_epsg())
    small = file.read(out_shape=(file.count, 64, 64))
    print(len({tuple(c) for c in small.reshape(file.count, -1).T.tolist()}))
"""
    asked = [sys.executable, "-c", program, source]
    answer = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=False)
    if "is not recognized" in answer.stderr or "not supported" in answer.stderr.lower():
        pytest.skip("this GDAL has no driver for WMS")
    assert answer.returncode == 0, answer.stderr[-2000:]
    head, colours = answer.stdout.splitlines()
    assert head.startswith("WMS")
    assert int(colours) >= 3
