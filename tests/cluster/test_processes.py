"""Processes that are waited for: those of others, too, and no longer than they live."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from contextlib import suppress

import psutil
import pytest

from cluster.processes import outlived


def started(seconds):
    """A process that nobody here reaps: a grandchild."""
    program = f"import subprocess as s; print(s.Popen(['sleep', '{seconds}'], stdout=s.DEVNULL, stderr=s.DEVNULL).pid)"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return psutil.Process(int(made.stdout))


def too_many(*_):
    """No file descriptor is left."""
    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.parametrize("handles", [True, False])
def test_those_that_live_on_are_told(monkeypatch, handles):
    if not handles:
        monkeypatch.setattr(os, "pidfd_open", too_many)
    short, long = started(0.3), started(60)
    began = time.monotonic()
    try:
        assert outlived([long, short], 1.0) == [long]
        assert time.monotonic() - began < 20
        long.kill()
        assert outlived([long, short], 20) == []
    finally:
        with suppress(psutil.NoSuchProcess):
            long.kill()


def test_a_zombie_has_ended():
    child = subprocess.Popen(["true"])  # not waited for
    try:
        process = psutil.Process(child.pid)
        assert outlived([process], 20) == []
        assert process.status() == psutil.STATUS_ZOMBIE
    finally:
        child.wait()
    assert outlived([process], 0) == []


def test_another_with_the_same_number_is_not_waited_for():
    process = psutil.Process(os.getpid())
    process._create_time = process._ident = (process.pid, 1.0)
    assert not process.is_running()
    assert outlived([process], 0) == []
