"""What COVERAGE.md says, held against the API's own document and the list of what hurts elsewhere."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[4] / "serve" / "dialects" / "geostudio" / "COVERAGE.md"
ROW = re.compile(r"^\| (GET|POST|PATCH|PUT|DELETE) \| `(/[^`]*)` \| (works|partial|not) \| ?(.*)\|$", re.MULTILINE)


@pytest.fixture(scope="module")
def said():
    return {(method, path): (state, why.strip()) for method, path, state, why in ROW.findall(PAGE.read_text())}


@pytest.fixture
def described(studio):
    document = studio.house.client().get("/v2/openapi.json").json()
    return {(method.upper(), path): operation for path, operations in document["paths"].items()
            for method, operation in operations.items()}  # fmt: skip


def plain(found):
    """Parameters by one name."""
    return {(method, re.sub(r"\{[^}]+\}", "{}", path)) for method, path in found}


def test_every_endpoint_stands_on_the_page(said, described):
    assert plain(described) == plain(said)


def test_what_is_not_there_answers_so_and_says_why(said, described, studio):
    for (method, path), (state, why) in said.items():
        if state != "works":
            assert why, path
        if state == "not":
            answer = studio.client.request(method, "/v2" + path.replace("{id}", "x"))
            assert answer.status_code == 501, path
        elif "501" in why:
            pytest.fail(path)


def test_every_hurt_is_answered():
    page = PAGE.read_text().partition("## Where the original hurts")[2]
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", page, re.MULTILINE)
    assert [int(number) for number, *_ in rows] == list(range(1, 26))
    assert all(len(here) > 5 for *_, here in rows)


def test_every_answer_is_an_object(described, studio):
    """Their client asks each for its fields."""
    for method, path in described:
        if method == "GET":
            address = "/v2" + re.sub(r"\{[^}]+\}", "11111111-2222-3333-4444-555555555555", path)
            answer = studio.client.get(address, headers={"Accept": "application/json"})
            assert isinstance(answer.json(), dict), path
            assert answer.status_code < 500 or answer.status_code == 501, path


def test_every_refusal_has_a_detail(studio):
    for method, path in (("GET", "/v2/nowhere"), ("DELETE", "/v2/models"), ("POST", "/v2/inference")):
        answer = studio.client.request(method, path, content="{")
        assert answer.status_code in (404, 405, 422)
        assert answer.json()["detail"]
