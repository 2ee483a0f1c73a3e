"""The example of a receiver, called by what calls hooks."""

import importlib.util
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path

import httpx2
import pytest

from serve.running.webhooks import signature

ROOT = Path(__file__).resolve().parents[2]
BODY = b'{"job": "j1", "seq": 3, "at": "t", "kind": "state", "facts": {"state": "done"}}'


@pytest.fixture
def receiver():
    spec = importlib.util.spec_from_file_location("webhook_receiver", ROOT / "examples" / "webhook_receiver.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.Receiver.secret, module.Receiver.heard, module.used = "word", set(), []
    module.Receiver.use = lambda _, event: module.used.append(event["seq"])
    server = ThreadingHTTPServer(("127.0.0.1", 0), module.Receiver)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    module.url = f"http://127.0.0.1:{server.server_port}/swathe"
    yield module
    server.shutdown()
    server.server_close()


def call(receiver, signed, event="j1:3"):
    headers = {"Swathe-Signature": signed, "Swathe-Event": event}
    return httpx2.post(receiver.url, content=BODY, headers=headers).status_code


def test_what_the_service_signs_is_heard_once(receiver):
    now = int(time.time())
    assert [call(receiver, signature("word", BODY, now)) for _ in range(2)] == [204, 204]
    assert receiver.used == [3]


@pytest.mark.parametrize(
    "signed",
    [
        "",
        "t=1,v1=",
        "v1=é",
        "t=x,v1=0",
        signature("another", BODY, int(time.time())),
        signature("word", BODY + b" ", int(time.time())),
        signature("word", BODY, int(time.time()) - 3600),
    ],
    ids=["nothing", "an empty code", "no time", "no number", "another secret", "another body", "an hour ago"],
)
def test_what_it_did_not_sign_is_refused(receiver, signed):
    assert call(receiver, signed.encode()) == 401
    assert receiver.used == []
