"""The first program inside: takes away what bubblewrap cannot, then becomes the program that was meant.

``python launch.py ORDER``, where ORDER is JSON with ``limits``, ``uid``, ``read``, ``write``, ``start`` and ``run``.
Standard library only: it is bound into the sandbox as one file.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
from typing import Any

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_REMOVE_DIR, _REMOVE_FILE, _MAKE_DIR, _MAKE_REG, _MAKE_SOCK = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 9
_REFER, _TRUNCATE = 1 << 13, 1 << 14
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""Version of Landlock -> all rights over files that it knows."""
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_CHANGE = _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _MAKE_SOCK | _REFER | _TRUNCATE
_OF_FILES = _EXECUTE | _READ_FILE | _WRITE_FILE | _TRUNCATE
_NET_FROM, _SCOPES_FROM = 4, 6
_NO_NEW_PRIVS = 38


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def main(order: dict[str, Any]) -> None:
    """Does not return."""
    for name, soft_and_hard in order["limits"].items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), tuple(soft_and_hard))
    if order["uid"] is not None:
        os.setgroups([])
        os.setresgid(order["uid"], order["uid"], order["uid"])
        os.setresuid(order["uid"], order["uid"], order["uid"])
    os.chdir(order["start"])  # not earlier: it may be closed to all but that user
    if order["landlock"]:
        confine(order["read"], order["write"])
    os.execv(order["run"][0], order["run"])  # noqa: S606  that is what we are here for


def confine(read: list[str], write: list[str]) -> int:
    """Landlock, as far as this kernel has it; its version, 0: none."""
    call = ctypes.CDLL(None, use_errno=True).syscall
    version = call(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return 0
    rights = _RIGHTS[max(known for known in _RIGHTS if known <= version)]
    attributes = _Ruleset(rights, 3 if version >= _NET_FROM else 0, 3 if version >= _SCOPES_FROM else 0)
    size = 24 if version >= _SCOPES_FROM else 16 if version >= _NET_FROM else 8
    rules = call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    if rules < 0:
        return 0
    for path, allowed in [*((p, _READ) for p in read), *((p, _READ | _CHANGE) for p in write)]:
        if os.path.exists(path):  # noqa: PTH110  pathlib takes a while to import
            _allow(call, rules, path, allowed & rights)
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    if call(_RESTRICT_SELF, rules, 0) < 0:
        return 0
    os.close(rules)
    return version


def _allow(call: Any, rules: int, path: str, allowed: int) -> None:
    folder = os.open(path, os.O_PATH | os.O_CLOEXEC)
    rule = _Rule(allowed if os.path.isdir(path) else allowed & _OF_FILES, folder)  # noqa: PTH112  see above
    call(_ADD_RULE, rules, _BENEATH, ctypes.byref(rule), 0)
    os.close(folder)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
