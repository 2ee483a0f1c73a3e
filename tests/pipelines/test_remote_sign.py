"""Credentials: sent where they belong, fetched anew when they expire, and shown nowhere."""

import asyncio
import base64
import datetime as dt
import json
import os
import re
from dataclasses import replace
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from pipelines.imagery.gdal import Retry
from pipelines.remote import stored
from pipelines.remote.address import Stored
from pipelines.remote.fetch import Fetcher
from pipelines.remote.network import Network
from pipelines.remote.secrets import Secrets, names_of
from pipelines.remote.stored import Bucketeer
from swathe.errors import ImageryError, InputError, ReadError, SwatheError
from swathe.source import Auth
from tests.pipelines import recorded
from tests.pipelines.remote_server import Names, Reply, Server, part
from tests.pipelines.s3_server import running_s3  # noqa: F401  the fixture s3_server

DATA = os.urandom(300_000)
SECRET = "hunter2/+é =&"
SECRETS = Secrets({"KEY": SECRET, "LOGIN": "me:hunter2"})
RETRY = Retry(attempts=2, base_s=0.01, timeout_s=10)
OPEN = Network(allow_private=True, retry=RETRY, secrets=SECRETS)
HOSTS = ("127.0.0.1", "localhost", "imagery.example")
BLOB = "acct.blob.core.windows.net"


@pytest.fixture(autouse=True)
def no_credentials_of_this_machine(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))


