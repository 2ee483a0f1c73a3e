"""Waiting for processes of others to end.

An orphan whose parent has died is taken over by the first process of the machine, or of the container, which may leave
it a zombie for a second or more. It holds nothing by then, and nobody needs to wait for the last of it, as psutil does.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable

import psutil


def outlived(processes: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Those that have not ended after so long a time; a zombie has."""
    until = time.monotonic() + seconds
    return [process for process in processes if not _ends(process, until)]


def _ends(process: psutil.Process, until: float) -> bool:
    """Waits no longer than until then."""
    left_s = max(until - time.monotonic(), 0.0)
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return True
    except (OSError, AttributeError):  # a kernel, or a system, without them
        psutil.wait_procs([process], timeout=left_s)
        return _has_ended(process)
    try:
        if not process.is_running():  # another one has its number by now
            return True
        poller = select.poll()
        poller.register(handle, select.POLLIN)
        return bool(poller.poll(left_s * 1000))
    finally:
        os.close(handle)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
