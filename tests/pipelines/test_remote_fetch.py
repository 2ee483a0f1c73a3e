"""Bytes through real connections: exact, merged, tried again where that helps, and lost by name where it does not."""

import asyncio
import datetime as dt
import gzip
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import format_datetime
from pathlib import Path

import pytest

from pipelines.imagery.gdal import Retry
from pipelines.remote.answer import PATIENCE_S, pause_of
from pipelines.remote.fetch import HEAD, Fetcher
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets
from swathe.errors import ImageryError, ReadError, SwatheError
from tests.pipelines.fault_server import Always, Every, FaultServer, First, NoRange, Reset, Short, Status, Truncate
from tests.pipelines.remote_server import Names, Reply, Server, part

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = os.urandom(3_000_000)
QUICK = Network(allow_private=True, retry=Retry(attempts=3, base_s=0.01, timeout_s=10))


@pytest.fixture
def fetcher():
    with Fetcher(QUICK) as fetcher:
        yield fetcher


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "a.tif").write_bytes(DATA)
    (folder / "small.tif").write_bytes(DATA[:1000])
    (folder / "empty.tif").write_bytes(b"")
    return folder


def code(error):
    return error.value.problem.code


# --- bytes ------------------------------------------------------------------------------------------------------------

SPANS = [(0, 1), (2_999_999, 3_000_000), (500_000, 600_000), (600_000, 650_000), (7, 7), (600_010, 600_020), (0, 1),
         (2_000_000, 2_000_003), (2_900_000, 3_100_000), (3_000_000, 3_000_010)]  # fmt: skip


def test_bytes_are_those_of_the_file(folder, fetcher):
    truth = [DATA[start:stop] for start, stop in SPANS]
    assert fetcher.ranges(str(folder / "a.tif"), SPANS) == truth
    with FaultServer(folder) as server:
        assert fetcher.ranges(server.url("a.tif"), SPANS) == truth
        asked = sorted((r.start, r.stop) for r in server.requests)
        assert (500_000, 650_000) in asked  # neighbours came together
        assert asked.count((0, 1)) == 1  # and what was wanted twice, once
        assert len(asked) == 4
        assert asyncio.run_coroutine_threadsafe(
            fetcher.a_ranges(server.url("a.tif"), SPANS), fetcher.loop
        ).result() == truth  # fmt: skip


def test_first_sight(folder, fetcher):
    with FaultServer(folder) as server:
        for name, size in (("a.tif", 3_000_000), ("small.tif", 1000), ("empty.tif", 0)):
            facts, here = fetcher.facts(server.url(name)), fetcher.facts(str(folder / name))
            assert facts.size == here.size == size
            assert facts.head == here.head == DATA[: min(size, HEAD)]
            assert facts.stamp or not size
        assert len(server.requests) == 3
        assert {r.method for r in server.requests} == {"GET"}


def test_whole_files_within_a_limit(folder, fetcher):
    with FaultServer(folder) as server:
        for href in (server.url("a.tif"), str(folder / "a.tif")):
            assert fetcher.whole(href) == DATA
            with pytest.raises(ImageryError) as caught:
                fetcher.whole(href, limit_mb=2)
            assert code(caught) == "imagery.limits"
            assert fetcher.counts.bytes <= len(DATA)
    with Server(lambda asked: Reply(body=bytes(9_000_000), announced=False)) as server, pytest.raises(ImageryError):
        fetcher.whole(server.url("endless"), limit_mb=1)
    with Server(lambda asked: Reply(204)) as server:
        assert fetcher.whole(server.url("tile")) == b""


def test_connections_are_used_again_and_are_not_many(fetcher):
    with Server(lambda asked: part(DATA, asked, after=0.005)) as server:
        for _ in range(3):
            fetcher.ranges(server.url("a.tif"), [(n * 90_000, n * 90_000 + 100) for n in range(30)])
        assert len(server.asked) == 90
        assert len({a.port for a in server.asked}) <= QUICK.per_host


