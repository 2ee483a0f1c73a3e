"""The rules of dialects, executed: each speaks to the desk, none to another, and each can be taken away."""

import ast
from pathlib import Path

import pytest

from serve.api.dialects import names
from tests.serve.api.conftest import houses  # noqa: F401  the fixture

ROOT = Path(__file__).resolve().parents[3]
DIALECTS = ROOT / "serve" / "dialects"
MAY = ("serve.desk.", "serve.api.", "serve.pages", "serve.problems", "swathe.")
"""What a dialect may import of ours, beside itself: the desk, the machinery of HTTP, the vocabulary."""


def ours(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("name", names())
def test_a_dialect_speaks_to_the_desk_alone(name):
    own = f"serve.dialects.{name}"
    for path in (DIALECTS / name).rglob("*.py"):
        found = [m for m in ours(path) if m.split(".")[0] in ("serve", "swathe", "models", "pipelines", "cluster")]
        strange = [m for m in found if not m.startswith((own, *MAY))]
        assert not strange, f"{path.name} imports {strange}"


@pytest.mark.parametrize("name", names())
def test_nobody_needs_it(name):
    mine = (DIALECTS / name, ROOT / "tests" / "serve" / "dialects" / name)
    rooms = [ROOT / room for room in ("swathe", "models", "pipelines", "cluster", "serve", "tests", "benchmarks")]
    for path in (p for room in rooms for p in room.rglob("*.py")):
        if not any(path.is_relative_to(folder) for folder in mine):
            assert f"serve.dialects.{name}" not in path.read_text(), path


@pytest.mark.parametrize("name", names())
def test_it_says_what_it_covers(name):
    assert (DIALECTS / name / "COVERAGE.md").is_file()


def test_the_service_stands_without_them(houses):  # noqa: F811
    house = houses(limits={"dialects": "[]"})
    assert house.client().get("/health/livez").status_code == 200
    mounted = {getattr(route, "path", "") for route in house.app.routes}
    assert not [path for path in mounted if path.startswith(("/v2", "/rest", "/v1"))]
