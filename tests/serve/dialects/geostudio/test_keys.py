"""API keys in their form: at most two, seen once, really switched off."""

import re
from concurrent.futures import ThreadPoolExecutor


def test_keys_from_making_to_removal(studio):
    client = studio.client
    made = client.post("/v2/auth/api-keys", content="{}")
    assert made.status_code == 200
    first = made.json()
    assert re.fullmatch(r"pak-[A-Za-z0-9]{32}", first["value"])
    assert first["active"] is True
    assert client.post("/v2/auth/api-keys/", json={}).status_code == 200
    third = client.post("/v2/auth/api-keys", json={})
    assert (third.status_code, list(third.json())) == (412, ["detail"])
    listed = client.get("/v2/auth/api-keys").json()
    assert (listed["total_records"], listed["page_count"]) == (2, 2)
    assert listed["results"][0]["value"] == first["value"][:12] + "*" * 24
    own = studio.house.client(**{"x-api-key": first["value"]})
    assert own.get("/v2/models").status_code == 200
    off = client.patch(f"/v2/auth/api-keys?apikey_id={first['id']}", json={"active": False})
    assert (off.status_code, off.json()["active"]) == (200, False)
    assert own.get("/v2/models").status_code == 401
    assert client.delete(f"/v2/auth/api-keys?apikey_id={first['id']}").status_code == 204
    assert client.get("/v2/auth/api-keys").json()["total_records"] == 1


def test_of_many_requests_at_once_two_make_a_key(studio):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: studio.client.post("/v2/auth/api-keys", json={}).status_code, range(8)))
    assert sorted(found) == [200, 200, *[412] * 6]
    assert studio.client.get("/v2/auth/api-keys").json()["total_records"] == 2


def test_one_key_opens_every_api_in_its_own_form(studio):
    value = studio.client.post("/v2/auth/api-keys", json={}).json()["value"]
    for headers in ({"Authorization": f"Bearer {value}"}, {"X-API-Key": value},
                    {"X-API-Key": value.replace("pak-", "swk-")}):  # fmt: skip
        for path in ("/v2/models", "/studio-gateway/v2/models/", "/api/models"):
            assert studio.house.client(**headers).get(path).status_code == 200


def test_who_is_not_let_in_is_told_in_three_ways(studio):
    for headers, said in (({}, "Not authenticated"), ({"X-API-Key": "pak-" + "x" * 32}, "API key"),
                          ({"Authorization": "Bearer a.b.c"}, "token")):  # fmt: skip
        answer = studio.house.client(**headers).get("/v2/inference")
        assert answer.status_code == 401
        assert said in answer.json()["detail"]


def test_somebody_elses_key_is_not_there(studio):
    made = studio.client.post("/v2/auth/api-keys", json={}).json()
    other = studio.house.client(studio.house.person())
    assert other.patch(f"/v2/auth/api-keys?apikey_id={made['id']}", json={"active": False}).status_code == 404
    assert other.delete(f"/v2/auth/api-keys?apikey_id={made['id']}").status_code == 404
    assert other.delete("/v2/auth/api-keys?apikey_id=x").status_code == 404
