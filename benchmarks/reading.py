"""Reading windows of COGs over HTTP and from S3: this project's reader beside async-geotiff, rasterio and odc-stac.

    python -m benchmarks.reading [--rounds 9] [--delay-ms 0 20] [--codecs zstd deflate] [--keep FOLDER] [--out FILE]

Twelve COGs (uint16, packed with a predictor, blocks of 512) of 4096 x 4096 pixels with an image's texture; of each one
window of 512 x 512 that lies across four blocks. ZSTD is what this project writes, DEFLATE what the public archives
use. Every round opens all files anew, header and all, so nothing is remembered but connections; the order of the
readers changes from round to round. All readers must give the same pixels. Prints a table per codec and place: seconds
of twelve windows, median and spread, and the ratios within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.transform import from_origin
from rasterio.windows import Window as RasterioWindow

from benchmarks.rounds import Spread, keep, shuffled
from pipelines.blocks.open import Opener
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from swathe.scene import Asset
from swathe.source import Auth
from swathe.window import Window

FILES, SIDE, BLOCK, PIXEL_M = 12, 4096, 512, 10
ORIGIN = (500_000, 5_000_000)
THREADS = FILES
SERVER = """
import asyncio, os, sys
from aiohttp import web

async def answer(request):
    await asyncio.sleep(float(sys.argv[2]) / 1000)
    return web.FileResponse(os.path.join(sys.argv[1], os.path.basename(request.path)))

async def main():
    app = web.Application()
    app.router.add_get("/{name}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(site._server.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def window_of(number: int) -> Window:
    """Across four blocks, elsewhere in every file."""
    return Window(256 + BLOCK * (number % 6), 256 + BLOCK * (number * 5 % 6), 512, 512)


def write_files(folder: Path, codec: str) -> None:
    """Texture that packs like an image does: smooth, with noise of a few counts."""
    for number in range(FILES):
        rng = np.random.default_rng(number)
        coarse = rng.random((SIDE // 64 + 2, SIDE // 64 + 2)) * 4000
        smooth = np.kron(coarse, np.ones((64, 64)))[:SIDE, :SIDE]
        data = (smooth + rng.normal(300, 25, (SIDE, SIDE))).clip(1, 65535).astype("uint16")
        with rasterio.open(
            folder / f"{number}.tif", "w", driver="COG", count=1, height=SIDE, width=SIDE, dtype="uint16", nodata=0,
            crs="EPSG:32632", transform=from_origin(*ORIGIN, PIXEL_M, PIXEL_M), compress=codec, predictor=2,
            blocksize=BLOCK, overviews="none",
        ) as file:  # fmt: skip
            file.write(data, 1)


@dataclass(frozen=True)
class Place:
    """Where the files are served from."""

    name: str
    hrefs: tuple[str, ...]
    fetcher: Fetcher
    auth: Auth
    store: Any
    """obstore's, for async-geotiff."""
    paths: tuple[str, ...]
    """Of the files in that store."""
    options: dict[str, str]
    """GDAL's."""


def ours(place: Place, _turn: int) -> list[np.ndarray]:
    """Opener, in as many threads as a mosaic uses."""

    def one(number: int) -> np.ndarray:
        source = opener.open(Asset("band", place.hrefs[number]))
        return source.read((1,), window_of(number))[0]

    with Opener(place.fetcher, place.auth) as opener, ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(FILES)))


def async_geotiff(place: Place, _turn: int) -> list[np.ndarray]:
    """All at once on one event loop, on obstore."""
    from async_geotiff import GeoTIFF
    from async_geotiff import Window as TheirWindow

    async def one(number: int) -> np.ndarray:
        file = await GeoTIFF.open(place.paths[number], store=place.store)
        w = window_of(number)
        asked = TheirWindow(col_off=w.col, row_off=w.row, width=w.width, height=w.height)
        return np.asarray((await file.read(window=asked)).data)[0]

    async def every() -> list[np.ndarray]:
        return list(await asyncio.gather(*(one(number) for number in range(FILES))))

    return asyncio.run(every())


def rasterio_threads(place: Place, turn: int) -> list[np.ndarray]:
    """Rasterio in as many threads, with the options that its users are told to set."""

    def one(number: int) -> np.ndarray:
        w = window_of(number)
        with rasterio.Env(**_gdal(place)), rasterio.open(_anew(place.hrefs[number], turn)) as file:
            return file.read(1, window=RasterioWindow(w.col, w.row, w.width, w.height))  # type: ignore[call-arg]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(FILES)))


def odc_stac(place: Place, turn: int) -> list[np.ndarray]:
    """odc-stac, one item a window, as many threads."""
    from odc.geo.geobox import GeoBox
    from odc.stac import configure_rio, load

    configure_rio(cloud_defaults=True, **_gdal(place))

    def one(number: int) -> np.ndarray:
        w = window_of(number)
        west, north = ORIGIN[0] + PIXEL_M * w.col, ORIGIN[1] - PIXEL_M * w.row
        box = GeoBox((512, 512), from_origin(west, north, PIXEL_M, PIXEL_M), "EPSG:32632")
        found = load([_item(_anew(place.hrefs[number], turn))], bands=["band"], geobox=box)
        return found["band"].to_numpy()[0]

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(FILES)))


