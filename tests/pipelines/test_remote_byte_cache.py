"""Spans are merged without waste, and kept on the node: for all processes, within a bound, and never wrong."""

import multiprocessing
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.imagery.gdal import Retry
from pipelines.remote.answer import Version
from pipelines.remote.byte_cache import ByteCache, unsigned
from pipelines.remote.fetch import HEAD, Fetcher
from pipelines.remote.network import Network
from pipelines.remote.ranges import GAP, MOST, TINY, WASTE, merge, pieces
from swathe.errors import ReadError
from swathe.source import Auth
from tests.pipelines.remote_server import Reply, Server, part

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = os.urandom(2_000_000)
SPANS = [(n * 90_000, n * 90_000 + 50_000) for n in range(20)]
TRUTH = [DATA[a:b] for a, b in SPANS]
V1 = Version(len(DATA), '"v1"')

spans = st.lists(
    st.tuples(st.integers(0, 400_000), st.integers(0, 90_000)).map(lambda t: (t[0], t[0] + t[1])), max_size=30
)


# --- merging ----------------------------------------------------------------------------------------------------------


@given(spans)
def test_every_span_comes_once_and_whole(wanted):
    groups = merge(wanted)
    members = [n for group in groups for n in group.members]
    assert sorted(members) == [n for n, (start, stop) in enumerate(wanted) if start < stop]
    for group in groups:
        inside = [wanted[n] for n in group.members]
        assert (group.start, group.stop) == (min(a for a, _ in inside), max(b for _, b in inside))
    assert [g.start for g in groups] == sorted(g.start for g in groups)


@given(spans)
def test_little_is_fetched_that_nobody_wants(wanted):
    for group in merge(wanted):
        useful = len(set().union(*(range(*wanted[n]) for n in group.members)))
        assert group.stop - group.start <= useful * (1 + WASTE) + TINY * len(group.members)
        assert group.stop - group.start <= MOST or len(group.members) == 1


@given(spans)
def test_pieces_are_what_a_plain_slice_gives(wanted):
    groups = merge(wanted)
    found = pieces(groups, [DATA[g.start : g.stop] for g in groups], wanted)
    assert all(found.get(n, b"") == DATA[start:stop] for n, (start, stop) in enumerate(wanted))


def test_neighbours_become_one_request_and_strangers_do_not():
    blocks = [(n * 100_004, n * 100_004 + 100_000) for n in range(20)]  # four bytes between, as GDAL writes COGs
    assert len(merge(blocks)) == 1
    assert len(merge(blocks, most=1_000_000)) == 3
    assert [g.members for g in merge([(0, 9), (9 + TINY, 99_999)])] == [(0, 1)]
    assert len(merge([(0, 10_000), (10_001 + TINY, 20_000)])) == 2
    assert len(merge([(0, 1_000_000), (1_000_000 + GAP, 2_000_000)])) == 1
    assert len(merge([(0, 1_000_000), (1_000_001 + GAP, 2_000_000)])) == 2
    for wrong in ((5, 4), (-1, 4)):
        with pytest.raises(ValueError, match="before it begins"):
            merge([wrong])


# --- kept -------------------------------------------------------------------------------------------------------------


def network(folder, mb=64):
    return Network(allow_private=True, retry=Retry(attempts=2, base_s=0.01), cache_dir=folder, cache_mb=mb)


def test_what_one_process_fetched_the_next_one_finds(tmp_path):
    with Server(lambda asked: part(DATA, asked)) as server:
        with Fetcher(network(tmp_path)) as first:
            first.facts(server.url("a.tif?X-Amz-Signature=1"))
            assert first.ranges(server.url("a.tif?X-Amz-Signature=1"), SPANS) == TRUTH
            assert first.counts.from_cache == 0
        server.asked.clear()
        program = (
            "import sys; sys.path.insert(0, sys.argv[3]); from pathlib import Path\n"
            "from pipelines.remote.fetch import Fetcher; from pipelines.remote.network import Network\n"
            "with Fetcher(Network(True, cache_dir=Path(sys.argv[1]))) as f:\n"
            "    f.facts(sys.argv[2]); spans = [(n * 90_000, n * 90_000 + 50_000) for n in range(20)]\n"
            "    sys.stdout.buffer.write(b''.join(f.ranges(sys.argv[2], spans)))\n"
            "    assert f.counts.from_cache == 1_000_000, f.counts\n"
        )
        href = server.url("a.tif?X-Amz-Signature=2")  # signed anew: the same file
        answer = subprocess.run(
            [sys.executable, "-c", program, tmp_path, href, ROOT], capture_output=True, timeout=60, check=True
        )
        assert answer.stdout == b"".join(TRUTH)
        assert [a.span for a in server.asked] == [(0, HEAD)]  # to be let in, and to see that it is the same file


def test_another_version_is_another_file(tmp_path):
    other = DATA[::-1]
    state = [(DATA, '"v1"')]
    with Server(lambda asked: part(state[0][0], asked, etag=state[0][1])) as server:
        for data, tag in ((DATA, '"v1"'), (other, '"v2"'), (DATA, '"v1"')):
            state[0] = (data, tag)
            with Fetcher(network(tmp_path)) as fetcher:
                fetcher.facts(server.url("a.tif"))
                assert fetcher.ranges(server.url("a.tif"), SPANS) == [data[a:b] for a, b in SPANS]


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_what_cannot_be_told_apart_is_not_kept(tag, tmp_path):
    with Server(lambda asked: part(DATA, asked, etag=tag)) as server, Fetcher(network(tmp_path)) as fetcher:
        for _ in range(2):
            fetcher.facts(server.url("a.tif"))
            fetcher.ranges(server.url("a.tif"), SPANS)
        assert fetcher.counts.from_cache == 0
    assert list(tmp_path.iterdir()) == []