def test_one_host_is_asked_so_many_things_at_once():
    now, most, lock = [0], [0], threading.Lock()

    def answers(asked):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.02)
        with lock:
            now[0] -= 1
        return part(DATA, asked)

    spans = [(n * 90_000, n * 90_000 + 100) for n in range(30)]
    few = Network(allow_private=True, per_host=4)
    with Server(answers) as server, Fetcher(few) as fetcher, ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: fetcher.ranges(server.url(f"{n}.tif"), spans), range(3)))
    assert 3 <= most[0] <= 4


def test_many_threads_get_what_they_asked_for(folder, fetcher):
    with FaultServer(folder, Every(5, Status(503))) as server, ThreadPoolExecutor(8) as pool:
        spans = [[(n * 1000 + k * 300_000, n * 1000 + k * 300_000 + 500) for k in range(9)] for n in range(24)]
        for wanted, found in zip(spans, pool.map(lambda s: fetcher.ranges(server.url("a.tif"), s), spans), strict=True):
            assert found == [DATA[a:b] for a, b in wanted]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [*(Status(code) for code in (500, 502, 503, 429, 408, 425)), Reset(), Reset(5000), Truncate(), Short()],
    ids=str,
)  # fmt: skip
def test_what_passes_is_asked_again(fault, folder, fetcher):
    with FaultServer(folder, First(fault, 2)) as server:
        assert fetcher.ranges(server.url("a.tif"), [(1000, 90_000)]) == [DATA[1000:90_000]]
        assert (fetcher.counts.requests, fetcher.counts.retried) == (3, 2)


@pytest.mark.parametrize("fault", [Status(503), Reset(), Truncate(), Short()], ids=str)
def test_what_stays_is_lost_after_all_attempts(fault, folder, fetcher):
    with FaultServer(folder, Always(fault)) as server, pytest.raises(ReadError, match="cannot be read: ") as caught:
        fetcher.ranges(server.url("a.tif") + "?sig=hunter2", [(0, 90_000), (1_000_000, 1_090_000)])
    assert code(caught) == "read.lost"
    assert "hunter2" not in str(caught.value.problem)


@pytest.mark.parametrize(
    ("status", "expected"),
    [(404, "read.gone"), (410, "read.gone"), (401, "read.forbidden"), (403, "read.forbidden"), (400, "read.refused"),
     (412, "read.refused"), (501, "read.refused"), (304, "read.refused"), (302, "read.refused")],
)  # fmt: skip
def test_what_is_refused_is_asked_once(status, expected, folder, fetcher):
    with FaultServer(folder, Always(Status(status))) as server, pytest.raises(ReadError) as caught:
        fetcher.ranges(server.url("a.tif"), [(0, 90_000)])
    assert code(caught) == expected
    assert len(server.requests) == 1


def test_nobody_there(fetcher):
    with Server(lambda asked: Reply()) as server:
        href = server.url("a.tif")
    with pytest.raises(ReadError, match="no connection to the server") as caught:
        fetcher.ranges(href, [(0, 9)])
    assert code(caught) == "read.lost"


@pytest.mark.parametrize(
    ("number", "why", "times"),
    [
        (socket.EAI_NONAME, "no server of the name in https://nowhere.example/a.tif", 1),
        (socket.EAI_AGAIN, "name of the server is not known", 3),
    ],
)
def test_a_name_that_does_not_exist_is_looked_up_once(number, why, times):
    class Nowhere(Names):
        async def resolve(self, host, port=0, family=socket.AF_UNSPEC):
            self.looked_up.append(host)
            raise socket.gaierror(number, "said by the system")

    names = Nowhere({})
    with Fetcher(QUICK, resolver=names) as fetcher, pytest.raises(ReadError, match=why) as caught:
        fetcher.ranges("https://nowhere.example/a.tif?sig=hunter2", [(0, 9)])
    assert code(caught) == "read.lost"
    assert len(names.looked_up) == times