def _gdal(place: Place) -> dict[str, Any]:
    return {
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        "GDAL_HTTP_MULTIPLEX": "YES",
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_INGESTED_BYTES_AT_OPEN": 32768,
        "VSI_CACHE": True,
        "CPL_VSIL_CURL_NON_CACHED": "/vsicurl/http:/vsis3/",  # every round anew, as for the others
        **place.options,
    }


def _anew(href: str, turn: int) -> str:
    return f"{href}?round={turn}" if href.startswith("http") else href


def _item(href: str) -> Any:
    from datetime import UTC, datetime

    import pystac

    item = pystac.Item("a", None, None, datetime(2024, 7, 1, tzinfo=UTC), {"proj:code": "EPSG:32632"})
    item.geometry = {"type": "Polygon", "coordinates": [[[9, 44], [10, 44], [10, 46], [9, 46], [9, 44]]]}
    item.bbox = [9, 44, 10, 46]
    item.stac_extensions = ["https://stac-extensions.github.io/projection/v2.0.0/schema.json"]
    extra = {"proj:shape": [SIDE, SIDE], "proj:transform": [PIXEL_M, 0, ORIGIN[0], 0, -PIXEL_M, ORIGIN[1]]}
    item.add_asset("band", pystac.Asset(href, media_type=pystac.MediaType.COG, roles=["data"], extra_fields=extra))
    return item


READERS: dict[str, Callable[[Place, int], list[np.ndarray]]] = {
    "swathe": ours,
    "async-geotiff": async_geotiff,
    "rasterio": rasterio_threads,
    "odc-stac": odc_stac,
}


