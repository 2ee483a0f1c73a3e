"""Tile services against a server whose pixels say where they are."""

import struct
import zlib

import numpy as np
import pytest
import shapely

from pipelines.blocks.matrix import matrix_of
from pipelines.blocks.open import Opener
from pipelines.imagery.gdal import Retry
from pipelines.mosaic.frame import Frame
from pipelines.mosaic.grid import OutputGrid
from pipelines.mosaic.under import refuse_missing
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from swathe.errors import ImageryError, InputError, ReadError
from swathe.scene import Asset
from swathe.source import Auth, TileService
from swathe.window import Window
from tests.pipelines.tile_server import TileServer, colours

OPEN = Auth()
XYZ = TileService(scheme="xyz", zoom=4)
WINDOW = Window(500, 1000, 300, 600)
"""Three rows and four columns of tiles of 256, those at its rim in part."""


@pytest.fixture(scope="module")
def fetcher():
    secrets = Secrets({"TILES_KEY": "open-sesame"})
    fetcher = Fetcher(Network(allow_private=True, retry=Retry(attempts=3, base_s=0.02), secrets=secrets))
    yield fetcher
    fetcher.close()


@pytest.fixture
def opened(fetcher):
    """``opened(href, service)`` gives the source."""
    openers = []

    def opened(href, service=XYZ, auth=OPEN, index=1):
        openers.append(Opener(fetcher, auth, service, cache_mb=64))
        return openers[-1].open(Asset("red", href, index=index))

    yield opened
    for opener in openers:
        opener.close()


def truth(window, origin=(0, 0)):
    rows = np.arange(window.row, window.bottom) + origin[0]
    return colours(rows, np.arange(window.col, window.right) + origin[1]).transpose(2, 0, 1)


TEMPLATES = [
    ("xyz", "xyz/{z}/{x}/{y}"),
    ("xyz", "tms/{z}/{x}/{-y}"),
    ("tms", "tms/{z}/{x}/{y}"),
    ("quadkey", "q/{q}"),
]


@pytest.mark.parametrize(("scheme", "path"), TEMPLATES, ids=lambda v: v)
def test_pixels_are_those_of_the_place(scheme, path, opened):
    with TileServer() as server:
        source = opened(server.url(path), TileService(scheme=scheme, zoom=4))
        assert (source.grid.crs, source.grid.shape, source.block) == ("EPSG:3857", (4096, 4096), (256, 256))
        assert source.grid.transform == pytest.approx(
            (9783.939620502, 0, -20037508.342789, 0, -9783.939620502, 20037508.342789)
        )
        for window in (WINDOW, Window(0, 0, 1, 1), Window(4095, 4095, 1, 1), Window(0, 2000, 700, 256)):
            np.testing.assert_array_equal(source.read((1, 2, 3), window), truth(window))
            assert source.valid(window).all()
        np.testing.assert_array_equal(source.read((3, 1), WINDOW), truth(WINDOW)[[2, 0]])


def test_tiles_of_another_size_have_finer_pixels(opened):
    with TileServer(tile=512) as server:
        source = opened(server.url("xyz/{z}/{x}/{y}"), TileService(scheme="xyz", zoom=3, tile=512))
        assert source.grid.transform[0] == pytest.approx(9783.939620502)
        np.testing.assert_array_equal(source.read((1, 2, 3), WINDOW), truth(WINDOW))


WMS = [
    ("EPSG:3857", 100.0, "wms"),
    ("EPSG:3857", 100.0, "wms?version=1.1.1&map=a%2Fb.map"),
    ("EPSG:4326", 0.25, "wms"),
    ("EPSG:4326", 0.25, "wms?VERSION=1.1.1"),
    ("CRS:84", 0.25, "wms?"),
    ("EPSG:32632", 10.0, "wms"),
]


