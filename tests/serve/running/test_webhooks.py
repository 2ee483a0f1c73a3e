"""Webhooks against a real server: in order, signed, again after a refusal, and to no forbidden address."""

import hashlib
import hmac
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from serve.running.webhooks import Webhooks
from serve.store import hooks, jobs
from swathe.job import JobState


class Receiver:
    """Answers what it is told to, one status after the other, then 200."""

    def __init__(self):
        self.heard, self.answers = [], []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                status = outer.answers.pop(0) if outer.answers else 200
                outer.heard.append((status, dict(self.headers), body))
                self.send_response(status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"

    @property
    def delivered(self):
        return [json.loads(body)["seq"] for status, _, body in self.heard if status == 200]


@pytest.fixture
def receiver():
    one = Receiver()
    yield one
    one.server.shutdown()
    one.server.server_close()


@pytest.fixture
def hooked(world, receiver):
    """A job whose events of two kinds are wanted."""
    id_ = world.submit()
    with world.store.begin() as c:
        hooks.add(c, id_, receiver.url, "a secret", ["state", "chunk"])
        hold = jobs.take(c, id_, "a", 60)
        jobs.enter(c, hold, JobState.RUNNING)
        for n in range(3):
            jobs.note(c, hold, "chunk", chunk=str(n))
    return id_, hold


def test_events_are_told_in_order_and_signed(world, receiver, hooked):
    id_, _ = hooked
    webhooks = Webhooks(world.store, allow_private=True)
    assert webhooks.turn() == 1
    assert receiver.delivered == [1, 3, 4, 5, 6]  # the second is no kind that was asked for
    _, headers, body = receiver.heard[0]
    assert headers["Swathe-Event"] == f"{id_}:1"
    at, _, digest = headers["Swathe-Signature"].partition(",v1=")
    expected = hmac.new(b"a secret", at.removeprefix("t=").encode() + b"." + body, hashlib.sha256).hexdigest()
    assert digest == expected
    assert webhooks.turn() == 0


def test_a_slow_receiver_gets_its_share_of_a_turn_and_the_rest_in_the_next(world, receiver, hooked, monkeypatch):
    monkeypatch.setattr("serve.running.webhooks._TURN_S", 0.0)
    webhooks = Webhooks(world.store, allow_private=True)
    webhooks.turn()
    assert receiver.delivered == [1]
    for _ in range(5):
        webhooks.turn()
    assert receiver.delivered == [1, 3, 4, 5, 6]


def test_a_refused_event_is_told_again_before_those_after_it(world, receiver, hooked, monkeypatch):
    monkeypatch.setattr("serve.running.webhooks._WAIT_S", 0.0)
    receiver.answers = [200, 500, 302]
    webhooks = Webhooks(world.store, allow_private=True)
    for _ in range(4):
        webhooks.turn()
    assert receiver.delivered == [1, 3, 4, 5, 6]
    assert [json.loads(body)["seq"] for status, _, body in receiver.heard if status != 200] == [3, 3]


def test_a_deaf_receiver_is_given_up(world, receiver, hooked, monkeypatch):
    monkeypatch.setattr("serve.running.webhooks._WAIT_S", 0.0)
    monkeypatch.setattr("serve.running.webhooks.TRIES", 3)
    receiver.answers = [500] * 10
    webhooks = Webhooks(world.store, allow_private=True)
    for _ in range(5):
        webhooks.turn()
    assert len(receiver.heard) == 3


def test_addresses_of_ones_own_network_are_not_called(world, receiver, hooked):
    Webhooks(world.store, allow_private=False).turn()
    assert receiver.heard == []
