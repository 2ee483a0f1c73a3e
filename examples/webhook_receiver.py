#!/usr/bin/env python3
"""Be told of a job's events: a receiver of swathe's webhooks, with nothing but Python.

    SWATHE_HOOK_SECRET='a long word' python examples/webhook_receiver.py 8080

Submit a job with that secret and this address (it has to be one that the service can reach):

    client.submit("water-mndwi", …, hook={"url": "https://you.example.org/swathe", "secret": "a long word"})

Every call carries two headers::

    Swathe-Event: JOB:NUMBER                 the same for a repeated call; numbers of a job grow
    Swathe-Signature: t=TIME,v1=HEX          HEX is HMAC-SHA256 over "TIME.BODY" with the secret; TIME in seconds

An answer of 2xx means that the event was heard; anything else, and the service calls again, later and later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

OLDEST_S = 300
"""A signature of long ago may be somebody's recording."""
LARGEST = 1_000_000
"""Bytes of a call that are read."""


def genuine(secret: str, signature: str, body: bytes, now: float) -> bool:
    """Whether this call was signed with the secret, a short while ago."""
    parts = dict(part.partition("=")[::2] for part in signature.split(","))
    at = parts.get("t", "")
    if not (at.isascii() and at.isdigit()) or abs(now - int(at)) > OLDEST_S:
        return False
    wanted = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted.encode(), parts.get("v1", "").encode())


class Receiver(BaseHTTPRequestHandler):
    """One call."""

    timeout = 10
    secret = ""
    heard: set[str] = set()  # noqa: RUF012  of all calls; a real receiver keeps it in its database

    def do_POST(self) -> None:
        """Check it, use it once, say that it was heard."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > LARGEST:
            self.say(413)
            return
        body = self.rfile.read(int(length))
        if not genuine(self.secret, self.headers.get("Swathe-Signature", ""), body, time.time()):
            self.say(401)
            return
        name = self.headers.get("Swathe-Event", "")
        if name not in self.heard:
            self.use(json.loads(body))
            self.heard.add(name)  # afterwards: what breaks off in between comes again
        self.say(204)

    def use(self, event: dict[str, object]) -> None:
        """Whatever should happen; here it is printed."""
        print(event["job"], event["seq"], event["kind"], json.dumps(event["facts"]), flush=True)

    def say(self, status: int) -> None:
        """Answer without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing: what counts is printed."""


def main() -> None:
    """Listen until Ctrl-C."""
    Receiver.secret = os.environ.get("SWATHE_HOOK_SECRET", "")
    if not Receiver.secret:
        sys.exit("set SWATHE_HOOK_SECRET to the secret of your hook")
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8080
    server = ThreadingHTTPServer(("127.0.0.1", port), Receiver)
    print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()