@pytest.mark.parametrize(("crs", "res", "path"), WMS)
def test_wms_names_the_axes_in_the_right_order(crs, res, path, opened):
    service = TileService(scheme="wms", crs=crs, res_m=res, layers="ortho")
    with TileServer() as server:
        source = opened(server.url(path), service)
        a, _, left, _, _, top = source.grid.transform
        assert a == res
        assert left % (256 * res) == top % (256 * res) == 0  # counted from the origin of the CRS
        window = Window(300, 500, 300, 300)
        want = truth(window, (round(-top / res), round(left / res)))
        np.testing.assert_array_equal(source.read((1, 2, 3), window), want)


def test_what_the_service_does_not_have_is_no_data(opened):
    with TileServer(missing={(1, 3)}, transparent={(2, 4)}, empty={(2, 5)}) as server:
        source = opened(server.url("xyz/{z}/{x}/{y}"))
        window = Window(256, 768, 512, 768)  # tiles (1..2, 3..5)
        want = np.ones((512, 768), bool)
        want[:256, :256] = want[256:, 256:] = False
        np.testing.assert_array_equal(source.valid(window), want)
        np.testing.assert_array_equal(source.read((1, 2, 3), window)[:, want], truth(window)[:, want])


def test_a_server_that_stays_down_loses_tiles_and_a_short_fault_does_not(opened):
    with TileServer(faults={(1, 3): [503, 503], (2, 3): [503] * 50}) as server:
        source = opened(server.url("xyz/{z}/{x}/{y}"))
        np.testing.assert_array_equal(source.read((1,), Window(256, 768, 9, 9))[0], truth(Window(256, 768, 9, 9))[0])
        with pytest.raises(ReadError) as caught:
            source.read((1,), Window(256, 768, 300, 9))
        assert caught.value.problem.code == "read.lost"


def png_header(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    body = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head)) + bytes(4) + b"IDAT" + bytes(40)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<ServiceException>layer unknown</ServiceException>", "something else than a picture"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "picture|decoded"),
        (png_header(9000, 9000), "9000 x 9000 pixels"),
        (png_header(60_000, 60_000), "DecompressionBomb"),
    ],
    ids=["message", "damaged", "large", "bomb"],
)
def test_what_is_no_tile_is_lost(body, says, opened):
    with TileServer(odd={(0, 0): body}) as server:
        with pytest.raises(ReadError, match=says) as caught:
            opened(server.url("xyz/{z}/{x}/{y}")).read((1,), Window(0, 0, 1, 1))
        assert caught.value.problem.code == "read.corrupt"


def test_tiles_of_a_size_that_was_not_announced_are_refused(opened):
    with TileServer(tile=512) as server, pytest.raises(ReadError, match="512 x 512 pixels, the source says 256 x 256"):
        opened(server.url("xyz/{z}/{x}/{y}")).read((1,), Window(0, 0, 1, 1))


def test_jpeg_and_webp_tiles(opened):
    for kind in ("JPEG", "WEBP"):
        with TileServer(format=kind) as server:
            source = opened(server.url("xyz/{z}/{x}/{y}"))
            assert source.read((1, 2, 3), WINDOW).shape == (3, 300, 600)
            assert source.valid(WINDOW).all()


def test_credentials_come_from_the_secrets_and_never_show(opened):
    with TileServer(key="open-sesame") as server:
        href = server.url("xyz/{z}/{x}/{y}")
        source = opened(href, auth=Auth(kind="bearer", secret="TILES_KEY", hosts=("127.0.0.1", "localhost")))
        np.testing.assert_array_equal(source.read((2,), WINDOW)[0], truth(WINDOW)[1])
        with pytest.raises(ReadError) as caught:
            opened(href + "?token=abc").read((1,), WINDOW)
        assert caught.value.problem.code == "read.forbidden"
        assert "abc" not in str(caught.value.problem)
        assert not any("open-sesame" in path for path in server.paths)


def test_each_tile_is_asked_for_once(opened):
    with TileServer() as server:
        source = opened(server.url("xyz/{z}/{x}/{y}"))
        for index in (1, 2, 3):
            source.read((index,), WINDOW)
        source.valid(WINDOW)
        assert len(server.paths) == len(set(server.paths)) == 12
        assert 12 * 1000 < source.bytes_of(WINDOW) < 12 * 300_000


