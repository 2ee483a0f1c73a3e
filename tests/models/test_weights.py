"""Weights: a real HTTP server on this machine, files that are wrong in every way, and no network."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request

import pytest

from models.download import Unavailable, _SafeRedirects
from models.weights import ModelHome, fetch, known_sha256, locate, present
from swathe.card import Weights
from swathe.errors import Interrupted, WeightsError

CONTENT = bytes(range(256)) * 9000
SHA = hashlib.sha256(CONTENT).hexdigest()
OTHER = hashlib.sha256(b"other").hexdigest()
PATIENCE_S = 8.0
"""After which a server here ends what it would go on with for ever, so that whoever waits for it fails."""


HEAD = b"HTTP/1.0 200 OK\r\nContent-Type: application/octet-stream\r\n\r\n"


class Origin(ThreadingHTTPServer):
    """Serves ``content``; ``ways`` says, request by request, how to misbehave."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Answer)
        self.content, self.ways, self.seen = CONTENT, [], []
        self.sent, self.left = 0, threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Answer(BaseHTTPRequestHandler):
    server: Origin

    def do_HEAD(self):
        self.reply(body=False)

    def do_GET(self):
        self.reply(body=True)

    def reply(self, body):
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        way = self.server.ways.pop(0) if body and self.server.ways else "good"
        content = self.server.content
        if isinstance(way, int):
            self.send_error(way)
            return
        if way in FOR_EVER:
            self.go_on(*FOR_EVER[way])
            return
        if way.startswith("http"):
            self.send_response(302)
            self.send_header("Location", way.removesuffix(" and more"))
            self.end_headers()
            if way.endswith(" and more"):
                self.go_on(b"", bytes(1 << 20), 0.01)
            return
        wanted = self.headers.get("Range")
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            content = content[int(first) : int(last) + 1]
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Type", "text/html" if way == "page" else "application/octet-stream")
        if wanted:
            self.send_header("Content-Range", f"bytes {wanted.removeprefix('bytes=')}/{len(self.server.content)}")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        self.send_header("Last-Modified", "Wed, 21 Oct 2015 07:28:00 GMT")
        self.end_headers()
        if body:
            self.wfile.write(content[: len(content) // 2] if way == "cut" else content)
        self.close_connection = True

    def go_on(self, head, piece, pause_s):
        """Until the client has gone."""
        end = time.monotonic() + PATIENCE_S
        try:
            self.wfile.write(head)
            while time.monotonic() < end:
                self.wfile.write(piece)
                self.server.sent += len(piece)
                time.sleep(pause_s)
        except OSError:
            self.server.left.set()
        self.close_connection = True

    def log_message(self, *args):
        pass


FOR_EVER = {
    "drips": (HEAD, b"x", 0.05), "drips in its head": (HEAD[:20], b"x", 0.05), "endless": (HEAD, bytes(1 << 18), 0.01),
    "steady": (HEAD, bytes(1 << 10), 0.01),
}  # fmt: skip
"""Ways to go on and on: how it begins, what comes again and again, and the pause between."""


@pytest.fixture
def origin():
    server = Origin()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def home(tmp_path):
    return ModelHome(tmp_path / "cache", timeout_s=5)


def refused(code, weights, home, beside=None):
    with pytest.raises(WeightsError) as caught:
        fetch(weights, home, beside)
    problem = caught.value.problem
    assert problem.code == code
    return problem


def left_in(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file())


def test_a_download_is_checked_kept_and_not_repeated(origin, home):
    weights = Weights(uri=f"{origin.url}/a/net.pt", sha256=SHA)
    assert present(weights, home) is None
    steps = []
    got = fetch(weights, home, watch=lambda done, total: steps.append((done, total)))
    assert got.path.read_bytes() == CONTENT
    assert got.verified
    assert got.path == home.cache / "weights" / SHA / "net.pt"
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert fetch(weights, home) == got
    assert present(weights, home) == got.path
    assert len(origin.seen) == 1


def test_the_wrong_bytes_are_not_kept(origin, home):
    problem = refused("weights.corrupt", Weights(uri=f"{origin.url}/net.pt", sha256=OTHER), home)
    assert SHA in problem.detail
    assert OTHER in problem.detail
    assert left_in(home.cache) == []


def test_a_copy_that_rotted_in_the_cache_is_fetched_again(origin, home):
    weights = Weights(uri=f"{origin.url}/net.pt", sha256=SHA)
    path = fetch(weights, home).path
    path.write_bytes(CONTENT[:-1] + b"x")
    assert fetch(weights, home).path.read_bytes() == CONTENT
    path.write_bytes(b"")
    refused("weights.missing", weights, replace(home, offline=True))
    assert not path.exists()


def test_a_transfer_that_breaks_off_is_begun_again(origin, home):
    origin.ways = ["cut", 503]
    assert fetch(Weights(uri=f"{origin.url}/net.pt", sha256=SHA), home).path.read_bytes() == CONTENT
    assert len(origin.seen) == 3


def test_a_transfer_that_always_breaks_off_leaves_nothing(origin, home):
    origin.ways = ["cut"] * 3
    problem = refused("weights.missing", Weights(uri=f"{origin.url}/net.pt"), home)
    assert f"broke off after {len(CONTENT) // 2} of {len(CONTENT)} bytes" in problem.detail
    assert left_in(home.cache) == []


@pytest.mark.parametrize("way", ["drips", "drips in its head"])
def test_what_drips_is_given_up(origin, home, monkeypatch, way):
    """Each byte comes soon enough for whoever asks only when the last one came."""
    monkeypatch.setattr("models.download.ATTEMPTS", 1)
    origin.ways, began = [way], time.monotonic()
    problem = refused("weights.missing", Weights(uri=f"{origin.url}/net.pt"), replace(home, timeout_s=0.5))
    assert "less than 1 kB/s for 0.5 s" in problem.detail
    assert time.monotonic() - began < PATIENCE_S / 2
    assert origin.left.wait(PATIENCE_S)
    assert left_in(home.cache) == []


def test_a_stall_is_worth_another_attempt(origin, home):
    origin.ways = ["drips"]
    quick = replace(home, timeout_s=0.5)
    assert fetch(Weights(uri=f"{origin.url}/net.pt", sha256=SHA), quick).path.read_bytes() == CONTENT
    assert len(origin.seen) == 2


def test_what_is_too_large_is_not_begun(origin, home):
    steps = []
    with pytest.raises(WeightsError) as caught:
        fetch(Weights(uri=f"{origin.url}/net.pt"), replace(home, max_mb=1), watch=lambda *step: steps.append(step))
    assert caught.value.problem.code == "weights.size"
    assert "2.3 MB or more, 1.0 MB are allowed" in caught.value.detail
    assert (steps, len(origin.seen), left_in(home.cache)) == ([], 1, [])
    assert fetch(Weights(uri=f"{origin.url}/net.pt"), replace(home, max_mb=3)).sha256 == SHA


def test_what_never_ends_is_cut_off(origin, home):
    origin.ways = ["endless"]
    refused("weights.size", Weights(uri=f"{origin.url}/net.pt"), replace(home, max_mb=1))
    assert origin.left.wait(PATIENCE_S)
    assert origin.sent < 20_000_000
    assert (len(origin.seen), left_in(home.cache)) == (1, [])


def test_what_takes_too_long_is_given_up_however_steady_it_comes(origin, home):
    origin.ways, began = ["steady"] * 3, time.monotonic()
    problem = refused("weights.missing", Weights(uri=f"{origin.url}/net.pt"), replace(home, fetch_s=0.5))
    assert "within 0.5 s" in problem.detail
    assert time.monotonic() - began < PATIENCE_S / 2
    assert len(origin.seen) == 1


@pytest.mark.parametrize("way", ["drips", "drips in its head", "steady"])
def test_what_is_no_longer_wanted_is_given_up(origin, home, way):
    origin.ways, began = [way], time.monotonic()

    def check():
        if time.monotonic() - began > 0.3:
            raise Interrupted("stop")

    with pytest.raises(Interrupted):
        fetch(Weights(uri=f"{origin.url}/net.pt"), home, check=check)
    assert time.monotonic() - began < PATIENCE_S / 2
    assert left_in(home.cache) == []


def test_what_a_redirect_says_beside_is_not_read(origin, home):
    origin.ways = [f"{origin.url}/there and more"]
    assert fetch(Weights(uri=f"{origin.url}/net.pt", sha256=SHA), home).path.read_bytes() == CONTENT
    assert origin.left.wait(PATIENCE_S)
    assert origin.sent < 20_000_000


@pytest.mark.parametrize(("way", "word"), [(404, "404"), (403, "licence"), ("page", "web page")])
def test_an_answer_without_the_file_is_told(origin, home, way, word):
    origin.ways = [way]
    assert word in refused("weights.missing", Weights(uri=f"{origin.url}/net.pt"), home).detail
    assert len(origin.seen) == 1


def test_an_unpublished_hash_is_pinned(origin, home):
    weights = Weights(uri=f"{origin.url}/net.pt")
    assert known_sha256(weights, home) is None
    got = fetch(weights, home)
    assert (got.sha256, got.verified) == (SHA, False)
    assert known_sha256(weights, home) == SHA
    assert fetch(weights, home) == got
    assert len(origin.seen) == 1
    # The cache is swept, the pin is not: what comes now has to be the same.
    got.path.unlink()
    origin.content = b"other"
    problem = refused("weights.changed", weights, home)
    assert str(home.cache / "pins") in problem.hint
    next((home.cache / "pins").iterdir()).unlink()
    assert fetch(weights, home).sha256 == OTHER


def test_a_broken_pin_is_not_overlooked(origin, home):
    weights = Weights(uri=f"{origin.url}/net.pt")
    fetch(weights, home)
    next((home.cache / "pins").iterdir()).write_text("{")
    assert "delete" in refused("weights.pin", weights, home).hint


def test_files_beside_the_card_are_used_where_they_lie(tmp_path, home):
    (tmp_path / "net of mine.pt").write_bytes(CONTENT)
    for uri in ("net of mine.pt", str(tmp_path / "net of mine.pt"), f"file://{tmp_path}/net%20of%20mine.pt"):
        got = fetch(Weights(uri=uri, sha256=SHA), home, tmp_path)
        assert got.path == tmp_path / "net of mine.pt"
    refused("weights.corrupt", Weights(uri="net of mine.pt", sha256=OTHER), home, tmp_path)
    assert (tmp_path / "net of mine.pt").exists()
    assert not (home.cache / "weights").exists()


def test_a_file_trained_again_is_a_change(tmp_path, home):
    path = tmp_path / "net.pt"
    path.write_bytes(CONTENT)
    weights = Weights(uri="net.pt")
    assert not fetch(weights, home, tmp_path).verified
    path.write_bytes(b"other")
    assert known_sha256(weights, home, tmp_path) == OTHER
    refused("weights.changed", weights, home, tmp_path)


def test_a_missing_file_says_where_it_belongs(tmp_path, home):
    problem = refused("weights.missing", Weights(uri="net.pt"), home, tmp_path)
    assert str(tmp_path / "net.pt") in problem.hint
    assert known_sha256(Weights(uri="net.pt"), home, tmp_path) is None


HF = Weights(uri="hf://nasa/Prithvi-2/sub/net.pt", size_mb=1300)


def test_offline_says_what_to_fetch_and_where_to_put_it(home):
    problem = refused("weights.missing", HF, replace(home, offline=True))
    assert "offline" in problem.detail
    assert "1300 MB" in problem.detail
    assert "https://huggingface.co/nasa/Prithvi-2/resolve/main/sub/net.pt" in problem.hint
    there = home.cache / "mirror" / "nasa" / "Prithvi-2" / "sub" / "net.pt"
    assert str(there) in problem.hint
    # Doing what the hint says is enough.
    there.parent.mkdir(parents=True)
    there.write_bytes(CONTENT)
    got = fetch(HF, replace(home, offline=True))
    assert (got.path, got.sha256) == (there, SHA)


def test_no_network_is_the_same_one_clear_error(home):
    closed = replace(home, hf_endpoint="https://127.0.0.1:9")
    problem = refused("weights.missing", HF, closed)
    assert "127.0.0.1 cannot be reached" in problem.detail
    assert str(home.cache / "mirror") in problem.hint
    nowhere = replace(home, hf_endpoint="https://host.invalid")
    assert "host.invalid cannot be reached" in refused("weights.missing", HF, nowhere).detail


def test_a_mirror_may_lie_elsewhere(tmp_path, home):
    there = tmp_path / "usb" / "example.org" / "nets" / "net.pt"
    there.parent.mkdir(parents=True)
    there.write_bytes(CONTENT)
    carried = replace(home, mirror=tmp_path / "usb", offline=True)
    assert fetch(Weights(uri="https://example.org/nets/net.pt", sha256=SHA), carried).path == there


def test_what_hugging_face_tools_fetched_is_used(tmp_path, home):
    hub = tmp_path / "hub"
    repo = hub / "models--nasa--Prithvi-2"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text("abc123")
    for revision in ("abc123", "v1"):
        (repo / "snapshots" / revision / "sub").mkdir(parents=True)
        (repo / "snapshots" / revision / "sub" / "net.pt").write_bytes(revision.encode())
    cached = replace(home, hf_cache=hub, offline=True)
    assert fetch(HF, cached).path.read_text() == "abc123"
    assert fetch(Weights(uri="hf://nasa/Prithvi-2@v1/sub/net.pt"), cached).path.read_text() == "v1"


def test_a_token_is_sent_to_the_hub_and_not_beyond(origin, home):
    elsewhere = Origin()
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    origin.ways = [f"{elsewhere.url}/cdn"]
    gated = replace(home, hf_endpoint=origin.url, hf_token="hf_secret")
    assert fetch(HF, gated).sha256 == SHA
    elsewhere.shutdown()
    elsewhere.server_close()
    assert origin.seen[0][2]["Authorization"] == "Bearer hf_secret"
    assert origin.seen[0][1] == "/nasa/Prithvi-2/resolve/main/sub/net.pt"
    assert "Authorization" not in elsewhere.seen[0][2]
    assert "hf_secret" not in repr(gated)


def test_a_token_is_for_the_hub_alone(origin, home):
    fetch(Weights(uri=f"{origin.url}/net.pt"), replace(home, hf_token="hf_secret"))
    assert "Authorization" not in origin.seen[0][2]


def test_a_redirect_to_plain_http_is_not_followed(origin, home):
    origin.ways = ["http://example.org/net.pt"]
    assert "not https" in refused("weights.missing", Weights(uri=f"{origin.url}/net.pt"), home).detail


def test_a_redirect_from_elsewhere_to_this_machine_is_not_followed():
    asked = Request("https://example.org/net.pt")
    for here in ("http://127.0.0.1:8265/api/version", "http://localhost/", "https://[::1]/"):
        with pytest.raises(Unavailable, match="this machine"):
            _SafeRedirects().redirect_request(asked, io.BytesIO(), 302, "", {}, here)


@pytest.mark.parametrize("number", ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1"])
def test_a_name_that_stands_for_an_inner_host_is_not_connected_to(home, monkeypatch, number):
    """The listener is there; whoever connected to it would be answered."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        place = (number, listener.getsockname()[1])
        family = socket.AF_INET6 if ":" in number else socket.AF_INET
        answer = [(family, socket.SOCK_STREAM, 6, "", place)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
        guarded = replace(home, public_only=True)
        problem = refused("weights.missing", Weights(uri=f"https://weights.example.org:{place[1]}/net.pt"), guarded)
        assert "no host of the public network" in problem.detail
        with pytest.raises(TimeoutError):
            listener.accept()


def test_this_machine_is_no_public_host(origin, home):
    guarded = replace(home, public_only=True)
    assert "this machine" in refused("weights.missing", Weights(uri=f"{origin.url}/net.pt"), guarded).detail
    assert origin.seen == []


@pytest.mark.parametrize(
    "uri",
    [
        "ftp://example.org/net.pt",
        "http://example.org/net.pt",
        "hf://nasa/net.pt",
        "hf://nasa/repo/../../../etc/passwd",
        "https://example.org/../../etc/passwd",
        "https://example.org/%2e%2e/%2e%2e/net.pt",
        "https://example.org/",
        "s3://bucket",
    ],
)
def test_a_uri_that_means_nothing_good_is_refused(uri, home):
    with pytest.raises(WeightsError) as caught:
        locate(uri, home)
    assert caught.value.problem.code == "weights.uri"


def test_s3_is_read_through_the_same_door(origin, home):
    bucket = replace(home, s3_endpoint=origin.url, s3_anonymous=True)
    got = fetch(Weights(uri="s3://nets/a/net.pt", sha256=SHA), bucket)
    assert got.path.read_bytes() == CONTENT
    assert origin.seen[-1][1].startswith("/nets/a/net.pt")


def test_s3_has_the_same_bounds(origin, home):
    bucket = replace(home, s3_endpoint=origin.url, s3_anonymous=True, max_mb=1)
    assert "2.3 MB" in refused("weights.size", Weights(uri="s3://nets/a/net.pt"), bucket).detail
    late = replace(bucket, max_mb=None, fetch_s=0.0)
    assert "within 0 s" in refused("weights.missing", Weights(uri="s3://nets/a/net.pt"), late).detail


def test_s3_that_is_away_is_one_clear_error(home):
    away = replace(home, s3_endpoint="http://127.0.0.1:9", s3_anonymous=True, timeout_s=1)
    problem = refused("weights.missing", Weights(uri="s3://nets/a/net.pt"), away)
    assert str(home.cache / "mirror" / "nets" / "a" / "net.pt") in problem.hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_is_read_only_is_told(origin, home):
    home.cache.mkdir()
    home.cache.chmod(0o500)
    problem = refused("weights.cache", Weights(uri=f"{origin.url}/net.pt"), home)
    assert str(home.cache) in problem.detail


def test_a_cache_that_is_a_file_is_told(origin, home):
    home.cache.write_text("in the way")
    assert str(home.cache) in refused("weights.cache", Weights(uri=f"{origin.url}/net.pt", sha256=SHA), home).detail