@pytest.mark.parametrize(
    "said",
    [
        "bytes 0-99/3000000",
        "bytes 5-104/3000000",
        "bytes 0-98/3000000",
        "bytes 0-99/*",
        "",
        "0-99",
        "bytes 0-199/3000000",
    ],
)
def test_other_bytes_than_asked_for_are_not_taken(said, fetcher):
    wrong = lambda asked: part(DATA, asked, headers={"Content-Range": said, "ETag": "1"})  # noqa: E731
    with Server(wrong) as server:
        if said.startswith("bytes 0-99/"):
            assert fetcher.ranges(server.url("a.tif"), [(0, 100)]) == [DATA[:100]]
        else:
            with pytest.raises(ReadError) as caught:
                fetcher.ranges(server.url("a.tif"), [(0, 100)])
            assert code(caught) == "read.lost"


def test_more_or_less_body_than_announced_is_not_taken(fetcher):
    long = lambda asked: part(DATA, asked, body=DATA[:200])  # noqa: E731
    short = lambda asked: part(DATA, asked, body=DATA[:50], announced=False)  # noqa: E731
    late = lambda asked: part(DATA, asked, headers={"Content-Range": "bytes 5-99/3000000"}, announced=False)  # noqa: E731
    for answers in (long, short, late):
        with Server(answers) as server, pytest.raises(ReadError) as caught:
            fetcher.ranges(server.url("a.tif"), [(0, 100)])
        assert code(caught) == "read.lost"


def test_servers_without_ranges(folder, fetcher):
    with FaultServer(folder, Always(NoRange())) as server:
        assert fetcher.ranges(server.url("small.tif"), [(10, 20), (990, 2000)]) == [DATA[10:20], DATA[990:1000]]
        assert fetcher.facts(server.url("small.tif")).size == 1000
        before = fetcher.counts.bytes
        with pytest.raises(ImageryError) as caught:
            fetcher.ranges(server.url("a.tif"), [(0, 100)])
        assert code(caught) == "imagery.no_ranges"
        assert fetcher.counts.bytes == before  # the rest was not fetched first


def test_compressed_parts_are_not_taken(fetcher):
    def answers(asked):
        assert asked.headers["accept-encoding"] == "identity"
        body = gzip.compress(DATA[:100])
        said = {"Content-Encoding": "gzip", "Content-Range": f"bytes 0-{len(body) - 1}/{len(DATA)}"}
        return Reply(206, said, body)

    with Server(answers) as server, pytest.raises(ReadError, match="compresses"):
        fetcher.ranges(server.url("a.tif"), [(0, 100)])


# --- time -------------------------------------------------------------------------------------------------------------


def waits(answers, attempts=4):
    """What was waited for in seconds, and the result, without waiting."""
    slept = []

    async def sleep(seconds):
        slept.append(seconds)

    network = Network(allow_private=True, retry=Retry(attempts=attempts, base_s=0.5, cap_s=3))
    with Server(answers) as server, Fetcher(network, sleep) as fetcher:
        assert fetcher.ranges(server.url("a.tif"), [(0, 100)]) == [DATA[:100]]
        return slept, server.asked


def faulty(*replies):
    left = list(replies)
    return lambda asked: left.pop(0) if left else part(DATA, asked)


def test_pauses_grow_and_are_not_all_alike():
    slept, asked = waits(faulty(*[Reply(503)] * 6), attempts=7)
    assert len(asked) == 7
    for pause, most in zip(slept, (0.5, 1, 2, 3, 3, 3), strict=True):
        assert most / 2 <= pause <= most
    assert len(set(slept)) == 6


def test_the_server_says_how_long_to_wait():
    slept, _ = waits(faulty(Reply(429, {"Retry-After": "7"})))
    assert slept == [pytest.approx(7, abs=0.8)]
    then = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=30)
    slept, _ = waits(faulty(Reply(503, {"Retry-After": format_datetime(then, usegmt=True)})))
    assert slept == [pytest.approx(30, abs=4)]
    slept, _ = waits(faulty(Reply(429, {"Retry-After": "86400"})))
    assert slept == [pytest.approx(PATIENCE_S, rel=0.11)]


