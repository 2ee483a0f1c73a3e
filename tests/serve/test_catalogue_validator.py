"""stac-api-validator, the STAC community's own, against the real server; it comes with ``make clients``.

It asks for the schemas of STAC on the web. Where there is none, it counts every document as invalid: such complaints
are put aside here, as documents are validated offline elsewhere (``tests/pipelines/test_item_schemas.py``). All the
rest has to be one of the deviations that docs/catalogue.md explains, and each of those has to be there.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
from fastapi import FastAPI

from pipelines.catalogue.store import Catalogue
from serve.catalogue.app import catalogue_app
from tests.serve.test_catalogue import COLLECTION, item, serving, square

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / ".venv-clients" / "bin" / "stac-api-validator"
CLASSES = (
    "core", "collections", "features", "item-search", "filter", "item-search#sort", "item-search#fields",
    "item-search#query",
)  # fmt: skip
QUERY = {
    "comparison-field": "eo:cloud_cover", "eq-value": "37", "neq-value": "37", "lt-value": "50", "lte-value": "50",
    "gt-value": "50", "gte-value": "50", "substring-field": "platform", "starts-with-value": "a",
    "ends-with-value": "a", "contains-value": "a", "in-field": "platform", "in-values": "a,b",
}  # fmt: skip
OFFLINE = re.compile(r"HTTPSConnectionPool\(host=.*Max retries exceeded")
"""A schema that could not be had."""
KNOWN = {
    "between with a nested list": r'"op": "between", "args": \[\{"property": "eo:cloud_cover"\}, \[0, 50\]\].* 400 ',
    "collections as text": r'"collections": "squares"\} had unexpected status code 400 instead of 200',
    "a number compared with text": r'Query .\{"eo:cloud_cover": \{"(eq|neq|lte?|gte?)": "\d+"\}\}. had no results',
    "fields that are null": r'body=\{"fields": null\} had unexpected status code 200 instead of 400',
    "exclude beside an empty include": r"'include': (\[\]|None)\}\} response contained 'properties\.eo:cloud_cover'",
}
"""What docs/catalogue.md explains."""
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    if not PROGRAM.exists():
        pytest.skip("the clients are not here: make clients")
    with Catalogue(tmp_path_factory.mktemp("validated") / "c.sqlite") as made:
        made.put_collection({**COLLECTION, "id": "squares", "title": "Squares"})
        made.put_items([item(i) for i in range(40)])
        outer = FastAPI()
        outer.mount("/stac", catalogue_app(made, lambda href: f"https://files.e.org{href}"))
        for url in serving(outer):
            yield f"{url}/stac/"


def complaints(url):
    """What the validator calls errors, one a line."""
    command = [PROGRAM, "--root-url", url, "--collection", "squares", "--geometry", json.dumps(square(4, 4, 5)),
               "--log-level", "ERROR", "--validate-pagination", "--fields-nested-property", "properties.eo:cloud_cover",
               *(part for name in CLASSES for part in ("--conformance", name)),
               *(part for name, value in QUERY.items() for part in (f"--query-{name}", value))]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=800)
    assert "Errors:" in done.stdout, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return [line[2:] for line in done.stdout.partition("Errors:")[2].splitlines() if line.startswith("- ")]


def test_nothing_is_wrong_but_what_is_known(site):
    found = [text for text in complaints(site) if not OFFLINE.search(text)]
    known = {text: [name for name, pattern in KNOWN.items() if re.search(pattern, text)] for text in found}
    assert [text for text, names in known.items() if not names] == []
    assert {name for names in known.values() for name in names} == set(KNOWN)
