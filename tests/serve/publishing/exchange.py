"""A map server that says what was written down for it, to exactly the requests that were written down."""

import base64
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WRITTEN = Path(__file__).with_name("exchange.json").read_text()
USER, PASSWORD = "publisher", "a password"
_WHO = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


class Exchange:
    """What it waits for, and what came that was not waited for."""

    def __init__(self, url):
        self.url, self.waiting, self.wrong, self._bodies = url, [], [], {}

    def expect(self, *parts, names=None, **bodies):
        """These parts of the exchange, one after the other.

        ``names``: other names for its workspace and layer; ``bodies``: what its words RASTER and SLD stand for.
        """
        text = WRITTEN
        for word, name in (names or {}).items():
            text = text.replace(word, name)
        self.waiting += [entry for part in parts for entry in json.loads(text)[part]]
        self._bodies |= bodies

    def heard(self, method, path, headers, body):
        """Status, body and headers of the answer."""
        entry = self.waiting.pop(0) if self.waiting else {}
        asked = (method, path.removeprefix("/geoserver"))
        if asked != (entry.get("method"), entry.get("path")) or headers["Authorization"] != _WHO:
            self.wrong.append((asked, entry))
            return 501, b"", {}
        if "body" in entry:
            expected = self._bodies.get(entry["body"], entry["body"].encode())
            if body != expected or headers["Content-Type"] != entry["type"]:
                self.wrong.append((asked, body[:1000], headers["Content-Type"]))
        says = entry["says"]
        text = says if isinstance(says, str) else json.dumps(says)
        return entry["status"], text.encode(), {"Location": entry["location"]} if "location" in entry else {}

    def check(self):
        """Everything was asked, and nothing else."""
        assert not self.wrong, self.wrong
        assert not self.waiting, self.waiting


@contextmanager
def exchange():
    """One of them, on loopback; checked at the end."""
    found = None

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, said, headers = found.heard(self.command, self.path, self.headers, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(said))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815  the names that http.server looks for

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Exchange(f"http://127.0.0.1:{server.server_port}/geoserver")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
    found.check()


@contextmanager
def replayed(*parts, **bodies):
    """The url of one that expects these parts."""
    with exchange() as one:
        one.expect(*parts, **bodies)
        yield one.url
