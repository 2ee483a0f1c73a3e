"""Which addresses are read: a table of an attacker's, name resolution, redirects, local files."""

import asyncio
import ipaddress
import os
import socket

import pytest

from pipelines.imagery.gdal import Retry
from pipelines.remote.address import Local, Stored, Web, look_at, reach_of
from pipelines.remote.courier import redirected
from pipelines.remote.fetch import Fetcher
from pipelines.remote.gate import CheckedResolver, CheckedSockets
from pipelines.remote.network import Network
from swathe.errors import ImageryError, ReadError
from swathe.source import Auth
from tests.pipelines.remote_server import Names, Reply, Server, part

CLOSED = Network(retry=Retry(attempts=2, base_s=0.01))
OPEN = Network(allow_private=True, retry=Retry(attempts=2, base_s=0.01, timeout_s=5))
DATA = bytes(range(256)) * 40


def code_of(href, network=CLOSED):
    with pytest.raises(ImageryError) as caught:
        look_at(href, network)
    problem = caught.value.problem
    assert problem.hint
    assert "hunter2" not in str(problem)
    return problem.code.removeprefix("url.")


ATTACKS = [
    # other kinds of addresses
    ("file:///etc/passwd", "scheme"),
    ("ftp://imagery.example/a.tif", "scheme"),
    ("gopher://127.0.0.1:6379/_FLUSHALL", "scheme"),
    ("javascript:alert(1)", "scheme"),
    ("data:image/tiff;base64,SUkq", "scheme"),
    ("jar:http://imagery.example!/a.tif", "scheme"),
    ("vrt:///data/a.tif", "scheme"),
    ("GTIFF_DIR:1:/etc/passwd", "scheme"),
    ("WMS:http://imagery.example/?", "scheme"),
    ("unix:///var/run/docker.sock", "scheme"),
    ("/vsicurl/http://169.254.169.254/latest", "scheme"),
    ("//vsis3/bucket/key", "scheme"),
    ("/./vsizip//a.zip/b.tif", "scheme"),
    ("vsimem/a.tif", "scheme"),
    ("/VSICURL/http://imagery.example/a.tif", "scheme"),
    ("http:imagery.example/a.tif", "scheme"),
    # loopback and private numbers, in all spellings
    ("http://127.0.0.1/a.tif", "private"),
    ("http://127.8.9.10:8080/a.tif", "private"),
    ("HTTP://127.0.0.1/a.tif", "private"),
    ("http://10.0.0.1/", "private"),
    ("http://172.16.0.9/", "private"),
    ("https://192.168.1.1/", "private"),
    ("http://100.64.0.1/", "private"),
    ("http://198.18.0.1/", "private"),
    ("http://0.0.0.0:22/", "private"),
    ("http://2130706433/", "host"),
    ("http://0x7f000001/", "host"),
    ("http://0x7f.0.0.1/", "host"),
    ("http://0177.0.0.1/", "host"),
    ("http://017700000001/", "host"),
    ("http://127.1/", "host"),
    ("http://127.0.1/", "host"),
    ("http://127.0.0.1./", "host"),
    ("http://127.000.000.001/", "host"),
    ("http://127%2e0%2e0%2e1/", "host"),
    ("http://①②⑦.⓪.⓪.①/", "host"),
    ("http://127。0。0。1/", "host"),
    ("http://ⓛocalhost/", "host"),
    ("http://[::1]/", "private"),
    ("http://[::]/", "private"),
    ("http://[0:0:0:0:0:0:0:1]:80/", "private"),
    ("http://[::ffff:127.0.0.1]/", "private"),
    ("http://[::ffff:7f00:1]/", "private"),
    ("http://[::127.0.0.1]/", "private"),
    ("http://[64:ff9b::127.0.0.1]/", "private"),
    ("http://[64:ff9b::a9fe:a9fe]/", "private"),
    ("http://[64:ff9b:1::1]/", "private"),
    ("http://[2002:7f00:1::]/", "private"),
    ("http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/", "private"),
    ("http://[fd12:3456::1]/", "private"),
    ("http://[fe80::1]/", "private"),
    ("http://[fe80::1%25eth0]/", "host"),
    ("http://[fec0::1]/", "private"),
    ("http://[ff02::1]/", "private"),
    ("http://[fd00:ec2::254]/latest/meta-data", "private"),
    # metadata of the clouds
    ("http://169.254.169.254/latest/meta-data/iam/security-credentials/", "private"),
    ("http://[::ffff:169.254.169.254]/", "private"),
    ("http://168.63.129.16/machine?comp=goalstate", "private"),
    ("http://100.100.100.200/latest/", "private"),
    ("http://192.0.0.192/opc/v2/", "private"),
    ("http://224.0.0.1/", "private"),
    ("http://255.255.255.255/", "private"),
    # who is asked, and who seems to be
    ("http://imagery.example@127.0.0.1/", "userinfo"),
    ("http://user:hunter2@imagery.example/", "userinfo"),
    ("http://user:hunter2/x@imagery.example/", "malformed"),
    ("http://imagery.example:80@169.254.169.254/", "userinfo"),
    ("http://127.0.0.1#@imagery.example/", "private"),
    ("http://127.0.0.1?@imagery.example/", "private"),
    ("http://imagery.example\\@127.0.0.1/", "malformed"),
    ("http:\\\\127.0.0.1\\a", "malformed"),
    ("http://imagery.example/a\r\nHost: 127.0.0.1", "malformed"),
    ("http://imagery.example/a\x00b", "malformed"),
    ("http://imagery\u2028.example/", "malformed"),
    (" http://imagery.example/", "malformed"),
    ("http://127.0.0.1\t/", "malformed"),
    ("http:///a.tif", "host"),
    ("http://", "host"),
    ("http://-x.example/", "host"),
    ("http://a..b/", "host"),
    ("http://imagery.example:0/", "host"),
    ("http://imagery.example:99999/", "malformed"),
    ("http://imagery.example:80a/", "malformed"),
    ("http://[::1/", "malformed"),
    ("https://" + "a" * 300 + ".example/", "host"),
    ("https://imagery.example/" + "a" * 20_000, "malformed"),
    ("", "malformed"),
    # buckets that are no buckets
    ("s3://127.0.0.1:9000@bucket/key", "host"),
    ("s3://evil.example#/key", "host"),
    ("s3:///key", "host"),
    ("s3://b..b/key", "host"),
    ("s3://bucket", "malformed"),
    ("s3://bucket/../other/key", "malformed"),
    ("s3://bucket//key", "malformed"),
    ("s3://bucket/key?versionId=1", "malformed"),
    ("s3://bucket/a\nb", "malformed"),
]  # fmt: skip


