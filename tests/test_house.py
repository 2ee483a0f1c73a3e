"""The rules of the house (docs/ARCHITECTURE.md), executed."""

import ast
import inspect
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from swathe import errors

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("swathe", "models", "pipelines", "cluster", "serve")
BELOW = {
    "swathe": set(),
    "models": {"swathe"},
    "cluster": {"swathe"},
    "pipelines": {"swathe", "models", "cluster"},
    "serve": {"swathe", "models", "pipelines", "cluster"},
}
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
TORCH = {"torch", "terratorch", "torchgeo", "torchvision", "lightning", "safetensors"}
SLOW = {"torch", "terratorch", "torchgeo", "ray", "openvino", "onnxruntime", "onnx"}
ADAPTERS = {f"models/{name}.py" for name in ("checkpoint", "clay", "construct", "export", "terratorch")}
LONGEST = 450
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "base", "core", "tools"}


@cache
def tree_of(path):
    """Five rules look at every module: it is parsed once."""
    return ast.parse(path.read_text())


@cache
def imports(path):
    """Top-level package of every import, and whether it runs when the module is imported."""
    return tuple(_imports(tree_of(path)))


def _imports(tree):
    late = {
        id(node)
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.AsyncFunctionDef)
        or (isinstance(outer, ast.If) and "TYPE_CHECKING" in ast.dump(outer.test))
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module]
        for name in names:
            yield name.split(".")[0], id(node) not in late


def named(path):
    return str(path.relative_to(ROOT))


def offenders(rule):
    """What each module does against a rule. All modules in one test: three thousand tests take their time by number."""
    assert len(MODULES) > 400
    return {named(path): found for path in MODULES if (found := rule(path))}


def test_imports_point_down():
    def upwards(path):
        room = path.relative_to(ROOT).parts[0]
        return ({package for package, _ in imports(path)} & set(ROOMS)) - {room} - BELOW[room]

    assert not offenders(upwards)


def test_only_named_files_know_the_frameworks():
    def known(path):
        name, packages = named(path), {package for package, _ in imports(path)}
        strange = set()
        if not name.startswith(("cluster/", "serve/")) and name != "pipelines/ray_data.py":
            strange |= {"ray"}
        if not name.startswith("models/"):
            strange |= TORCH
        if not name.startswith("serve/"):
            strange |= {"fastapi", "starlette", "typer", "rich"}
        if name.startswith("swathe/"):
            strange |= {"rasterio", "pyogrio", "geopandas"}
        return packages & strange

    assert not offenders(known)


def test_slow_libraries_are_imported_late():
    """The command line and the API must start without them; adapters that are torch through and through are named."""

    def at_once(path):
        slow = {"ray", "openvino", "onnxruntime", "onnx"} | (set() if named(path) in ADAPTERS else TORCH)
        return {package for package, immediate in imports(path) if immediate} & slow

    assert not offenders(at_once)


def test_no_module_loads_an_adapter_when_it_is_imported():
    """In a Python of its own: what the command line and the workers import brings in no slow library."""
    light = [
        "serve.cli.main",
        "pipelines.run",
        "pipelines.ray_data",
        "pipelines.begin",
        "models.load",
        "models.registry",
    ]
    program = f"import sys, {', '.join(light)}; print(sorted(set({sorted(SLOW)}) & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert answer.stdout.strip() == "[]"


def test_modules_are_short_and_say_what_they_are():
    def faults(path):
        text = path.read_text()
        return {
            "no docstring": not ast.get_docstring(tree_of(path)),
            "too long": text.count("\n") > LONGEST,
            "a vague name": path.stem in VAGUE,
            "unfinished": bool(re.search(r"\b(TODO|FIXME|XXX)\b", text)),
        }

    assert not offenders(lambda path: {fault for fault, found in faults(path).items() if found})


def test_nobody_reads_the_environment_below_the_entry_points():
    """Processes that we start get a copy of it; decisions are taken from values."""
    allowed = ("serve/", "cluster/", "models/register.py", "models/load.py", "swathe/client/environment.py")

    def reads(path):
        walked = () if named(path).startswith(allowed) else ast.walk(tree_of(path))
        return {node.lineno for node in walked if isinstance(node, ast.Attribute) and node.attr == "environ"}

    assert not offenders(reads)


def every_error():
    return [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, errors.SwatheError)]


@pytest.mark.parametrize("error", every_error(), ids=lambda e: e.__name__)
def test_the_error_tree_is_complete(error):
    assert error in errors.STATUS
    assert error.__name__ in errors.__doc__
    problem = error("what happened", hint="what to do", field="x").problem
    assert problem.status == errors.STATUS[error]
    assert problem.title
    assert error.__doc__


def test_the_drawing_names_no_error_that_is_gone():
    drawn = set(re.findall(r"\b([A-Z]\w+Error|Interrupted)\b", errors.__doc__.split("\n\n")[1]))
    assert drawn == {e.__name__ for e in every_error()}


def test_every_module_stands_in_the_architecture_and_no_other():
    """In the table of its own folder; migrations and routes of dialects, which are named in a sentence, on the page."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    rooms = page[page.index("## Rooms and modules") : page.index("## Where it left")]
    listed, room, folder = set(), "", ""
    for line in rooms.splitlines():
        if title := re.match(r"### ([a-z]+)/", line):
            room, folder = title[1], title[1]
        elif title := re.match(r"`([a-z/_]+)/`[,:]", line):
            folder = f"{room}/{title[1]}"
        elif line.startswith("The engine, on the top level"):
            folder = room
        elif row := re.match(r"\| `([a-z_0-9]+\.py)` \|", line):
            listed.add(f"{folder}/{row[1]}")
    there = {named(path) for path in MODULES if path.stem != "__init__"}
    apart = {name for name in there - listed if re.search(r"/(migrations|versions|routes)/", name)}
    assert {name for name in apart if f"`{Path(name).name}`" not in page and "/versions/" not in name} == set()
    assert listed == there - apart


def test_no_table_of_the_architecture_is_cut():
    """A blank line ends a table; rows after it are shown as they are typed."""
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    assert not re.findall(r"\|\n\n(\|[^\n]*\|)\n(?!\|---)", page)


def test_codes_are_words_with_dots():
    pattern = re.compile(r'code="([^"]*)"')
    codes = {code for path in MODULES for code in pattern.findall(path.read_text())}
    assert all(re.fullmatch(r"[a-z0-9_]+(\.[a-z0-9_]+)*", code) for code in codes if "{" not in code)
