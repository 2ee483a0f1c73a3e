"""Log lines as processes of the service write them, for tests."""

import json
import logging
from contextlib import contextmanager
from io import StringIO

from serve import structured


@contextmanager
def logged():
    """``with logged() as lines: …; lines()``: what was logged meanwhile. Loggers are as before at the end."""
    loggers = [logging.getLogger(name) for name in structured.OURS]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    for one in loggers:
        one.handlers = []
    stream = StringIO()
    structured.install(stream)
    try:
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    finally:
        for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
            one.handlers, one.propagate = handlers, propagate
            one.setLevel(level)
