"""Log lines of the service's processes: JSON, with fields, whatever a message or a value holds."""

import io
import json
import logging
import sys
from datetime import UTC, datetime

import pytest

from serve import structured
from serve.structured import about
from tests.serve.lines import logged


@pytest.fixture
def lines():
    with logged() as found:
        yield found


def test_a_line_holds_what_it_is_about(lines):
    logging.getLogger("swathe.test").warning("died %d times", 2, extra=about(job="j1", task="j1-1"))
    (line,) = lines()
    assert datetime.fromisoformat(line.pop("timestamp")).tzinfo
    assert line == {"level": "warning", "logger": "swathe.test", "message": "died 2 times", "job": "j1", "task": "j1-1"}


def test_a_line_is_one_whatever_it_holds():
    facts = {"name": "n", "message": "m", "level": "l", "args": (1,), "when": datetime(2026, 1, 1, tzinfo=UTC),
             "text": "ü\n\x00\ud800"}  # fmt: skip
    record = logging.LogRecord("serve.test", logging.INFO, "", 0, "one\ntwo", (), None)
    record.__dict__ |= about(**facts)
    written = io.TextIOWrapper(io.BytesIO(), "utf-8")  # as a process's output takes it, which knows no halves
    written.write(structured.Lines().format(record) + "\n")
    written.seek(0)
    line = json.loads(written.readline())
    assert written.readline() == ""
    assert (line["message"], line["level"], line["name"]) == ("one\ntwo", "info", "n")
    assert (line["when"][:4], line["text"]) == ("2026", facts["text"])


def test_a_fault_comes_with_its_trace(lines):
    try:
        int("broken")
    except ValueError:
        logging.getLogger("swathe.test").exception("it stumbled")
    (line,) = lines()
    assert line["exception"].endswith("'broken'")
    assert line["level"] == "error"


def test_what_is_no_json_is_written_all_the_same(lines):
    circle = {}
    circle["again"] = circle
    for odd in ({(1, 2): 3}, circle, float("nan")):
        logging.getLogger("swathe.test").info("odd", extra=about(job="j1", odd=odd))
    assert [(line["job"], line["odd"]) for line in lines()] == [
        ("j1", "{(1, 2): 3}"), ("j1", "{'again': {...}}"), ("j1", "nan"),
    ]  # fmt: skip


def test_no_line_holds_a_signature(lines):
    signed = "https://h.example/a.tif?X-Amz-Signature=hunter2"
    try:
        int(signed)
    except ValueError:
        logging.getLogger("serve.test").exception("not read: %s", signed)
    (line,) = lines()
    assert line["message"] == "not read: https://h.example/a.tif"
    assert line["exception"].endswith(": 'https://h.example/a.tif'")


def test_asked_twice_it_writes_once_and_libraries_keep_their_own(lines):
    structured.install(sys.stderr)
    logging.getLogger("swathe.test").info("once")
    logging.getLogger("elsewhere").warning("not ours")
    assert [line["message"] for line in lines()] == ["once"]