@pytest.mark.parametrize("said", ["0", "Fri, 31 Dec 1999 23:59:59 GMT"])
def test_a_server_that_asks_for_no_time_gets_what_others_get(said):
    slept, asked = waits(faulty(*[Reply(503, {"Retry-After": said})] * 4), attempts=5)
    assert len(asked) == 5
    for pause, most in zip(slept, (0.5, 1, 2, 3), strict=True):
        assert most / 2 <= pause <= most


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("5", 5), (" 12 ", 12), ("1.5", 1.5), ("999999", PATIENCE_S), ("-3", None), ("soon", None), ("", None),
     (None, None), ("Fri, 31 Dec 1999 23:59:59 GMT", 0), ("1" * 400, None)],
)  # fmt: skip
def test_retry_after(value, seconds):
    assert pause_of(value) == seconds


def test_others_wait_too_when_a_host_asks_for_peace():
    """One 429 holds back all requests to that host, and none to another."""
    slept, told = [], threading.Event()

    async def sleep(seconds):
        slept.append(seconds)

    def answers(asked):
        if asked.target == "/first" and not told.is_set():
            told.set()
            return Reply(429, {"Retry-After": "9"})
        return part(DATA, asked)

    with Server(answers) as server, Server(lambda asked: part(DATA, asked)) as other, Fetcher(QUICK, sleep) as fetcher:
        fetcher.ranges(server.url("first"), [(0, 9)])
        fetcher.ranges(server.url("second"), [(0, 9)])
        assert len(slept) == 2
        fetcher.ranges(other.url("third"), [(0, 9)])
        assert len(slept) == 2


def test_those_that_queued_meanwhile_wait_as_well():
    """They were let through before the host asked for peace."""
    slept, came = [], threading.Event()

    async def sleep(seconds):
        slept.append(seconds)

    def answers(asked):
        if not came.is_set():
            came.set()
            return Reply(429, {"Retry-After": "9"}, after=0.5)
        return part(DATA, asked)

    narrow = Network(allow_private=True, per_host=1)
    with Server(answers) as server, Fetcher(narrow, sleep) as fetcher, ThreadPoolExecutor(5) as pool:
        first = pool.submit(fetcher.ranges, server.url("first"), [(0, 9)])
        assert came.wait(5)
        others = [pool.submit(fetcher.ranges, server.url(f"{n}"), [(0, 9)]) for n in range(4)]
        assert [one.result() for one in (first, *others)] == [[DATA[:9]]] * 5
        assert len(slept) == 5
        assert min(slept) > 8


def test_whoever_waits_hears_that_the_host_asks_for_more_time():
    slept, more = [], asyncio.Event()

    async def sleep(seconds):
        slept.append(seconds)
        if seconds > 20:
            more.set()
        await more.wait()

    told, both = set(), threading.Barrier(2)

    def answers(asked):
        if asked.target in told:
            return part(DATA, asked)
        told.add(asked.target)
        both.wait(5)
        late = asked.target == "/late"
        return Reply(429, {"Retry-After": "40" if late else "5"}, after=0.3 if late else 0)

    with Server(answers) as server, Fetcher(QUICK, sleep) as fetcher, ThreadPoolExecutor(2) as pool:
        spans = [(0, 9)]
        found = pool.map(lambda name: fetcher.ranges(server.url(name), spans), ("early", "late"))
        assert list(found) == [[DATA[:9]]] * 2
        assert sorted(slept) == [pytest.approx(5, abs=1), pytest.approx(40, abs=5), pytest.approx(40, abs=5)]


@pytest.mark.parametrize("reply", [{"drip": (20, 0.1)}, {"after": 3.0}], ids=["drips", "silent"])
def test_a_stall_is_a_failure(reply):
    network = Network(allow_private=True, retry=Retry(attempts=2, base_s=0.01, timeout_s=0.4))
    with Server(lambda asked: part(DATA, asked, **reply)) as server, Fetcher(network) as fetcher:
        begun = time.monotonic()
        with pytest.raises(ReadError, match=r"stalls: less than 1 kB/s for 0\.4 s") as caught:
            fetcher.ranges(server.url("a.tif"), [(0, 2000)])
        assert 0.8 <= time.monotonic() - begun < 2
        assert code(caught) == "read.lost"


def test_slow_and_steady_is_no_stall():
    network = Network(allow_private=True, retry=Retry(attempts=1, timeout_s=0.4))
    with Server(lambda asked: part(DATA, asked, drip=(300, 0.1))) as server, Fetcher(network) as fetcher:
        begun = time.monotonic()
        assert fetcher.ranges(server.url("a.tif"), [(0, 3000)]) == [DATA[:3000]]
        assert time.monotonic() - begun > 0.9