def test_windows_beyond_the_antimeridian_are_refused_clearly(opened):
    source = opened("https://tiles.example/{z}/{x}/{y}?key=hunter2")
    for window in (Window(0, -1, 5, 5), Window(0, 4090, 5, 10), Window(-5, 0, 9, 9)):
        with pytest.raises(InputError, match="does not lie inside") as caught:
            source.read((1,), window)
        assert "±180°" in caught.value.problem.hint
        assert "hunter2" not in str(caught.value.problem)


class Everywhere(set):
    """All cells but some."""

    def __contains__(self, cell):
        return not super().__contains__(cell)


@pytest.mark.parametrize(("there", "code"), [((), "tiles.none"), (((2, 3),), ""), (((3, 5),), "")])
def test_a_service_without_a_tile_in_the_area_is_refused(there, code, fetcher):
    """A wrong zoom or template answers 404 everywhere, which would be a map of nothing that looks like success."""
    side = 2 * 20037508.342789244 / 2**4
    x, y = -20037508.342789244, 20037508.342789244
    area = shapely.box(x + 2.5 * side, y - 5.5 * side, x + 6.5 * side, y - 1.5 * side)
    with TileServer() as server, Opener(fetcher, OPEN, XYZ, cache_mb=64) as opener:
        server.missing = Everywhere(there)
        asset = Asset("red", server.url("xyz/{z}/{x}/{y}"))
        grid = OutputGrid(Frame("EPSG:3857", side / 256), Window(0, 0, 1024, 1024), area)
        if code:
            with pytest.raises(ImageryError) as caught:
                refuse_missing(opener, asset, grid)
            assert (caught.value.problem.code, len(server.paths)) == (code, 25)
        else:
            refuse_missing(opener, asset, grid)
            assert len(server.paths) < 25


@pytest.mark.parametrize(
    ("href", "service", "code"),
    [
        ("https://h/{z}/{x}", {"scheme": "xyz", "zoom": 3}, "tiles.template"),
        ("https://h/{z}/{x}/{y}/{apikey}", {"scheme": "xyz", "zoom": 3}, "tiles.template"),
        ("https://h/{z}/{x}/{y}", {"scheme": "quadkey", "zoom": 3}, "tiles.template"),
        ("https://h/{q}", {"scheme": "quadkey", "zoom": 0}, "tiles.zoom"),
        ("https://h/{z}/{x}/{y}", {"scheme": "xyz"}, "tiles.zoom"),
        ("https://h/{z}/{x}/{y}", {"scheme": "xyz", "zoom": 3, "crs": "EPSG:32632"}, "tiles.crs"),
        ("https://h/wms", {"scheme": "wms", "layers": "a"}, "tiles.resolution"),
        ("https://h/wms", {"scheme": "wms", "layers": "a", "res_m": 1, "crs": "EPSG:0"}, "tiles.crs"),
        ("https://h/wms/{x}", {"scheme": "wms", "layers": "a", "res_m": 1}, "tiles.template"),
    ],
)
def test_templates_are_checked_before_anything_is_asked(href, service, code, opened):
    with pytest.raises(ImageryError) as caught:
        opened(href, TileService(**service))
    assert caught.value.problem.code == code
    assert caught.value.problem.hint


def test_servers_take_turns():
    matrix = matrix_of("https://{s}.h/{z}/{x}/{y}.png", XYZ)
    hosts = {matrix.url(row, col).split(".")[0] for row in range(3) for col in range(3)}
    assert hosts == {"https://a", "https://b", "https://c"}


def test_quadkeys_as_their_inventor_writes_them():
    """Bing Maps Tile System: tile (3, 5) at level 3 is 213."""
    assert matrix_of("https://h/{q}", TileService(scheme="quadkey", zoom=3)).url(5, 3) == "https://h/213"
