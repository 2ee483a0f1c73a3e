"""Reading ahead over HTTP: what is asked for, in which order, how much of it is held, and that nothing comes twice."""

import threading
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import rasterio

from pipelines.blocks.open import Opener
from pipelines.imagery.gdal import Retry
from pipelines.imagery.readers import SceneReader
from pipelines.mosaic.reader import MosaicReader
from pipelines.remote.fetch import HEAD, Fetcher
from pipelines.remote.network import Network
from swathe.source import Auth
from swathe.window import Window
from tests.pipelines.fault_server import FaultServer
from tests.pipelines.scenes import Place, make_scene, mosaic_of

PLACE = Place(shape=(2048, 1536))
"""Its corner lies on no anchored block: files and output meet at odd places."""
BANDS = ("red", "nir")
BLOCK = 256
"""Of the files."""
STRIPS = [Window(row, 0, 224, PLACE.shape[1]) for row in range(0, PLACE.shape[0], 192)]
LATE_S = 25.0
"""For what comes at once, unless it never comes: a busy machine is no fault. A request is given up after 30 s."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("ahead")


@pytest.fixture(scope="module")
def numbers():
    """Noise: it packs badly, so that blocks weigh more than headers."""
    return np.random.default_rng(3).integers(1, 60_000, (len(BANDS), *PLACE.shape), dtype=np.uint16)


@pytest.fixture(scope="module")
def local(folder, numbers):
    return make_scene(folder, "one", PLACE, data=numbers, bands=BANDS, blocksize=BLOCK)


@pytest.fixture
def server(folder):
    with FaultServer(folder) as running:
        yield running


@pytest.fixture
def mosaic(server, folder, local):
    bands = tuple(replace(b, href=server.url(str(Path(b.href).relative_to(folder)))) for b in local.bands)
    return mosaic_of([replace(local, bands=bands)], PLACE)


def network(**options):
    return Network(allow_private=True, retry=Retry(attempts=2, base_s=0.02), **options)


@pytest.fixture
def opener():
    with ExitStack() as stack:
        fetcher = Fetcher(network())
        stack.callback(fetcher.close)
        yield stack.enter_context(Opener(fetcher, Auth()))


def data_of(server):
    """Requests for blocks, in the order in which they came."""
    return [r for r in list(server.requests) if r.start or r.stop - r.start != HEAD]


def packed(local, window):
    """(offset, bytes) by (band, row, col) of all blocks of the files under a window: as GDAL reads their headers."""
    found = {}
    for band in local.bands:
        with rasterio.open(band.href) as file:
            for row in range(window.row // BLOCK, -(-window.bottom // BLOCK)):
                for col in range(window.col // BLOCK, -(-window.right // BLOCK)):
                    facts = (
                        file.get_tag_item(f"BLOCK_{kind}_{col}_{row}", "TIFF", bidx=1) for kind in ("OFFSET", "SIZE")
                    )
                    found[band.name, row, col] = tuple(map(int, facts))
    return found


def make_ahead(reader, windows):
    """Tell it what comes next, and come back once nothing more is made for that."""
    prefetcher, begun = reader._prefetcher, []
    begin = prefetcher._begin
    prefetcher._begin = lambda key: begun.append(begin(key)) or begun[-1]  # called with its lock held
    reader.ahead(windows)
    for block in begun:  # whoever has made one begins the next before it is done: the list grows until there is none
        block.result(LATE_S)


def test_blocks_are_asked_for_in_the_order_in_which_they_are_read(mosaic, server, opener, local, numbers):
    with MosaicReader(mosaic, opener, threads=1) as reader:
        reader.ahead(STRIPS)
        stacks = [reader.read(window) for window in STRIPS]
    for window, stack in zip(STRIPS, stacks, strict=True):
        seen = numbers[:, window.row : min(window.bottom, PLACE.shape[0])]
        np.testing.assert_array_equal(stack.data[0, :, : seen.shape[1]], seen)
    rows = {(band, offset): row for (band, row, _), (offset, _) in packed(local, Window(0, 0, *PLACE.shape)).items()}
    for band in BANDS:
        asked = [r.start for r in data_of(server) if f"/{band}." in f"/{r.name}"]
        # A block of the output takes two or three rows of the files' blocks; the next one of its row, the same.
        came = [rows[band, start] for start in asked]
        assert len(set(came)) > 4
        assert all(later >= earlier - 2 for earlier, later in zip(np.maximum.accumulate(came), came, strict=True))


def test_nothing_is_fetched_twice_and_hardly_more_than_the_blocks(mosaic, server, opener, local):
    with MosaicReader(mosaic, opener, threads=4) as reader:
        reader.ahead(STRIPS)
        for window in STRIPS:
            reader.read(window)
    came = data_of(server)
    spans = sorted((r.name, r.start, r.stop) for r in came)
    overlap = sum(max(0, a[2] - b[1]) for a, b in pairwise(spans) if a[0] == b[0])
    wanted = sum(size for _, size in packed(local, Window(0, 0, *PLACE.shape)).values())
    assert overlap < 0.01 * wanted
    assert wanted <= sum(r.stop - r.start for r in came) <= 1.02 * wanted


def test_no_more_is_read_ahead_than_half_of_the_bound(mosaic, server, opener, local):
    bound_mb, block_mb = 8, 512 * 512 * (2 * 2 + 1 + 2 + 2) / 2**20
    with MosaicReader(mosaic, opener, threads=2, cache_mb=bound_mb) as reader:
        make_ahead(reader, STRIPS)
        before = sum(r.stop - r.start for r in data_of(server))
        ahead = int(bound_mb / 2 // block_mb) + 2  # while the first two are made, nobody knows how large they are
        # Each takes at most 3 x 3 blocks of each file.
        largest = max(size for _, size in packed(local, Window(0, 0, *PLACE.shape)).values())
        assert 0 < before <= 1.02 * ahead * 9 * len(BANDS) * largest
        assert before < 0.8 * sum(size for _, size in packed(local, Window(0, 0, *PLACE.shape)).values())
        for window in STRIPS:
            reader.read(window)
    assert sum(r.stop - r.start for r in data_of(server)) > before


def test_headers_are_opened_side_by_side(mosaic, server, opener):
    """No header is answered before all are asked for: one after the other, they would wait for ever."""
    together = threading.Barrier(len(BANDS), timeout=LATE_S)
    alone = []

    def hold(request):
        if request.start == 0 and request.stop == HEAD and request.seen == 0:
            try:
                together.wait()
            except threading.BrokenBarrierError:
                alone.append(request.name)

    server.faults = hold
    with MosaicReader(mosaic, opener) as reader:
        reader.read(Window(0, 0, 10, 10))
    assert alone == []


def test_two_chunks_on_two_workers_stay_within_the_blocks_that_they_touch(mosaic, server, local, tmp_path):
    """The second worker finds the blocks that both need on the node, and the same pixels."""
    middle = PLACE.shape[0] // 2 + 100
    halves = [[s for s in STRIPS if s.row < middle], [s for s in STRIPS if s.bottom > middle]]
    kept = network(cache_dir=tmp_path / "kept", cache_mb=64)
    told, stacks = [], []
    for strips in halves:
        reader = SceneReader(mosaic, kept, cache_mb=64)
        reader.ahead(strips)
        stacks.append({window: reader.read(window) for window in strips})
        told.append(reader.told())
        reader.close()
    touched = sum(size for _, size in packed(local, Window(0, 0, *PLACE.shape)).values())
    sent = sum(r.stop - r.start for r in server.requests)
    assert told[0]["from_cache"] == 0
    assert told[1]["from_cache"] > 0
    assert sent <= 1.15 * touched
    both = stacks[0].keys() & stacks[1].keys()
    assert both
    for window in both:
        np.testing.assert_array_equal(stacks[0][window].data, stacks[1][window].data)


def test_without_a_place_on_the_node_the_shared_blocks_come_twice(mosaic, server, local):
    """What the cache is for: the same two workers without it."""
    middle = PLACE.shape[0] // 2 + 100
    for strips in ([s for s in STRIPS if s.row < middle], [s for s in STRIPS if s.bottom > middle]):
        reader = SceneReader(mosaic, network(), cache_mb=64)
        for window in strips:
            reader.read(window)
        reader.close()
    touched = sum(size for _, size in packed(local, Window(0, 0, *PLACE.shape)).values())
    assert sum(r.stop - r.start for r in server.requests) > 1.15 * touched