def aws(key="swathe-test", secret="swathe-test-secret", **more):
    return Secrets({"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret, **more})


# --- plain credentials ------------------------------------------------------------------------------------------------

PLAIN = [
    (Auth(kind="bearer", secret="KEY", hosts=HOSTS), "authorization", f"Bearer {SECRET}"),
    (
        Auth(kind="basic", secret="LOGIN", hosts=HOSTS),
        "authorization",
        "Basic " + base64.b64encode(b"me:hunter2").decode(),
    ),
    (Auth(kind="header", name="X-Api-Key", secret="KEY", hosts=HOSTS), "x-api-key", SECRET),
]


@pytest.mark.parametrize(("auth", "name", "value"), PLAIN, ids=lambda v: getattr(v, "kind", None))
def test_headers(auth, name, value):
    with Server(lambda asked: part(DATA, asked)) as server, Fetcher(OPEN) as fetcher:
        fetcher.ranges(server.url("a.tif"), [(0, 9)], auth)
        fetcher.whole(server.url("b"), auth)
        assert [a.headers[name].encode("latin-1").decode() for a in server.asked] == [value] * 2
        fetcher.ranges(server.url("c.tif"), [(0, 9)])
        assert name not in server.asked[-1].headers


def test_query():
    auth = Auth(kind="query", name="api key", secret="KEY", hosts=HOSTS)
    with Server(lambda asked: part(DATA, asked)) as server, Fetcher(OPEN) as fetcher:
        for href in ("a.tif", "a.tif?x=1"):
            fetcher.ranges(server.url(href), [(0, 9)], auth)
            assert parse_qs(urlsplit(server.asked[-1].target).query)["api key"] == [SECRET]
        assert "x=1&" in server.asked[-1].target


@pytest.mark.parametrize("auth", [*(one[0] for one in PLAIN), Auth(kind="query", name="k", secret="KEY", hosts=HOSTS)])
def test_a_redirect_to_another_host_loses_credentials(auth):
    with Server(lambda asked: part(DATA, asked)) as other:
        with Server(lambda asked: Reply(302, {"Location": other.url("b")})) as server, Fetcher(OPEN) as fetcher:
            for _ in range(2):  # the second time the target is asked directly
                assert fetcher.ranges(server.url("a.tif"), [(0, 9)], auth) == [DATA[:9]]
        for asked in other.asked:
            assert not {"authorization", "x-api-key", "referer", "cookie"} & set(asked.headers)
            assert asked.target == "/b"


def test_a_redirect_on_the_same_host_keeps_them():
    go = lambda asked: Reply(307, {"Location": "/b"}) if asked.target == "/a" else part(DATA, asked)  # noqa: E731
    with Server(go) as server, Fetcher(OPEN) as fetcher:
        fetcher.ranges(server.url("a"), [(0, 9)], PLAIN[0][0])
        assert ["authorization" in a.headers for a in server.asked] == [True, True]


def test_no_credential_is_sent_without_encryption():
    closed = Network(secrets=SECRETS, retry=RETRY)
    with Fetcher(closed, resolver=Names({})) as fetcher, pytest.raises(ImageryError) as caught:
        fetcher.ranges("http://imagery.example/a.tif", [(0, 9)], PLAIN[0][0])
    assert caught.value.problem.code == "url.insecure"


def test_a_secret_that_is_not_set_is_named():
    with Fetcher(OPEN) as fetcher, pytest.raises(InputError) as caught:
        fetcher.ranges("https://imagery.example/a.tif", [(0, 9)], Auth(kind="bearer", secret="MISSING", hosts=HOSTS))
    assert (caught.value.problem.code, caught.value.problem.field) == ("secret.missing", "MISSING")
    assert "MISSING_FILE" in caught.value.problem.hint


def test_secrets_are_read_by_name_and_from_files(tmp_path):
    (tmp_path / "token").write_text("from-a-file\n")
    (tmp_path / "lines").write_text("a\nb\n")
    environment = {"A": " plain ", "B_FILE": str(tmp_path / "token"), "C_FILE": str(tmp_path / "none"), "E": "x",
                   "D_FILE": str(tmp_path / "lines"), "A_FILE": "/ignored", "F": "", "G_FILE": "/dev/zero"}  # fmt: skip
    found = Secrets.read(environment, ["A", "B", "F", "nobody"])
    assert {name: found.get(name) for name in found} == {"A": "plain", "B": "from-a-file"}
    for name, code in (("C", "secret.file"), ("D", "secret.malformed"), ("G", "secret.malformed")):
        with pytest.raises(InputError) as caught:
            Secrets.read(environment, [name])
        assert caught.value.problem.code == code
    with pytest.raises(InputError, match="control characters"):
        Secrets({"X": "a\r\nHost: evil"})


# --- Planetary Computer -----------------------------------------------------------------------------------------------


class Storage:
    """Gives out tokens at /sas/…, and takes the newest one alone."""

    def __init__(self, lives_s=3600):
        self.given, self.lives_s, self.asked, self.tokens = 0, lives_s, [], []

    def __call__(self, asked):
        self.asked.append(asked)
        if asked.target.startswith("/sas/"):
            self.given += 1
            then = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=self.lives_s)
            token = f"se=x&sp=rl&sig=hunter2-{self.given}%2B"
            return Reply(body=json.dumps({"token": token, "msft:expiry": then.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode())
        self.tokens.append(asked.target)
        return part(DATA, asked) if f"sig=hunter2-{self.given}%2B" in asked.target else Reply(403)

    @property
    def sas(self):
        return [a for a in self.asked if a.target.startswith("/sas/")]


def planetary(server, **more):
    return Auth(kind="planetary-computer", sas_url=server.url("sas/"), **more)


@pytest.fixture
def names():
    return Names({BLOB: [["127.0.0.1"]]})


def test_a_token_per_container_is_kept_and_renewed_when_refused(names):
    storage = Storage()
    with Server(storage) as server, Fetcher(OPEN, resolver=names) as fetcher:
        href, auth = server.url("box/a.tif", BLOB), planetary(server)
        spans = [(n * 30_000, n * 30_000 + 99) for n in range(9)]
        truth = [DATA[a:b] for a, b in spans]
        assert fetcher.ranges(href, spans, auth) == truth
        assert fetcher.ranges(server.url("box/b.tif", BLOB), spans, auth) == truth
        assert [a.target for a in storage.sas] == ["/sas/acct/box"]  # once, for 18 requests
        fetcher.ranges(server.url("other/c.tif", BLOB), [(0, 9)], auth)
        assert storage.sas[-1].target == "/sas/acct/other"
        assert fetcher.ranges(href, spans, auth) == truth  # its token was made invalid by the other one
        assert len(storage.sas) == 3  # fetched anew once, although nine requests were refused


def test_a_token_is_renewed_before_it_expires(names):
    storage = Storage(lives_s=30)  # less than what is left as a margin
    with Server(storage) as server, Fetcher(OPEN, resolver=names) as fetcher:
        for _ in range(3):
            fetcher.ranges(server.url("box/a.tif", BLOB), [(0, 9)], planetary(server))
    assert len(storage.sas) == 3
    assert len(storage.tokens) == 3  # none was refused


def test_what_is_signed_already_or_lies_elsewhere_is_left_alone(names):
    storage = Storage()
    with Server(storage) as server, Fetcher(OPEN, resolver=names) as fetcher:
        for href in (server.url("box/a.tif?sig=own", BLOB), server.url("box/a.tif")):
            with pytest.raises(ReadError) as caught:
                fetcher.ranges(href, [(0, 9)], planetary(server))
            assert caught.value.problem.code == "read.forbidden"
            assert "own" not in str(caught.value.problem)
    assert storage.sas == []
    assert len(storage.tokens) == 2


def test_the_subscription_key_goes_to_the_giver_of_tokens_alone(names):
    storage = Storage()
    with Server(storage) as server, Fetcher(OPEN, resolver=names) as fetcher:
        fetcher.ranges(server.url("box/a.tif", BLOB), [(0, 9)], planetary(server, secret="LOGIN"))
    assert ["ocp-apim-subscription-key" in a.headers for a in storage.asked] == [True, False]


@pytest.mark.parametrize(
    "reply",
    [Reply(body=b"{}"), Reply(body=b"<html>"), Reply(404), Reply(body=b'{"token": "a b"}'), Reply(503), Reply(401)],
    ids=str,
)
def test_no_token_is_one_clear_problem(reply, names):
    server = Server(lambda asked: reply)
    with server, Fetcher(OPEN, resolver=names) as fetcher, pytest.raises(ReadError) as caught:
        fetcher.ranges(server.url("box/a.tif", BLOB), [(0, 9)], planetary(server))
    assert caught.value.problem.code in ("read.forbidden", "read.gone", "read.lost")


def test_a_token_that_is_refused_again_ends(names):
    sas = Reply(body=b'{"token": "sig=hunter2"}')
    refuse = lambda asked: sas if asked.target.startswith("/sas") else Reply(403)  # noqa: E731
    with Server(refuse) as server, Fetcher(OPEN, resolver=names) as fetcher, pytest.raises(ReadError) as caught:
        fetcher.ranges(server.url("box/a.tif", BLOB), [(0, 9)], planetary(server))
    assert caught.value.problem.code == "read.forbidden"
    assert len(server.asked) <= 6


# --- S3 ---------------------------------------------------------------------------------------------------------------


def test_a_real_store_takes_the_signature(s3_server):
    href = f"{s3_server.prefix()}/ü b/a=1+2%20(x)'.tif"
    key = href.removeprefix(f"s3://{s3_server.bucket}/")
    s3_server.client().put_object(Bucket=s3_server.bucket, Key=key, Body=DATA)
    network = Network(
        retry=RETRY, secrets=aws(s3_server.reader_key, s3_server.reader_secret), s3_endpoint=s3_server.endpoint
    )
    spans = [(n * 30_000, n * 30_000 + 99) for n in range(10)]
    with Fetcher(network) as fetcher:
        for auth in (Auth(kind="s3"), Auth(kind="s3", region="us-east-1"), Auth()):
            facts = fetcher.facts(href, auth)
            assert (facts.size, facts.head) == (len(DATA), DATA[: 32 << 10])
            assert fetcher.ranges(href, spans, auth) == [DATA[a:b] for a, b in spans]
            assert fetcher.whole(href, auth) == DATA
        with pytest.raises(ReadError) as caught:
            fetcher.facts(f"{href}.missing", Auth(kind="s3"))
        assert caught.value.problem.code == "read.gone"
        link = s3_server.client().generate_presigned_url("get_object", {"Bucket": s3_server.bucket, "Key": key})
        with Fetcher(OPEN) as stranger:
            assert stranger.ranges(link, spans[:2]) == [DATA[a:b] for a, b in spans[:2]]
            for bad in (href, link.replace("Signature=", "Signature=0")):
                with Fetcher(Network(True, RETRY, s3_endpoint=s3_server.endpoint)) as nobody:
                    with pytest.raises(ReadError) as caught:
                        nobody.facts(bad, Auth(kind="s3", anonymous=True))
                    assert caught.value.problem.code == "read.forbidden"
                    assert "Signature" not in str(caught.value.problem)
    wrong = Network(retry=RETRY, secrets=aws(secret="hunter2"), s3_endpoint=s3_server.endpoint)
    with Fetcher(wrong) as fetcher, pytest.raises(ReadError) as caught:
        fetcher.facts(href, Auth(kind="s3"))
    assert caught.value.problem.code == "read.forbidden"


def test_credentials_that_are_lent_open_named_buckets_alone():
    with Server(lambda asked: part(DATA, asked)) as server:
        network = Network(secrets=aws(), s3_endpoint=server.url(""), buckets=("open",))
        with Fetcher(network) as fetcher:
            for bucket, auth in (("open", Auth()), ("card", Auth(kind="s3", buckets=("card",)))):
                assert fetcher.ranges(f"s3://{bucket}/a.tif", [(0, 9)], auth) == [DATA[:9]]
            for auth in (Auth(), Auth(kind="s3", requester_pays=True), Auth(kind="s3", anonymous=True)):
                with pytest.raises(ImageryError) as caught:
                    fetcher.ranges("s3://card/a.tif", [(0, 9)], auth)
                assert caught.value.problem.code == "url.bucket"
        assert len(server.asked) == 2


def test_requester_pays_is_said_and_signed():
    with Server(lambda asked: part(DATA, asked)) as server:
        network = Network(secrets=aws(AWS_SESSION_TOKEN="session"), s3_endpoint=server.url(""))
        with Fetcher(network) as fetcher:
            fetcher.ranges(
                "s3://usgs-landsat/a/b.tif", [(0, 9)], Auth(kind="s3", requester_pays=True, region="us-west-2")
            )
            fetcher.ranges("s3://usgs-landsat/a/b.tif", [(0, 9)], Auth(kind="s3", anonymous=True))
    signed, plain = (a.headers for a in server.asked)
    assert signed["x-amz-request-payer"] == "requester"
    assert signed["x-amz-security-token"] == "session"
    assert server.asked[0].target == "/usgs-landsat/a/b.tif"
    said = signed["authorization"]
    assert "/us-west-2/s3/aws4_request" in said
    assert {"x-amz-request-payer", "host", "x-amz-date"} <= set(re.search("SignedHeaders=([^,]+)", said)[1].split(";"))
    assert not {"authorization", "x-amz-request-payer"} & set(plain)


def test_credentials_come_from_the_usual_chain_where_none_are_given(monkeypatch, tmp_path):
    with Server(lambda asked: part(DATA, asked)) as server:
        network = Network(s3_endpoint=server.url(""))
        with Fetcher(network) as fetcher:
            fetcher.ranges("s3://bucket/key", [(0, 9)])
            assert "authorization" not in server.asked[-1].headers
            with pytest.raises(ImageryError) as caught:
                fetcher.ranges("s3://bucket/key", [(0, 9)], Auth(kind="s3"))
            assert caught.value.problem.code == "url.credentials"
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMENV")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
        with Fetcher(network) as fetcher:
            fetcher.ranges("s3://bucket/key", [(0, 9)], Auth(kind="s3"))
            assert "Credential=FROMENV/" in server.asked[-1].headers["authorization"]


def test_new_credentials_of_a_role_are_taken_when_the_old_ones_are_refused(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OLD")

    class Chain:
        """Stands for the service that gives a role new keys."""

        def get_credentials(self):
            from botocore.credentials import Credentials

            return Credentials(os.environ["AWS_ACCESS_KEY_ID"], "x")

        def get_config_variable(self, _name):
            return None

    async def story():
        buckets, place, auth = Bucketeer(Network()), Stored("b", "k"), Auth(kind="s3")
        buckets._session = Chain()
        _, before = await buckets.sign(place, auth)
        assert not await buckets.renew(place, auth, before, {})  # the same keys: asking again is useless
        os.environ["AWS_ACCESS_KEY_ID"] = "NEW"
        buckets._found["AWS"] = replace(buckets._found["AWS"], at=float("-inf"))
        assert await buckets.renew(place, auth, before, {})
        return before, (await buckets.sign(place, auth))[1]

    before, after = asyncio.run(story())
    assert "OLD" in before["Authorization"]
    assert "NEW" in after["Authorization"]


def test_a_bucket_says_where_it_lies():
    async def story():
        buckets, place, auth = Bucketeer(Network()), Stored("bucket", "a/ü.tif"), Auth(anonymous=True, kind="s3")
        first = await buckets.sign(place, auth)
        assert await buckets.renew(place, auth, first[1], {stored.REGION: "eu-central-1"})
        assert not await buckets.renew(place, auth, {}, {stored.REGION: "evil.example/"})
        second = await buckets.sign(place, auth)
        assert not await buckets.renew(place, auth, second[1], {stored.REGION: "eu-central-1"})  # it was asked there
        return first[0], second[0], (await buckets.sign(Stored("a.b", "k"), auth))[0]

    assert asyncio.run(story()) == (
        "https://bucket.s3.us-east-1.amazonaws.com/a/%C3%BC.tif",
        "https://bucket.s3.eu-central-1.amazonaws.com/a/%C3%BC.tif",
        "https://s3.us-east-1.amazonaws.com/a.b/k",
    )


def both_pairs(**more):
    return aws("OWN", "x", CDSE_ACCESS_KEY_ID="THEIRS", CDSE_SECRET_ACCESS_KEY="y", **more)


def test_a_source_may_have_a_pair_of_keys_of_its_own():
    own, theirs = Auth(kind="s3"), Auth(kind="s3", secret="CDSE")
    with Server(lambda asked: part(DATA, asked)) as server:
        network = Network(secrets=both_pairs(CDSE_SESSION_TOKEN="session"), s3_endpoint=server.url(""))
        with Fetcher(network) as fetcher:
            for auth in (own, theirs, own, Auth()):
                fetcher.ranges("s3://bucket/key", [(0, 9)], auth)
        with Fetcher(replace(network, s3_anonymous=True)) as fetcher:
            for auth in (theirs, own):
                fetcher.ranges("s3://bucket/key", [(0, 9)], auth)
    said = [asked.headers.get("authorization", "Credential=NONE/") for asked in server.asked]
    keys = [re.search("Credential=([A-Z]+)/", one)[1] for one in said]
    assert keys == ["OWN", "THEIRS", "OWN", "OWN", "THEIRS", "NONE"]
    tokens = [asked.headers.get("x-amz-security-token") for asked in server.asked]
    assert tokens == [None, "session", None, None, "session", None]


def test_whoever_names_a_pair_of_keys_means_no_other(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "FROMENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with Server(lambda asked: part(DATA, asked)) as server:
        network = Network(secrets=aws(), s3_endpoint=server.url(""))
        with Fetcher(network) as fetcher, pytest.raises(InputError) as caught:
            fetcher.ranges("s3://bucket/key", [(0, 9)], Auth(kind="s3", secret="CDSE"))
    assert (caught.value.problem.code, caught.value.problem.field) == ("secret.missing", "CDSE_ACCESS_KEY_ID")
    assert server.asked == []


def test_names_of_secrets_are_those_of_all_sources():
    auths = (Auth(kind="bearer", secret="TOKEN"), Auth(kind="s3", secret="CDSE"), Auth(kind="s3"), Auth())
    keys = ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN")
    assert names_of(auths) == (*(f"{pair}_{key}" for pair in ("AWS", "CDSE") for key in keys), "TOKEN")


def test_a_source_at_amazon_is_read_there_wherever_ones_own_buckets_are():
    auth = recorded.shipped_cards()["usgs-landsat-c2-l2"].auth
    network = Network(secrets=aws(), s3_endpoint="https://s3.own.example")
    host = "usgs-landsat.s3.us-west-2.amazonaws.com"

    async def story():
        buckets, place = Bucketeer(network), Stored("usgs-landsat", "a/b.tif")
        first = await buckets.sign(place, auth)
        own, _ = await buckets.sign(place, Auth(kind="s3"))
        assert not await buckets.renew(place, Auth(kind="s3"), {}, {stored.REGION: "eu-central-1"})
        assert await buckets.renew(place, auth, first[1], {stored.REGION: "eu-central-1"})  # Amazon may say so
        return first[0], own, (await buckets.sign(place, auth))[0]

    assert asyncio.run(story()) == (
        f"https://{host}/a/b.tif",
        "https://s3.own.example/usgs-landsat/a/b.tif",
        "https://usgs-landsat.s3.eu-central-1.amazonaws.com/a/b.tif",
    )
    with Fetcher(network, resolver=Names({host: [["127.0.0.1"]]})) as fetcher, pytest.raises(ImageryError) as caught:
        fetcher.facts("s3://usgs-landsat/a/b.tif", auth)  # one's own endpoint may be private, Amazon may not
    assert caught.value.problem.code == "url.private"


def test_a_card_s_endpoint_and_keys_on_a_real_store(s3_server):
    """As CDSE's card has them, beside an endpoint and keys of one's own that open nothing here."""
    prefix, client = s3_server.prefix(), s3_server.client()
    for name in ("a.tif", "b.tif"):
        client.put_object(Bucket=s3_server.bucket, Key=f"{prefix.split('/', 3)[3]}/{name}", Body=DATA)
    auth = recorded.shipped_cards()["cdse-s2-l2a"].auth
    assert (auth.endpoint, auth.secret, auth.region) == ("https://eodata.dataspace.copernicus.eu", "CDSE", "default")
    auth = auth.model_copy(update={"endpoint": s3_server.endpoint, "buckets": (s3_server.bucket,)})
    theirs = {"CDSE_ACCESS_KEY_ID": s3_server.reader_key, "CDSE_SECRET_ACCESS_KEY": s3_server.reader_secret}
    network = Network(True, RETRY, secrets=aws("OWN", "x", **theirs), s3_endpoint="http://127.0.0.1:9")
    spans = [(n * 30_000, n * 30_000 + 99) for n in range(10)]
    with Fetcher(network) as fetcher:
        assert fetcher.facts(f"{prefix}/a.tif", auth).size == len(DATA)
        assert fetcher.ranges(f"{prefix}/a.tif", spans, auth) == [DATA[a:b] for a, b in spans]
        assert fetcher.names(f"{prefix}/", auth) == [f"{prefix}/a.tif", f"{prefix}/b.tif"]
        with pytest.raises(ReadError) as caught:
            fetcher.facts(f"{prefix}/a.tif", auth.model_copy(update={"secret": ""}))
        assert caught.value.problem.code == "read.forbidden"
        with pytest.raises(ReadError) as caught:
            fetcher.facts(f"{prefix}/a.tif", auth.model_copy(update={"endpoint": ""}))
        assert caught.value.problem.code == "read.lost"
    lent = replace(network, buckets=())
    with Fetcher(lent) as fetcher:
        assert fetcher.facts(f"{prefix}/a.tif", auth).size == len(DATA)
        with pytest.raises(ImageryError) as caught:
            fetcher.facts("s3://another/a.tif", auth)
        assert caught.value.problem.code == "url.bucket"
    with Fetcher(replace(network, allow_private=False)) as fetcher, pytest.raises(ImageryError) as caught:
        fetcher.facts(f"{prefix}/a.tif", auth)  # a card is anybody's: its endpoint is not trusted as one's own is
    assert caught.value.problem.code == "url.private"


def test_one_signature_serves_all_ranges_of_an_object(monkeypatch):
    made, sign = [], Bucketeer._signed
    monkeypatch.setattr(Bucketeer, "_signed", lambda *args: made.append(args) or sign(*args))
    with Server(lambda asked: part(DATA, asked)) as server:
        network = Network(secrets=aws(), s3_endpoint=server.url(""))
        with Fetcher(network) as fetcher:
            for n in range(5):
                fetcher.ranges("s3://bucket/key", [(n * 100, n * 100 + 50)], Auth(kind="s3"))
    assert len({a.headers["authorization"] for a in server.asked}) == 1
    assert len(made) == 1


# --- nothing shows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
@pytest.mark.parametrize(
    "auth",
    [*(one[0] for one in PLAIN), Auth(kind="query", name="k", secret="KEY", hosts=HOSTS), Auth(kind="s3"), Auth()],
    ids=lambda a: a.kind,
)
def test_no_message_holds_a_secret(auth, status, caplog):
    echo = lambda asked: Reply(status, {"WWW-Authenticate": "hunter2"}, json.dumps(asked.headers).encode())  # noqa: E731
    with Server(echo) as server:
        secrets = Secrets(
            {
                "KEY": "hunter2",
                "LOGIN": "me:hunter2",
                "AWS_ACCESS_KEY_ID": "hunter2",
                "AWS_SECRET_ACCESS_KEY": "hunter2",
            }
        )
        network = Network(True, RETRY, secrets=secrets, s3_endpoint=server.url("") if auth.kind == "s3" else "")
        href = (
            "s3://bucket/key"
            if auth.kind == "s3"
            else server.url("a.tif?X-Amz-Signature=hunter2&token=" + quote(SECRET))
        )
        with Fetcher(network) as fetcher:
            for ask in (fetcher.facts, fetcher.json, fetcher.whole):
                with pytest.raises(SwatheError) as caught:
                    ask(href, auth)
                error = caught.value
                chain = [error, error.__cause__, error.__context__ if not error.__suppress_context__ else None]
                assert "hunter2" not in "".join(repr(e) + str(e) for e in chain if e)
                assert "hunter2" not in str(error.problem)
            assert "hunter2" not in repr(fetcher.network) + repr(vars(fetcher._courier))
    assert "hunter2" not in caplog.text


@pytest.mark.parametrize(
    ("hosts", "host", "sent"),
    [
        ((), "anywhere.example", False),
        (("example.com",), "example.com", True),
        (("example.com",), "data.example.com", True),
        (("example.com",), "notexample.com", False),
        (("example.com",), "example.com.evil.test", False),
        (("data.example.com",), "example.com", False),
    ],
)
def test_a_secret_goes_to_the_hosts_that_are_named(hosts, host, sent):
    from pipelines.remote.sign import _meant_for

    assert _meant_for(host, hosts) is sent


def test_a_secret_goes_nowhere_that_nobody_named():
    with Server(lambda asked: part(DATA, asked)) as server, Fetcher(OPEN) as fetcher:
        with pytest.raises(ImageryError) as caught:
            fetcher.ranges(server.url("a.tif"), [(0, 9)], Auth(kind="bearer", secret="KEY"))
        assert caught.value.problem.code == "url.credentials"
        assert not server.asked
