"""Who gets in: keys in every place where clients can put one, tokens of an issuer, and nobody else."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from limits import RateLimitItemPerMinute

from serve.store import keys
from swathe.user import Role, Scope


def problem(answer, status, code):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["code"] == code
    return answer.json()


def test_a_key_is_taken_from_every_place(house):
    ada, asks = house.person(), house.client()
    for given in (
        {"headers": {"Authorization": f"Bearer {ada.key}"}}, {"headers": {"authorization": f"bearer {ada.key}"}},
        {"headers": {"X-API-Key": ada.key}}, {"params": {"api_key": ada.key}},
    ):  # fmt: skip
        assert asks.get("/api/me", **given).json()["user"]["email"] == ada.user.email


@pytest.fixture(scope="module")
def open_house(houses):
    """One that believes every proxy, and never grows tired of strangers."""
    house = houses(trusted_proxies="0.0.0.0/0")
    house.app.state.service.rates._limits["stranger"] = RateLimitItemPerMinute(100_000)
    return house


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Forwarded-User": "admin"}, {"X-Remote-User": "admin"}, {"Remote-User": "admin"}, {"X-User-Id": "{id}"},
        {"X-Forwarded-Email": "{email}"}, {"X-WEBAUTH-USER": "{email}"}, {"Authorization": "Basic {email}:"},
        {"Authorization": "{key}"}, {"Cookie": "api_key={key}; session={id}"}, {"X-Auth-Request-Email": "{email}"},
    ],
)  # fmt: skip
def test_no_header_logs_anybody_in(open_house, headers):
    house = open_house
    ada = house.person(Role.ADMIN)
    filled = {k: v.format(id=ada.user.id, email=ada.user.email, key=ada.key) for k, v in headers.items()}
    problem(house.client().get("/api/me", headers=filled), 401, "access.missing")


def test_what_opens_nothing_is_always_answered_alike(house):
    ada, asks = house.person(), house.client()
    with house.desk.store.begin() as c:
        off = keys.of_user(c, ada.user.id)[0]
        keys.change(c, off.id, False)
    wrong = ada.key[:-1] + ("a" if ada.key[-1] != "a" else "b")
    seen = set()
    for key in (wrong, "swk-" + "x" * 32, "nonsense", ada.key, "swk-", "é" * 40):
        answer = asks.get("/api/me", params={"api_key": key})
        seen.add((answer.status_code, answer.text, answer.headers["www-authenticate"]))
    assert len(seen) == 1
    assert "swk-" not in seen.pop()[1]


def test_a_key_can_do_no_more_than_its_scopes(house):
    reader = house.client(house.person(scopes={Scope.JOBS_READ}))
    assert reader.get("/api/jobs").status_code == 200
    for method, path in (("POST", "/api/keys"), ("POST", "/api/projects"), ("GET", "/api/uploads"), ("GET", "/stac/"),
                         ("GET", "/api/models")):  # fmt: skip
        body = {"json": {"name": "x"} if path.endswith("projects") else {}} if method == "POST" else {}
        problem(reader.request(method, path, **body), 403, "access.scope")


def test_callers_are_known_before_their_body_is_read(house):
    answer = house.client().post("/api/jobs", content=b"{" * 100, headers={"Content-Type": "application/json"})
    problem(answer, 401, "access.missing")


def test_everything_but_the_door_itself_needs_a_key(open_house):
    asks = open_house.client()
    document = asks.get("/openapi.json").json()
    for path, operations in document["paths"].items():
        for method in operations:
            answer = asks.request(method.upper(), path.replace("{", "").replace("}", ""))
            wanted = 403 if path.startswith("/api/links/") else 401
            assert (answer.status_code == wanted) is path.startswith("/api"), (method, path, answer.status_code)
    for path in ("/stac/", "/stac/search", "/stac/collections", "/stac/queryables"):
        assert asks.get(path).status_code == 401


# --- rates ----------------------------------------------------------------------------------------------------------


def test_rates_are_told_and_kept_per_user(house_of):
    house = house_of(front={"rate_per_minute": 3})
    ada, eve = house.client(house.person()), house.client(house.person())
    left = [ada.get("/api/me").headers["ratelimit-remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    refused = ada.get("/api/me")
    problem(refused, 429, "busy.rate")
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    told = [refused.headers[f"ratelimit-{name}"] for name in ("limit", "remaining", "reset")]
    assert told == ["3", "0", refused.headers["retry-after"]]
    assert eve.get("/api/me").headers["ratelimit-limit"] == "3"


def another_key(house, person):
    with house.desk.store.begin() as c:
        _, secret = keys.make(c, keys.Pepper(house.desk.settings.pepper.encode()), person.user.id, set(Scope))
    return house.client(**{"X-API-Key": f"swk-{secret}"})


def test_more_keys_are_no_more_requests(house_of):
    """Whoever may make keys could take as much as they like."""
    house = house_of(front={"rate_per_minute": 5, "predict_rate_per_minute": 2, "tile_rate_per_minute": 2})
    for ask, most in ((lambda c: c.get("/api/me"), 5), (lambda c: c.post("/api/predict?model=x", content=b"x"), 2),
                      (lambda c: c.get("/api/layers/x/tiles/0/0/0.png"), 2)):  # fmt: skip
        ada = house.person()
        clients = [house.client(ada), another_key(house, ada), another_key(house, ada)]
        codes = [ask(clients[n % 3]).status_code for n in range(most + 1)]
        assert codes.count(429) == 1
        assert codes[-1] == 429
        assert house.client(house.person()).get("/api/me").status_code == 200


@pytest.mark.parametrize(("all_", "predictions"), [(100, 2), (2, 100)])
def test_of_two_rates_the_nearer_one_is_told(house_of, all_, predictions):
    house = house_of(front={"rate_per_minute": all_, "predict_rate_per_minute": predictions})
    ada, seen = house.client(house.person()), []
    for _ in range(3):  # no models are kept warm here, which is a refusal of its own
        answer = ada.post("/api/predict?model=water-ndwi", content=b"II*")
        seen.append((answer.headers["ratelimit-limit"], answer.headers["ratelimit-remaining"], answer.status_code))
    assert seen == [("2", "1", 409), ("2", "0", 409), ("2", "0", 429)]
    assert answer.headers["ratelimit-reset"] == answer.headers["retry-after"]


def test_processes_that_share_the_requests_share_the_rates(house_of):
    house = house_of(front={"rate_per_minute": 5, "processes": 2})
    ada = house.client(house.person())
    assert ada.get("/api/me").headers["ratelimit-limit"] == "3"
    assert [ada.get("/api/me").status_code for _ in range(3)] == [200, 200, 429]


def test_guessing_is_slowed_down_and_does_not_keep_others_out(house_of):
    house = house_of()
    asks, ada = house.client(), house.person()
    codes = [asks.get("/api/me", headers={"X-API-Key": f"swk-{i:032}"}).status_code for i in range(70)]
    assert codes.count(401) == 60
    assert set(codes[60:]) == {429}
    assert asks.get("/api/me", headers=ada.headers).status_code == 200


# --- tokens of an identity provider -----------------------------------------------------------------------------------


class Issuer:
    """A provider with real keys, on loopback."""

    def __init__(self):
        self.keys, self.asked = {}, 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked += self.path == "/keys"
                body = issuer.documents()[self.path]
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, *_):
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def documents(self):
        published = [{**json.loads(kind.to_jwk(key.public_key())), "kid": kid, "use": "sig"}
                     for kid, (kind, key) in self.keys.items()]  # fmt: skip
        return {"/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
                "/keys": {"keys": published}}  # fmt: skip

    def rotate(self, kid, kind=RSAAlgorithm):
        made = (
            rsa.generate_private_key(65537, 2048) if kind is RSAAlgorithm else ec.generate_private_key(ec.SECP256R1())
        )
        self.keys = {kid: (kind, made)}

    def token(self, kid="one", algorithm="RS256", key=None, **claims):
        said = {"iss": self.url, "aud": "swathe", "sub": "42", "exp": time.time() + 60, "email": "ada@example.org",
                "email_verified": True, "name": "Ada", **claims}  # fmt: skip
        said = {k: v for k, v in said.items() if v is not None}
        return jwt.encode(said, key or self.keys[kid][1], algorithm, headers={"kid": kid})


@pytest.fixture
def issuer():
    made = Issuer()
    made.rotate("one")
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def trusting(house_of, issuer):
    house = house_of(oidc_issuer=issuer.url, oidc_audience="swathe")
    house.app.state.service.tokens.cooldown_s = 0
    return house


def me(house, token):
    return house.client().get("/api/me", headers={"Authorization": f"Bearer {token}"})


def test_a_token_makes_its_user_once_and_gives_no_rights(trusting, issuer):
    first = me(trusting, issuer.token(roles=["admin"], role="admin")).json()
    assert first["user"]["email"] == "ada@example.org"
    assert first["user"]["subject"] == f"{issuer.url}|42"
    assert first["user"]["role"] != "admin"
    assert me(trusting, issuer.token()).json()["user"]["id"] == first["user"]["id"]
    assert me(trusting, issuer.token(sub="43", email="eve@example.org")).json()["user"]["id"] != first["user"]["id"]
    assert issuer.asked == 1


def test_keys_open_beside_tokens(trusting, issuer):
    assert trusting.client(trusting.person()).get("/api/me").status_code == 200


def test_rotated_keys_are_found_and_old_ones_forgotten(trusting, issuer):
    old = issuer.token()
    assert me(trusting, old).status_code == 200
    issuer.rotate("two", ECAlgorithm)
    assert me(trusting, issuer.token("two", "ES256")).status_code == 200
    problem(me(trusting, old), 401, "access.token")


def test_forged_tokens_are_refused(trusting, issuer):
    stranger = rsa.generate_private_key(65537, 2048)
    public = issuer.keys["one"][1].public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)  # fmt: skip
    header, body, signature = issuer.token().split(".")
    forged = {
        "other key": issuer.token(key=stranger),
        "no signature": f"{header}.{body}.",
        "none": jwt.encode({"iss": issuer.url, "aud": "swathe", "sub": "42", "exp": time.time() + 60}, "", "none",
                           headers={"kid": "one"}),
        "shared secret": _hmac_with(public, issuer),
        "changed": f"{header}.{jwt.utils.base64url_encode(b'{}').decode()}.{signature}",
        "audience": issuer.token(aud="other"),
        "issuer": issuer.token(iss="https://elsewhere.example"),
        "expired": issuer.token(exp=time.time() - 120),
        "not yet": issuer.token(nbf=time.time() + 120),
        "for ever": issuer.token(exp=None),
        "nobody": issuer.token(sub=None),
        "RS512": issuer.token(algorithm="RS512"),
        "no key": jwt.encode({"sub": "42"}, issuer.keys["one"][1], "RS256"),
        "long": "a" * 9000 + "." + "b" * 9000 + ".c",
    }  # fmt: skip
    for name, token in forged.items():
        answer = problem(me(trusting, token), 401, "access.token")
        assert token not in json.dumps(answer), name
    with trusting.desk.store.read() as c:
        from serve.store import users

        assert users.count(c) == 0


def _hmac_with(public, issuer):
    """HS256 keyed with the published key: works where the token chooses how it is checked."""
    import hashlib
    import hmac

    def part(said):
        return jwt.utils.base64url_encode(json.dumps(said).encode())

    signed = b".".join([part({"alg": "HS256", "typ": "JWT", "kid": "one"}),
                        part({"iss": issuer.url, "aud": "swathe", "sub": "42", "exp": time.time() + 60})])  # fmt: skip
    mark = jwt.utils.base64url_encode(hmac.new(public, signed, hashlib.sha256).digest())
    return b".".join([signed, mark]).decode()


def test_an_issuer_that_is_away_is_no_refusal(house_of):
    house = house_of(oidc_issuer="http://127.0.0.1:9", oidc_audience="swathe")
    answer = me(house, "a.b.c")
    problem(answer, 503, "access.provider")
    assert answer.headers["retry-after"]


def test_an_issuer_that_says_nothing_is_waited_for_once(house_of, monkeypatch):
    """However many come with whatever they call a token: the others are told at once, and counted."""
    monkeypatch.setattr("serve.api.tokens._ANSWER_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        house = house_of(oidc_issuer=f"http://127.0.0.1:{mute.getsockname()[1]}", oidc_audience="swathe")
        began = time.monotonic()
        with ThreadPoolExecutor(8) as pool:
            first = list(pool.map(lambda _: me(house, "a.b.c").status_code, range(8)))
        assert set(first) == {503}
        assert time.monotonic() - began < 3
        assert [me(house, "a.b.c").status_code for _ in range(60)][-1] == 429


def test_keys_at_hand_count_while_the_issuer_is_away(trusting, issuer):
    known = issuer.token()
    assert me(trusting, known).status_code == 200
    issuer.server.shutdown()
    issuer.server.server_close()
    other = jwt.encode({"sub": "42"}, issuer.keys["one"][1], "RS256", headers={"kid": "other"})
    for _ in range(2):
        problem(me(trusting, other), 503, "access.provider")
        assert me(trusting, known).status_code == 200
