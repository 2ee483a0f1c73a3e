"""The OpenAPI document: every operation is named, grouped, and shown with examples that hold."""

from __future__ import annotations

import re

import jsonschema
import pytest

from serve.api import examples
from swathe.card import ModelCard

BINARY = {"image/tiff", "image/png", "image/jp2", "application/octet-stream", "*/*", "text/html"}


@pytest.fixture(scope="module")
def document(house):
    return house.client().get("/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield f"{method} {path}", operation


def resolved(document, schema):
    """With all that it refers to."""
    return {**schema, "components": document["components"]}


def examples_of(document, media):
    schema = media.get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if "example" in media:
        yield media["example"]
    yield from (found["value"] for found in media.get("examples", {}).values())
    yield from schema.get("examples", [])


def test_every_operation_has_a_name_that_reads_well(document):
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(names) == len(set(names)) >= 40
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", name) for name in names)
    known = {tag["name"] for tag in document["tags"]}
    for where, operation in operations(document):
        assert set(operation["tags"]) <= known, where
        assert operation["description"], where


def test_every_operation_is_shown_with_examples_that_hold(document):
    for where, operation in operations(document):
        bodies = dict(operation.get("requestBody", {}).get("content", {}))
        for status, answer in operation["responses"].items():
            bodies |= {f"{status} {kind}": media for kind, media in answer.get("content", {}).items()}
        for kind, media in bodies.items():
            if kind.split()[-1] in BINARY:
                continue
            shown = list(examples_of(document, media))
            assert shown, (where, kind)
            for example in shown:
                jsonschema.validate(example, resolved(document, media.get("schema", {})))


def test_problems_are_described_as_they_are_sent(document):
    for where, operation in operations(document):
        assert {"4XX", "5XX"} <= set(operation["responses"]), where
        assert "422" not in operation["responses"], where
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_what_needs_a_key_says_so(document):
    for where, operation in operations(document):
        assert bool(operation.get("security")) is ("/api/" in where and "/api/links/" not in where), where


def test_the_card_that_is_shown_is_one(house):
    ModelCard.model_validate(examples.CARD)
    client = house.client(house.person())
    made = client.post("/api/models", json=examples.CARD)
    assert made.status_code == 201, made.text
    assert client.get(made.headers["location"]).json()["card"]["id"] == "my-water"