# --- a file that changes ----------------------------------------------------------------------------------------------


def test_a_file_replaced_on_the_way_is_noticed(folder, fetcher):
    with FaultServer(folder) as server:
        fetcher.facts(server.url("a.tif"))
        server.etag_suffix = "new"
        for look in (lambda u: fetcher.ranges(u, [(0, 9)]), fetcher.facts, fetcher.whole):
            with pytest.raises(ReadError) as caught:
                look(server.url("a.tif"))
            assert code(caught) == "read.changed"
        with Fetcher(QUICK) as fresh:
            assert fresh.ranges(server.url("a.tif"), [(0, 9)]) == [DATA[:9]]


def test_a_file_of_another_size_is_noticed_without_a_tag(fetcher):
    state = [DATA]
    with Server(lambda asked: part(state[0], asked, etag="")) as server:
        fetcher.facts(server.url("a.tif"))
        state[0] = DATA[:-1]
        with pytest.raises(ReadError, match="was replaced"):
            fetcher.ranges(server.url("a.tif"), [(0, 9)])


def test_a_local_file_replaced_on_the_way_is_noticed(tmp_path, fetcher):
    path = tmp_path / "a.bin"
    path.write_bytes(b"one")
    fetcher.facts(str(path))
    path.write_bytes(b"two!")
    with pytest.raises(ReadError) as caught:
        fetcher.ranges(str(path), [(0, 3)])
    assert code(caught) == "read.changed"


def test_weak_and_strong_tags_of_one_state_are_the_same(fetcher):
    tags = iter(['"x"', 'W/"x"', '"x"'])
    with Server(lambda asked: part(DATA, asked, etag=next(tags))) as server:
        for _ in range(3):
            fetcher.ranges(server.url("a.tif"), [(0, 9)])


# --- documents --------------------------------------------------------------------------------------------------------


def test_documents(tmp_path, fetcher):
    def answers(asked):
        if asked.method == "POST":
            said = {"got": json.loads(asked.body), "type": asked.headers["content-type"]}
            return Reply(body=json.dumps(said).encode())
        return Reply(headers={"Content-Encoding": "gzip"}, body=gzip.compress(b'{"a": [1, 2]}'))

    (tmp_path / "a.json").write_text('{"a": [1, 2]}')
    with Server(answers) as server:
        assert fetcher.json(server.url("x")) == {"a": [1, 2]} == fetcher.json(str(tmp_path / "a.json"))
        assert fetcher.json(server.url("x"), method="POST", body={"q": 1})["got"] == {"q": 1}


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b'{"a":', b"[" * 100_000, b"\xff\xfe\x00", b"NaN,"], ids=lambda b: repr(b[:8])
)
def test_what_is_no_document_is_said(body, tmp_path, fetcher):
    (tmp_path / "a.json").write_bytes(body)
    with Server(lambda asked: Reply(body=body)) as server:
        for href in (server.url("x?key=hunter2"), str(tmp_path / "a.json")):
            with pytest.raises(ReadError) as caught:
                fetcher.json(href)
            assert code(caught) == "read.malformed"
            assert "hunter2" not in str(caught.value.problem)


def test_a_document_that_unpacks_to_too_much_is_refused(fetcher):
    bomb = gzip.compress(bytes(80 << 20))
    server = Server(lambda asked: Reply(headers={"Content-Encoding": "gzip"}, body=bomb))
    with server, pytest.raises(ImageryError) as caught:
        fetcher.json(server.url("x"))
    assert code(caught) == "imagery.limits"


def test_garbage_instead_of_http(fetcher):
    def speak(listener):
        for _ in range(3):
            peer, _ = listener.accept()
            peer.recv(4096)
            peer.sendall(b"SSH-2.0-OpenSSH_9.2\r\n" + b"\x00" * 100)
            peer.close()

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        thread = threading.Thread(target=speak, args=(listener,))
        thread.start()
        with pytest.raises(ReadError, match="not understood") as caught:
            fetcher.ranges(f"http://127.0.0.1:{listener.getsockname()[1]}/a", [(0, 9)])
        thread.join(5)
    assert code(caught) == "read.lost"


