"""Sources of imagery that this service knows, and which scenes they have, before anything is wished."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from serve.desk import rights
from serve.desk.wording import told
from swathe.errors import InputError
from swathe.imagery import is_remote
from swathe.user import Scope

if TYPE_CHECKING:
    from pipelines.search.query import Found
    from serve.settings import ServiceSettings
    from swathe.aoi import AOI
    from swathe.card import ModelCard
    from swathe.source import SourceCard
    from swathe.user import Caller

_FIRST = ("earth-search-s2-c1-l2a", "pc-hls-s30", "pc-hls-l30", "pc-landsat-c2-l2", "pc-s1-rtc")
"""Of the shipped ones, those that need no account, in the order in which they are taken where nobody says another."""
_FORMS = ("example.com", "example.org")
"""Hosts of cards that are forms to fill in."""


class Sources:
    """Sources of imagery: looked at here, changed in files of the machine."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings

    def listed(self, caller: Caller) -> list[SourceCard]:
        """The service's own first, then the shipped ones; without examples that lead nowhere."""
        rights.require(caller, Scope.MODELS_READ)
        own = self._own()
        cards = [card for card in self._settings.sources.values() if card.id in own or _real(card)]
        return sorted(cards, key=lambda card: (card.id not in own, _place(card.id), card.id))

    def get(self, caller: Caller, id_: str) -> SourceCard:
        """The card of a source. Raises InputError (``source.unknown``)."""
        known = {card.id: card for card in self.listed(caller)}
        if id_ not in known:
            raise InputError(f"there is no source {id_[:80]!r}", code="source.unknown", field="source",
                             hint=f"known are {', '.join(sorted(known))}")  # fmt: skip
        return known[id_]

    def fitting(self, caller: Caller, model: ModelCard) -> SourceCard | None:
        """The first that has all bands of a model, at its resolution where one has; None: none has them."""
        able = [card for card in self.listed(caller) if _has(card, model)]
        return min(able, key=lambda card: not _at_scale(card, model), default=None)

    def scenes(
        self, caller: Caller, source: str, area: AOI, dates: Sequence[str], max_cloud: float | None = None,
        bands: Sequence[str] = (),
    ) -> Found:  # fmt: skip
        """Those over a place in a time; where there are none, ``nearest`` says which dates have some.

        Raises InputError and its kin, ReadError.
        """
        from pipelines.remote.fetch import Fetcher
        from pipelines.search.find import look
        from pipelines.search.query import Query
        from swathe.when import parse_dates

        rights.require(caller, Scope.JOBS_WRITE)
        card, now = self.get(caller, source), datetime.now(UTC)
        with told():
            query = Query(area, parse_dates(list(dates), now), max_cloud, tuple(bands))
            fetcher = Fetcher(self._settings.network_of_strangers)
            try:
                return look(card, query, fetcher, now)
            finally:
                fetcher.close()

    def _own(self) -> frozenset[str]:
        from pipelines.search.sources import load_sources

        return frozenset(load_sources(self._settings.source_folders[1:]))


def _place(id_: str) -> int:
    return _FIRST.index(id_) if id_ in _FIRST else len(_FIRST)


def _real(card: SourceCard) -> bool:
    return is_remote(card.url) and not any(host in card.url for host in _FORMS)


def _has(card: SourceCard, model: ModelCard) -> bool:
    others = model.input.alternatives
    return all(any(n in card.bands for n in (name, *others.get(name, ()))) for name in model.input.bands)


def _at_scale(card: SourceCard, model: ModelCard) -> bool:
    span = model.input.gsd_m
    return span is None or card.gsd_m is None or span[0] <= card.gsd_m <= span[1]
