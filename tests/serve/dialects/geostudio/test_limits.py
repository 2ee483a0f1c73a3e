"""How often one may ask, told as their clients read it."""

from tests.serve.dialects.geostudio.conftest import Studio


def test_too_often_is_a_list_with_their_headers(house_of):
    house = house_of(front={"rate_per_minute": 3})
    client = Studio(house, house.person()).client
    answers = [client.get("/v2/models") for _ in range(4)]
    assert [a.status_code for a in answers] == [200, 200, 200, 429]
    last = answers[-1]
    assert "3 requests per minute" in last.json()["detail"][0]["msg"]
    assert {"x-rate-limit-limit", "x-rate-limit-remaining", "x-rate-limit-reset"} <= set(last.headers)