@pytest.mark.parametrize(("href", "code"), ATTACKS, ids=lambda v: ascii(v)[:60])
def test_an_attackers_addresses_are_refused(href, code):
    assert code_of(href) == code


@pytest.mark.parametrize(
    ("href", "url", "origin"),
    [
        ("https://imagery.example/a.tif", "https://imagery.example/a.tif", ("https", "imagery.example", 443)),
        ("HTTPS://Imagery.Example:443/A.tif", "https://imagery.example/A.tif", ("https", "imagery.example", 443)),
        ("http://h:81/a b/ü.tif?q=%2F%3D&s=a+b#x", "http://h:81/a%20b/%C3%BC.tif?q=%2F%3D&s=a+b", ("http", "h", 81)),
        ("http://8.8.8.8", "http://8.8.8.8/", ("http", "8.8.8.8", 80)),
        ("http://[2606:4700::1]:81/x", "http://[2606:4700::1]:81/x", ("http", "2606:4700::1", 81)),
        ("https://a_b.xn--bcher-kva.example./x", "https://a_b.xn--bcher-kva.example./x",
         ("https", "a_b.xn--bcher-kva.example.", 443)),
        ("https://h/a?X-Amz-Signature=abc%2Bd/e==", "https://h/a?X-Amz-Signature=abc%2Bd/e==", ("https", "h", 443)),
    ],
)  # fmt: skip
def test_ordinary_addresses_are_sent_as_they_are(href, url, origin):
    assert look_at(href, CLOSED) == Web(url, origin)


def test_objects_keep_their_keys():
    assert look_at("s3://my-bucket.v1/a b/ü=1%20.tif", CLOSED) == Stored("my-bucket.v1", "a b/ü=1%20.tif")


def test_the_setting_opens_ones_own_network_and_no_metadata():
    for host in ("127.0.0.1", "10.1.2.3", "[::1]", "[fd12::1]", "192.168.0.5", "0.0.0.0"):
        assert isinstance(look_at(f"http://{host}/a", OPEN), Web)
    for host in ("169.254.169.254", "[fe80::1]", "168.63.129.16", "224.0.0.1", "[64:ff9b::a9fe:a9fe]", "2130706433"):
        assert code_of(f"http://{host}/a", OPEN) in ("private", "host")


