"""Models in memory, answering: one network to a replica, or many small methods that share one.

What goes wrong with a request is an answer like any other: an exception would be logged by every process it passes.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from pipelines.imagery.sensors import load_sensors
from pipelines.online import Answer, Grounds, Online, Question
from pipelines.worker import give_back
from serve.deployments.sizing import app_of, threads_of
from serve.settings import ServiceSettings
from swathe.card import ModelCard
from swathe.errors import SwatheError

_AT_ONCE = 8
"""Threads of a replica, so that a slow file does not keep others waiting."""


def open_model(card: ModelCard, settings: ServiceSettings) -> Online:
    """A card's model, loaded, as the service runs it. Raises what ``Online`` raises."""
    from cluster.machine import cores

    threads = threads_of(card, cores())
    grounds = Grounds(settings.data_dir, settings.link_mbit_s)
    online = Online(card, settings.home, load_sensors(settings.sensors_dir), threads, settings.network, grounds)
    give_back()  # what compiling the network took
    return online


class Replica:
    """One network."""

    def __init__(self, card: ModelCard) -> None:
        """Load it; runs before the replica counts as ready."""
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="predict")
        self._online = open_model(card, ServiceSettings.read())

    async def predict(self, question: Question) -> Answer | SwatheError:
        """Answer in a thread: the event loop goes on taking requests and telling Ray that all is well."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, answered, self._online, question)


class Heads:
    """Many small methods, each loaded when it is first asked for; of too many, the one asked longest ago goes."""

    def __init__(self) -> None:
        """Nothing is loaded yet."""
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="predict")
        self._settings = ServiceSettings.read()
        self._cards: dict[str, ModelCard] = {}

    async def load(self, name: str) -> Online:
        """A model by the name of its application; ``serve.multiplexed`` is put around this and keeps what it gives."""
        return await asyncio.to_thread(open_model, self._cards[name], self._settings)

    async def predict(self, card: ModelCard, question: Question) -> Answer | SwatheError:
        """As :class:`Replica` does, with this card."""
        self._cards[app_of(card)] = card
        try:
            online = await self.load(app_of(card))
        except SwatheError as error:
            return error
        return await asyncio.get_running_loop().run_in_executor(self._threads, answered, online, question)


def answered(online: Online, question: Question) -> Answer | SwatheError:
    """The answer, or what kept it from being one."""
    try:
        return online(question)
    except SwatheError as error:
        return error
