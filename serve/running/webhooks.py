"""Webhooks: a job's events, sent to whoever asked for them; in order, signed, at least once.

A receiver tells repeats by the header ``Swathe-Event`` (job and number), and a forger by ``Swathe-Signature``:
``t=TIME,v1=HEX``, where HEX is HMAC-SHA256 over ``TIME.BODY`` with the hook's secret.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from serve.structured import about
from swathe.errors import SwatheError

if TYPE_CHECKING:
    import aiohttp

    from serve.store.hooks import Hook
    from serve.store.store import Store
    from swathe.state import Event

TRIES = 12
"""Of one event; with the waits between them, half a day."""
_WAIT_S, _LONGEST_S = 2.0, 3 * 3600.0
_ANSWER_S = 10.0
_TURN_S = 10.0
"""That one hook may take of a turn; what is left is told in the next."""
_AT_ONCE, _EVENTS = 32, 100
_OK, _END_OF_OK = 200, 300
_log = logging.getLogger("swathe.hooks")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one delivery."""

    ok: bool
    problem: str = ""


def signature(secret: str, body: bytes, at: int) -> str:
    """The header of a call sent at this second."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


class Webhooks:
    """Tells hooks what they have not been told; one turn at a time."""

    def __init__(self, store: Store, *, allow_private: bool) -> None:
        """``allow_private``: whether hooks may lie in private networks."""
        self._store, self._allow_private = store, allow_private

    def turn(self) -> int:
        """Send what is due; how many hooks were told something. Raises StoreError."""
        from serve.store import hooks

        with self._store.read() as c:
            due = hooks.due(c, _AT_ONCE)
        return asyncio.run(self._told(due)) if due else 0

    async def _told(self, due: list[Hook]) -> int:
        async with self._session() as session:
            told = await asyncio.gather(*(self._tell(session, hook) for hook in due))
        return sum(told)

    async def _tell(self, session: aiohttp.ClientSession, hook: Hook) -> bool:
        """All that one hook has not heard, in order; it stops at the first event that does not get through."""
        fresh, ok = await asyncio.to_thread(self._fresh, hook), True
        began = time.monotonic()
        for event in fresh:
            if hook.kinds and event.kind not in hook.kinds:
                continue
            said = await self._send(session, hook, event)
            if not said.ok:
                await asyncio.to_thread(self._failed, hook, said.problem)
                ok = False
                break
            await asyncio.to_thread(self._sent, hook, event.seq)
            if time.monotonic() - began > _TURN_S:  # a slow receiver must not keep the others waiting
                return ok
        if ok and fresh:
            await asyncio.to_thread(self._sent, hook, fresh[-1].seq)
        return ok

    async def _send(self, session: aiohttp.ClientSession, hook: Hook, event: Event) -> Delivery:
        import aiohttp

        body = json.dumps({"job": hook.job, **asdict(event)}).encode()
        headers = {"Content-Type": "application/json", "Swathe-Event": f"{hook.job}:{event.seq}",
                   "Swathe-Signature": signature(hook.secret, body, int(time.time()))}  # fmt: skip
        try:
            self._check(hook.url)
            async with session.post(hook.url, data=body, headers=headers, allow_redirects=False) as answer:
                ok = _OK <= answer.status < _END_OF_OK
                return Delivery(ok, "" if ok else f"it answered {answer.status}")
        except SwatheError as error:
            return Delivery(ok=False, problem=error.problem.line())
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return Delivery(ok=False, problem=f"{type(error).__name__}: {error}"[:200])

    def _check(self, url: str) -> None:
        """As text; the number that its name stands for is looked at when the connection is made."""
        from pipelines.remote.address import web

        web(url, allow_private=self._allow_private)

    def _session(self) -> aiohttp.ClientSession:
        import aiohttp
        from aiohttp.resolver import ThreadedResolver

        from pipelines.remote.gate import CheckedResolver, CheckedSockets

        connector = aiohttp.TCPConnector(
            resolver=CheckedResolver(ThreadedResolver(), allow_private=self._allow_private),
            socket_factory=CheckedSockets(allow_private=self._allow_private), use_dns_cache=False,
        )  # fmt: skip
        return aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=_ANSWER_S), trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )  # fmt: skip

    # --- in the store ---

    def _fresh(self, hook: Hook) -> list[Event]:
        from serve.store import events

        with self._store.read() as c:
            return events.of(c, hook.job, hook.sent_seq, _EVENTS)

    def _sent(self, hook: Hook, seq: int) -> None:
        from serve.store import hooks

        with self._store.begin() as c:
            hooks.sent(c, hook.id, seq)

    def _failed(self, hook: Hook, problem: str) -> None:
        from serve.store import hooks
        from serve.store.store import clock

        wait = min(_WAIT_S * 3**hook.tries, _LONGEST_S)
        with self._store.begin() as c:
            hooks.failed(c, hook.id, problem, clock() + wait, give_up=hook.tries + 1 >= TRIES)
        _log.info("a webhook was not taken: %s", problem, extra=about(job=hook.job, hook=hook.id))
