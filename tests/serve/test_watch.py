"""A run, watched on a terminal: a bar with speed and time left, on a terminal of the system's own making."""

import os
import re
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from serve.cli.watch import watching
from swathe.state import Event

TOTAL = 8_000_000
MARKS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextmanager
def a_terminal(monkeypatch):
    """Standard error is a terminal of 160 columns; gives what it has shown so far, without colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    ours, theirs = os.openpty()
    shown = bytearray()

    def look():
        try:
            while some := os.read(ours, 65536):
                shown.extend(some)
        except OSError:  # the other end is closed
            return

    reader = threading.Thread(target=look)
    reader.start()
    with os.fdopen(theirs, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        yield lambda: MARKS.sub("", shown.decode(errors="replace"))
    reader.join()
    os.close(ours)


def state(name):
    return Event(1, "2024-07-25T10:00:00Z", "state", {"state": name})


def failed(error):
    return Event(2, "2024-07-25T10:00:01Z", "chunk", {"chunk": "r00001c00002", "status": "failed", "error": error})


def wait_for(terminal, pattern):
    """What is written comes out of the other end a little later."""
    end = time.monotonic() + 10
    while not (found := re.search(pattern, terminal())):
        assert time.monotonic() < end, terminal()[-2000:]
        time.sleep(0.02)
    return found


def test_a_bar_tells_speed_and_time_left(monkeypatch):
    with a_terminal(monkeypatch) as terminal, watching(as_json=False, title="water-ndwi") as bar:
        bar.event(state("preparing"))
        wait_for(terminal, "water-ndwi .*getting the model ready")
        for done in range(0, TOTAL * 3 // 4, TOTAL // 16):
            bar.progress(done, TOTAL)
            time.sleep(0.1)
        speed = float(wait_for(terminal, r"water-ndwi .* (\d+\.\d\d) Mpx/s").group(1))
        assert 0 < speed <= TOTAL / 16 / 1e6 / 0.1 * 1.01
        assert wait_for(terminal, r"69 %.* left 0:00:0\d")
        bar.event(state("finishing"))
        assert wait_for(terminal, "mosaic, polygons, preview")


@pytest.mark.parametrize("error", ["read.lost: /data/[old]/x.tif", "model.failed: no [/such] thing :cat:"])
def test_what_went_wrong_stands_above_the_bar_as_it_was_said(monkeypatch, error):
    with a_terminal(monkeypatch) as terminal, watching(as_json=False, title="water-ndwi") as bar:
        bar.event(failed(error))
        bar.event(failed(""))
        assert wait_for(terminal, re.escape(f"chunk r00001c00002 failed: {error}"))
        assert wait_for(terminal, "chunk r00001c00002 failed: tiles lost")


def test_a_pipe_gets_lines(monkeypatch, capsys):
    with watching(as_json=False) as plain:
        plain.event(state("running"))
        plain.event(failed("read.lost: [old]"))
        plain.progress(TOTAL, TOTAL)
    said = capsys.readouterr().err.splitlines()
    assert said[:2] == ["  workers are starting", "  chunk r00001c00002 failed: read.lost: [old]"]
    assert said[2].startswith("  8.0 of 8.0 Mpx")