def test_numbers_are_public_only_where_python_and_iana_agree():
    """Of random numbers, none is called public that ipaddress calls anything else."""
    import random

    rng = random.Random(7)
    some = [ipaddress.IPv4Address(rng.getrandbits(32)) for _ in range(4000)]
    some += [ipaddress.IPv6Address(rng.getrandbits(128)) for _ in range(4000)]
    some += [ipaddress.IPv6Address((0x2000 | rng.getrandbits(12)) << 112 | rng.getrandbits(112)) for _ in range(4000)]
    for ip in some:
        odd = ip.is_private or ip.is_multicast or ip.is_reserved or ip.is_link_local or ip.is_loopback
        assert reach_of(ip) != "public" or (ip.is_global and not odd)
    assert sum(reach_of(ip) == "public" for ip in some) > 6000
    assert reach_of(ipaddress.ip_address("64:ff9b::8.8.8.8")) == "public"  # what DNS64 gives for any public site


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST"])
def test_a_name_of_this_machine_is_refused_when_it_is_resolved(host):
    with Server(lambda asked: part(DATA, asked)) as server, Fetcher(CLOSED) as fetcher:
        with pytest.raises(ImageryError) as caught:
            fetcher.facts(server.url("a.tif", host))
        assert caught.value.problem.code == "url.private"
        assert server.asked == []


@pytest.mark.parametrize(
    "numbers",
    [["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"], ["fe80::1%eth0"], ["169.254.169.254"]],
    ids=str,
)
def test_one_private_number_refuses_a_name(numbers):
    with Server(lambda asked: part(DATA, asked)) as server:
        with Fetcher(CLOSED, resolver=Names({"imagery.example": [numbers]})) as fetcher:
            with pytest.raises(ImageryError) as caught:
                fetcher.ranges(server.url("a.tif", "imagery.example"), [(0, 9), (5000, 5009)])
            assert caught.value.problem.code == "url.private"
        assert server.asked == []


def test_a_name_that_changes_its_mind_is_refused_the_second_time():
    """Rebinding: what is checked is what is connected to, at every look-up."""

    async def twice():
        resolver = CheckedResolver(Names({"h": [["8.8.8.8"], ["127.0.0.1"]]}), allow_private=False)
        assert (await resolver.resolve("h"))[0]["host"] == "8.8.8.8"
        with pytest.raises(ImageryError):
            await resolver.resolve("h")

    asyncio.run(twice())


def test_connections_go_to_the_number_that_was_checked():
    names = Names({"imagery.example": [["127.0.0.1"], ["8.8.8.8"]]})  # a second look-up would lead elsewhere
    with Server(lambda asked: part(DATA, asked)) as server, Fetcher(OPEN, resolver=names) as fetcher:
        assert fetcher.ranges(server.url("a.tif", "imagery.example"), [(3, 9)]) == [DATA[3:9]]
        assert server.asked[0].headers["host"] == f"imagery.example:{server.port}"
    assert names.looked_up == ["imagery.example"]


def test_no_socket_is_made_for_a_closed_number():
    make = CheckedSockets(allow_private=False)
    for family, number in (
        (socket.AF_INET, "127.0.0.1"),
        (socket.AF_INET6, "fe80::1%lo"),
        (socket.AF_INET, "10.0.0.1"),
    ):
        with pytest.raises(PermissionError):
            make((family, socket.SOCK_STREAM, 6, "", (number, 80)))
    make((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 80))).close()


def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    with Server(lambda asked: part(DATA, asked)) as proxy, Server(lambda asked: part(DATA, asked)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url(""))
        with Fetcher(OPEN) as fetcher:
            fetcher.facts(server.url("a.tif"))
        assert (len(proxy.asked), len(server.asked)) == (0, 1)


# --- redirects --------------------------------------------------------------------------------------------------------


def to(location, status=302):
    return Reply(status, {"Location": location})


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://169.254.169.254/latest/meta-data", "url.private"),
        ("http://[fe80::1]/", "url.private"),
        ("file:///etc/passwd", "url.scheme"),
        ("s3://bucket/key", "url.scheme"),
        ("ftp://h/a", "url.scheme"),
        ("http://user:pw@h/", "url.userinfo"),
        ("http://2130706433/", "url.host"),
        ("//169.254.169.254/", "url.private"),
    ],
)
def test_redirects_are_checked_as_addresses_are(location, code):
    server = Server(lambda asked: to(location))
    with server, Fetcher(OPEN) as fetcher, pytest.raises(ImageryError) as caught:
        fetcher.ranges(server.url("a.tif"), [(0, 9)])
    assert caught.value.problem.code == code


def test_a_redirect_from_a_trusted_store_to_a_private_place_is_refused():
    """The configured endpoint may be private. What it points to may not, nor may others point to it."""
    with Server(lambda asked: part(DATA, asked)) as inner, Server(lambda asked: to(inner.url("secret"))) as store:
        network = Network(retry=Retry(attempts=1), s3_endpoint=store.url(""))
        with Fetcher(network) as fetcher:
            for href in ("s3://bucket/key", store.url("bucket/key"), inner.url("secret", "localhost")):
                with pytest.raises(ImageryError) as caught:
                    fetcher.ranges(href, [(0, 9)], Auth(kind="s3", anonymous=True))
                assert caught.value.problem.code == "url.private"
        assert len(store.asked) == 1
        assert inner.asked == []


