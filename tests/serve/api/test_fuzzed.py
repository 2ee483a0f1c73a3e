"""Requests that nobody would write, made from the OpenAPI documents of the API and of its STAC API.

No 5xx, and answers as the documents say. One 5xx is right: 502 `read.*`, where the imagery that a request names lies on
somebody else's server, which does not answer.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve.store import catalogue
from swathe.job import JobState
from swathe.user import Role

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance,
          response_headers_conformance]  # fmt: skip
CHECKS_OF_PARTS = [check for check in CHECKS if check is not response_schema_conformance]
"""Who asks for some fields of an Item gets no whole Item."""
OPERATIONS, STAC_OPERATIONS = 50, 10
QUIET = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large, HealthCheck.large_base_example]


@pytest.fixture(scope="module")
def schema(house):
    return schemathesis.openapi.from_asgi("/openapi.json", house.app)


@pytest.fixture(scope="module")
def root(house):
    return house.person(Role.ADMIN)


def some_ids(house, root):
    """Of things that there are, by the word in the path that stands before them."""
    jobs = [house.job(root).id, house.left(root, {"result.tif": b"x"}).id, house.job(root, JobState.FAILED).id]
    client, other = house.client(root), house.person()

    def made(path, **body):
        return client.post(path, json=body).json()["id"]

    return {
        "jobs": jobs, "models": ["water-ndwi", "snow-ndsi"], "users": [other.user.id],
        "keys": [made("/api/keys", label="fuzz")], "uploads": [made("/api/uploads", name="x.tif")],
        "projects": [made("/api/projects", name=f"p{jobs[0]}")],
    }  # fmt: skip


def fuzz(house, root, operation, examples, mode):
    """Half of the requests are about things that exist."""
    known = some_ids(house, root)

    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], derandomize=examples < 50,
              suppress_health_check=QUIET)  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode), st.randoms(use_true_random=False))
    def ask(case, chance):
        kind = operation.path.split("/")[2] if operation.path.count("/") > 2 else ""
        if "id" in (case.path_parameters or {}) and kind in known and chance.random() < 0.5:
            case.path_parameters["id"] = chance.choice(known[kind])
        answer = case.call(headers=root.headers)
        away = answer.status_code == 502 and answer.json()["code"].startswith("read.")  # somebody else's server
        case.validate_response(answer, checks=CHECKS if away else [not_a_server_error, *CHECKS])

    with suppress(Unsatisfiable):  # an operation that asks for nothing cannot be asked wrongly
        ask()


def every(schema, least=OPERATIONS):
    found = {o.ok().label: o.ok() for o in schema.get_all_operations()}
    assert len(found) >= least
    return found


def test_a_few_of_each(house, root, schema):
    for operation in every(schema).values():
        fuzz(house, root, operation, 2, GenerationMode.NEGATIVE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda m: m.value)
def test_a_hundred_of_each(house, root, schema, mode):
    for operation in every(schema).values():
        fuzz(house, root, operation, 100, mode)


# --- the STAC API, which has a document of its own --------------------------------------------------------------------

COLLECTION, ITEM = "fuzzed", "one"
_KNOWN = {"collection_id": COLLECTION, "item_id": ITEM}


@pytest.fixture(scope="module")
def stac(house, root):
    """Over a catalogue with something in it."""
    with house.desk.store.begin() as c:
        catalogue.put_collection(c, {
            "type": "Collection", "stac_version": "1.1.0", "id": COLLECTION, "description": "d", "license": "other",
            "links": [],
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
        })  # fmt: skip
        catalogue.put_item(c, {
            "type": "Feature", "stac_version": "1.1.0", "id": ITEM, "collection": COLLECTION, "bbox": [12, 45, 12, 45],
            "geometry": {"type": "Point", "coordinates": [12, 45]}, "links": [],
            "properties": {"datetime": "2026-07-04T10:10:31Z", "eo:cloud_cover": 5},
            "assets": {"data": {"href": f"{house.desk.settings.place}/jobs/x/result.tif"}},
        }, root.user.id)  # fmt: skip
    return schemathesis.openapi.from_asgi("/stac/api", house.app)


def fuzz_stac(root, operation, examples, mode):
    """Half of the requests are about what is there. What is refused is a problem, with STAC's word for it."""

    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate], derandomize=examples < 50,
              suppress_health_check=QUIET)  # fmt: skip
    @given(operation.as_strategy(generation_mode=mode), st.randoms(use_true_random=False))
    def ask(case, chance):
        for name in set(case.path_parameters or {}) & set(_KNOWN):
            if chance.random() < 0.5:
                case.path_parameters[name] = _KNOWN[name]
        answer = case.call(headers=root.headers)
        if answer.status_code < 400:
            parts = any("fields" in given for given in (case.query, case.body) if isinstance(given, dict))
            case.validate_response(answer, checks=CHECKS_OF_PARTS if parts else CHECKS)
        else:
            case.validate_response(answer, checks=[not_a_server_error])
            assert answer.headers["content-type"] == ["application/problem+json"]
            problem = answer.json()
            assert problem["code"]
            assert problem.get("description", problem["detail"]) == problem["detail"]

    with suppress(Unsatisfiable):
        ask()


def test_a_few_of_each_of_stac(root, stac):
    for operation in every(stac, STAC_OPERATIONS).values():
        fuzz_stac(root, operation, 2, GenerationMode.NEGATIVE)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda m: m.value)
def test_a_hundred_of_each_of_stac(root, stac, mode):
    for operation in every(stac, STAC_OPERATIONS).values():
        fuzz_stac(root, operation, 100, mode)