def test_nobody_reads_from_it_what_he_may_not_read(tmp_path):
    """Who has another signature, or none, is let in by the server or not at all."""
    guard = lambda asked: part(DATA, asked) if "Signature=good" in asked.target else Reply(403)  # noqa: E731
    with Server(guard) as server, Fetcher(network(tmp_path)) as fetcher:
        fetcher.facts(server.url("a.tif?Signature=good"))
        fetcher.ranges(server.url("a.tif?Signature=good"), SPANS)
        end = time.monotonic() + 10
        while sum(p.is_file() for p in tmp_path.glob("*/[!.]*")) < len(SPANS) and time.monotonic() < end:
            time.sleep(0.01)
        assert fetcher.ranges(server.url("a.tif?Signature=good"), SPANS) == TRUTH
        assert fetcher.counts.from_cache == 1_000_000
        for href, auth in ((server.url("a.tif?Signature=bad"), Auth()), (server.url("a.tif"), Auth())):
            for ask in (lambda h, a: fetcher.ranges(h, SPANS, a), fetcher.whole, fetcher.facts):
                with pytest.raises(ReadError) as caught:
                    ask(href, auth)
                assert caught.value.problem.code == "read.forbidden"


def test_damage_is_noticed_and_fetched_again(tmp_path):
    with Server(lambda asked: part(DATA, asked)) as server:
        with Fetcher(network(tmp_path)) as fetcher:
            fetcher.facts(server.url("a.tif"))
            fetcher.ranges(server.url("a.tif"), SPANS)
        files = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert len(files) == 20
        for n, path in enumerate(files):
            raw = bytearray(path.read_bytes())
            path.write_bytes([raw[: len(raw) // 2], bytes(len(raw)), b"", raw[:-1] + bytes([raw[-1] ^ 1])][n % 4])
        with Fetcher(network(tmp_path)) as fetcher:
            fetcher.facts(server.url("a.tif"))
            assert fetcher.ranges(server.url("a.tif"), SPANS) == TRUTH
            assert fetcher.counts.from_cache == 0


def held(folder):
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_it_stays_within_its_bound_and_forgets_what_was_unused_longest(tmp_path):
    kept = ByteCache(tmp_path, 8)
    body = os.urandom(200_000)
    for n in range(100):
        kept.put(f"http://h/{n}", V1, [((0, len(body)), body)])
        if n % 10 == 9:
            time.sleep(0.01)
    kept.close()
    assert held(tmp_path) <= (8 << 20) * 1.15
    there = [n for n in range(100) if kept.get(f"http://h/{n}", V1, [(0, len(body))]) != [None]]
    assert len(there) >= 25
    assert set(there) >= set(range(90, 100))


def _fill(folder, seed):
    kept = ByteCache(folder, 8)
    for n in range(150):
        body = bytes([seed, n % 250]) * 60_000
        kept.put(f"http://h/{seed}/{n % 40}", V1, [((0, len(body)), body)])
        for back in kept.get(f"http://h/{seed}/{n % 40}", V1, [(0, len(body))]):
            assert back is None or back[:1] == bytes([seed])
        time.sleep(0.001)
    kept.close()


def test_processes_share_it(tmp_path):
    context = multiprocessing.get_context("fork")
    others = [context.Process(target=_fill, args=(tmp_path, seed)) for seed in (1, 2)]
    for one in others:
        one.start()
    for one in others:
        one.join(30)
    assert [one.exitcode for one in others] == [0, 0]
    assert held(tmp_path) <= (8 << 20) * 1.4
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()]


def test_a_folder_that_others_may_write_into_is_not_used(tmp_path):
    tmp_path.chmod(0o777)
    kept = ByteCache(tmp_path, 8)
    kept.put("http://h/a", V1, [((0, 5), b"abcde")])
    kept.close()
    assert list(tmp_path.iterdir()) == []
    fresh = ByteCache(tmp_path / "own", 8)
    fresh.put("http://h/a", V1, [((0, 5), b"abcde")])
    fresh.close()
    assert fresh.get("http://h/a", V1, [(0, 5), (0, 4)]) == [b"abcde", None]
    assert stat.S_IMODE((tmp_path / "own").stat().st_mode) == 0o700


def test_a_disk_that_fails_is_no_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with Server(lambda asked: part(DATA, asked)) as server, Fetcher(network(tmp_path / "file")) as fetcher:
        fetcher.facts(server.url("a.tif"))
        assert fetcher.ranges(server.url("a.tif"), SPANS) == TRUTH


@pytest.mark.parametrize(
    ("href", "bare"),
    [
        ("https://h/a.tif?X-Amz-Signature=1&X-Amz-Date=2&v=3#x", "https://h/a.tif?v=3"),
        ("https://h/a.tif?se=1&sp=r&sig=2&sv=3&sr=c&skoid=4", "https://h/a.tif"),
        ("https://h/a.tif?size=1&service=2&sign=3&id=4", "https://h/a.tif?size=1&service=2&sign=3&id=4"),
        ("https://h/a.tif?Expires=1&Key-Pair-Id=2&Policy=3&Signature=4", "https://h/a.tif"),
        ("https://h/a.tif?", "https://h/a.tif?"),
    ],
)
def test_names_without_signatures(href, bare):
    assert unsigned(href) == bare