@contextlib.contextmanager
def over_http(folder: Path, delay_ms: float) -> Iterator[Place]:
    """A server of its own process, which answers after ``delay_ms``."""
    from obstore.store import HTTPStore

    command = [sys.executable, "-c", SERVER, str(folder), str(delay_ms)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            root = f"http://127.0.0.1:{int(server.stdout.readline())}"  # type: ignore[union-attr]
            fetcher = Fetcher(Network(allow_private=True))
            names = tuple(f"{number}.tif" for number in range(FILES))
            store = HTTPStore.from_url(root, client_options={"allow_http": True})
            hrefs = tuple(f"{root}/{name}" for name in names)
            yield Place(f"HTTP, {delay_ms:g} ms", hrefs, fetcher, Auth(), store, names, {})
            fetcher.close()
        finally:
            server.kill()


@contextlib.contextmanager
def from_s3(folder: Path) -> Iterator[Place]:
    """The S3 server of the tests."""
    from obstore.store import S3Store

    from tests.pipelines.s3_server import S3Server

    with S3Server() as server:
        client, names = server.client(), tuple(f"reading/{number}.tif" for number in range(FILES))
        for number, name in enumerate(names):
            client.put_object(Bucket=server.bucket, Key=name, Body=(folder / f"{number}.tif").read_bytes())
        facts = {"AWS_ACCESS_KEY_ID": server.key, "AWS_SECRET_ACCESS_KEY": server.secret}
        os.environ.update(facts, AWS_REGION="us-east-1")
        fetcher = Fetcher(Network(allow_private=True, s3_endpoint=server.endpoint, secrets=Secrets(facts)))
        store = S3Store(
            server.bucket, endpoint=server.endpoint, region="us-east-1", access_key_id=server.key,
            secret_access_key=server.secret, client_options={"allow_http": True}, virtual_hosted_style_request=False,
        )  # fmt: skip
        host = server.endpoint.removeprefix("http://")
        options = {"AWS_S3_ENDPOINT": host, "AWS_HTTPS": "NO", "AWS_VIRTUAL_HOSTING": "FALSE"}
        hrefs = tuple(f"s3://{server.bucket}/{name}" for name in names)
        auth = Auth(kind="s3", region="us-east-1")  # type: ignore[arg-type]
        yield Place("S3", hrefs, fetcher, auth, store, names, options)
        fetcher.close()


def measure(place: Place, rounds: int) -> dict[str, list[float]]:
    """Print the table of one place; seconds of each reader, round by round."""
    want = ours(place, 0)
    for name, reader in READERS.items():  # and once to warm up: imports, connections
        if not all(map(np.array_equal, want, reader(place, 0))):
            raise SystemExit(f"{name} gives other pixels")
    took: dict[str, list[float]] = {name: [] for name in READERS}
    cpu: dict[str, list[float]] = {name: [] for name in READERS}
    for turn in range(1, rounds + 1):
        for name in shuffled(list(READERS), turn):
            begun, worked = time.perf_counter(), time.process_time()
            READERS[name](place, turn)
            took[name].append(time.perf_counter() - begun)
            cpu[name].append(time.process_time() - worked)
    print(f" over {place.name}: {FILES} windows of 512 x 512, {rounds} rounds, {os.cpu_count()} cores\n")
    print("| reader | seconds | between | CPU seconds | to swathe, within a round |\n|---|---|---|---|---|")
    for name, values in took.items():
        spread, work = Spread.of(values), Spread.of(cpu[name])
        ratio = Spread.of([a / b for a, b in zip(values, took["swathe"], strict=True)])
        print(
            f"| {name} | {spread.middle:.3f} | {spread.low:.3f} to {spread.high:.3f} | {work.middle:.3f} "
            f"| {ratio.middle:.2f} ({ratio.low:.2f} to {ratio.high:.2f}) |"
        )
    return took


def main() -> None:
    """See the module."""
    options = argparse.ArgumentParser(description="Windows of COGs, over HTTP and from S3.")
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--delay-ms", type=float, nargs="*", default=[0.0, 20.0], help="of the HTTP server")
    options.add_argument("--codecs", nargs="*", default=["zstd", "deflate"])
    options.add_argument("--no-s3", action="store_true")
    options.add_argument("--keep", type=Path, help="folder for the files, written once")
    options.add_argument("--out", type=Path, help="file for the figures, as JSON")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = asked.keep or Path(scratch)
        places = {name: took for codec in asked.codecs for name, took in compare(folder / codec, codec, asked).items()}
    keep({"rounds": asked.rounds, "places": places}, asked.out)


def compare(folder: Path, codec: str, asked: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """All places with files of one codec, by name."""
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / f"{number}.tif").is_file() for number in range(FILES)):
        write_files(folder, codec)
    places, found = [over_http(folder, delay) for delay in asked.delay_ms], {}
    for opened in itertools.chain(places, [] if asked.no_s3 else [from_s3(folder)]):
        with opened as place:
            print(f"\n{codec.upper()}", end="")
            found[f"{codec.upper()}, {place.name}"] = measure(place, asked.rounds)
    return found


if __name__ == "__main__":
    main()