def test_redirects_are_followed_and_the_target_is_asked_directly_next():
    def answers(asked):
        return to("/moved?sig=1") if asked.target == "/a.tif" else part(DATA, asked)

    with Server(answers) as server, Fetcher(OPEN) as fetcher:
        for start in (0, 100, 200):
            assert fetcher.ranges(server.url("a.tif"), [(start, start + 50)]) == [DATA[start : start + 50]]
        assert [a.target for a in server.asked] == ["/a.tif"] + ["/moved?sig=1"] * 3


def test_a_target_that_expires_is_asked_for_again():
    number = iter(range(100))
    good = []

    def answers(asked):
        if asked.target == "/a.tif":
            good[:] = [f"/moved-{next(number)}"]
            return to(good[0])
        return part(DATA, asked) if good == [asked.target] else Reply(403)

    with Server(answers) as server, Fetcher(OPEN) as fetcher:
        fetcher.ranges(server.url("a.tif"), [(0, 50)])
        good.clear()  # expired
        assert fetcher.ranges(server.url("a.tif"), [(50, 100)]) == [DATA[50:100]]


def test_a_target_that_fails_is_not_asked_again_past_its_old_address():
    """The server may lead elsewhere by then: the next attempt begins where the file was published."""
    asked, broken = [], []

    def answer(request):
        asked.append(request.target)
        if request.target == "/a.tif":
            return to("/second" if broken else "/first")
        if request.target == "/first" and asked.count("/first") > 1:
            broken.append(True)
            return Reply(503)
        return part(DATA, request)

    network = Network(allow_private=True, retry=Retry(attempts=2, base_s=0.01, timeout_s=5))
    with Server(answer) as server, Fetcher(network) as fetcher:
        for start in (0, 100_000):
            assert fetcher.ranges(server.url("a.tif"), [(start, start + 10)]) == [DATA[start : start + 10]]
    assert asked == ["/a.tif", "/first", "/first", "/a.tif", "/second"]


def test_redirects_do_not_lead_out_of_https():
    secure = look_at("https://h.example/a", CLOSED)
    assert redirected(secure, "//other.example/b", allow_private=False).url == "https://other.example/b"
    with pytest.raises(ImageryError) as caught:
        redirected(secure, "http://h.example/b", allow_private=False)
    assert caught.value.problem.code == "url.insecure"
    plain = look_at("http://h.example/a", CLOSED)
    assert redirected(plain, "b", allow_private=False).url == "http://h.example/b"


def test_circles_end():
    with Server(lambda asked: to("/b" if asked.target == "/a" else "/a")) as server, Fetcher(OPEN) as fetcher:
        with pytest.raises(ImageryError) as caught:
            fetcher.ranges(server.url("a"), [(0, 9)])
        assert caught.value.problem.code == "url.redirects"
        assert len(server.asked) == 6


# --- local files ------------------------------------------------------------------------------------------------------


def test_local_files_anywhere_or_below_a_root(tmp_path):
    root, secret = tmp_path / "root", tmp_path / "secret.bin"
    root.mkdir()
    secret.write_bytes(b"secret")
    (root / "a.bin").write_bytes(DATA)
    (root / "link.bin").symlink_to(secret)
    (root / "inner.bin").symlink_to(root / "a.bin")
    assert look_at(str(secret), CLOSED) == Local(secret)
    service = Network(local_root=root)
    with Fetcher(service) as fetcher:
        assert fetcher.ranges(str(root / "a.bin"), [(5, 9), (0, 3)]) == [DATA[5:9], DATA[:3]]
        assert fetcher.facts(str(root / "inner.bin")).size == len(DATA)
    for path in (
        secret,
        root / "link.bin",
        root / ".." / "secret.bin",
        "/etc/passwd",
        "secret.bin",
        "/proc/self/environ",
    ):
        assert code_of(str(path), service) == "local"


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "closed").write_bytes(b"x")
    (tmp_path / "closed").chmod(0)
    with Fetcher(CLOSED) as fetcher:
        for path in (tmp_path, tmp_path / "pipe", "/dev/zero", tmp_path / "missing", tmp_path / "closed" / "x"):
            with pytest.raises(ReadError) as caught:
                fetcher.ranges(str(path), [(0, 9)])
            assert caught.value.problem.code == "read.gone"
        if os.geteuid():
            with pytest.raises(ReadError, match="may not be read"):
                fetcher.facts(str(tmp_path / "closed"))