# --- https, lives -----------------------------------------------------------------------------------------------------


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, fetcher):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + dt.timedelta(days=1))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "cert").write_bytes(pem)
    (tmp_path / "key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    answers = lambda asked: part(DATA, asked)  # noqa: E731
    with Server(answers, (str(tmp_path / "cert"), str(tmp_path / "key"))) as server:
        with pytest.raises(ReadError, match="certificate") as caught:
            fetcher.facts(server.url("a.tif"))
        assert server.asked == []
    assert code(caught) == "read.lost"
    assert fetcher.counts.retried == 0


def test_a_closed_fetcher_says_so_and_may_be_closed_again(folder):
    fetcher = Fetcher(QUICK)
    assert fetcher.json  # alive
    fetcher.close()
    fetcher.close()
    with FaultServer(folder) as server, pytest.raises(RuntimeError):
        fetcher.facts(server.url("a.tif"))
    assert not any(t.name == "fetch" for t in threading.enumerate())


@pytest.mark.parametrize(
    "end", ["del f; gc.collect(); assert not [t for t in threading.enumerate() if t.name == 'fetch']", ""]
)
def test_a_forgotten_fetcher_goes_quietly(end, folder):
    program = (
        "import gc, sys, threading; sys.path.insert(0, sys.argv[2])\n"
        "from pipelines.remote.fetch import Fetcher; from pipelines.remote.network import Network\n"
        f"f = Fetcher(Network(True)); f.facts(sys.argv[1]); {end}"
    )
    with FaultServer(folder) as server:
        command = [sys.executable, "-X", "dev", "-c", program, server.url("a.tif"), ROOT]
        answer = subprocess.run(command, capture_output=True, timeout=60, check=True, text=True)
    assert "aiohttp" not in answer.stderr
    assert "fetch" not in answer.stderr


def test_waiting_inside_the_loop_is_an_error_and_no_deadlock(folder, fetcher):
    async def wrong():
        fetcher.ranges("http://127.0.0.1:1/a.tif", [(0, 9)])

    with pytest.raises(RuntimeError, match="cannot be waited for"):
        asyncio.run_coroutine_threadsafe(wrong(), fetcher.loop).result(5)


def test_a_network_travels_and_shows_no_secret(folder):
    network = Network(True, secrets=Secrets({"KEY": "hunter2"}), cache_dir=folder)
    copy = pickle.loads(pickle.dumps(network))
    assert copy == network
    assert hash(copy) == hash(network)
    assert copy.secrets.get("KEY") == "hunter2"
    assert "hunter2" not in repr(network) + str(network) + repr([network.secrets])
    assert "KEY" in repr(network)


def test_a_child_of_a_fork_fetches_for_itself(folder):
    with FaultServer(folder) as server, Fetcher(QUICK) as fetcher:
        fetcher.facts(server.url("a.tif"))
        child = os.fork()
        if child == 0:
            try:
                with pytest.raises(RuntimeError):  # the parent's thread is not here
                    fetcher.facts(server.url("a.tif"))
                with Fetcher(fetcher.network) as own:
                    os._exit(0 if own.ranges(server.url("a.tif"), [(5, 9)]) == [DATA[5:9]] else 1)
            finally:
                os._exit(2)
        for _ in range(200):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            time.sleep(0.05)
        else:
            os.kill(child, 9)
            os.waitpid(child, 0)
        assert done
        assert os.waitstatus_to_exitcode(status) == 0


def test_every_error_is_one_of_ours_with_code_and_hint(folder, fetcher):
    with FaultServer(folder, Always(Status(500))) as server:
        for href in (
            server.url("a.tif"),
            "http://127.0.0.1:1/",
            "s3://b",
            "nix:",
            str(folder / "nix"),
            "http://[::1]:1/",
        ):
            with pytest.raises(SwatheError) as caught:
                fetcher.facts(href)
            assert "." in caught.value.problem.code
            assert caught.value.problem.hint
