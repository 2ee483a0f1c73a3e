"""Processors over HTTP."""

import pytest

from pipelines.sandbox.isolation import isolation
from tests.serve.api.test_access import problem

SOURCE = 'if __name__ == "__main__":\n    pass\n'
pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")


def test_the_life_of_one(house):
    asks = house.client(house.person())
    made = asks.post("/api/processors", json={"file": "a.py", "source": SOURCE, "parameters": {"a": 1}})
    assert made.status_code == 201, made.text
    here = made.headers["location"].removeprefix("http://svc.test")
    found = asks.get(here).json()
    assert (found["file"], found["call"], found["parameters"]) == ("a.py", "positional", {"a": 1})
    content = found["links"]["content"].removeprefix("http://svc.test")
    assert house.client().get(content).text == SOURCE
    assert [p["id"] for p in asks.get("/api/processors").json()["processors"]] == [found["id"]]
    assert asks.delete(here).status_code == 204
    problem(asks.get(here), 404, "processor.unknown")
    problem(house.client().get(content), 404, "processor.unknown")
    assert asks.get("/api/processors").json()["processors"] == []


def test_what_is_refused_says_why(house):
    asks = house.client(house.person())
    problem(asks.post("/api/processors", json={"file": "a.py", "source": "x"}), 400, "processor.main")
    wish = {"model": "water-ndwi", "inputs": ["https://a.example/x.tif"], "processor": {"id": "r" + "0" * 26}}
    problem(asks.post("/api/jobs", json=wish), 404, "processor.unknown")


def test_a_script_may_be_named_in_any_alphabet(house):
    asks = house.client(house.person())
    made = asks.post("/api/processors", json={"file": "水.py", "source": SOURCE})
    link = asks.get(made.headers["location"].removeprefix("http://svc.test")).json()["links"]["content"]
    content = house.client().get(link.removeprefix("http://svc.test"))
    assert (content.status_code, content.text) == (200, SOURCE)
    assert content.headers["content-disposition"] == "attachment; filename=\"_.py\"; filename*=UTF-8''%E6%B0%B4.py"
