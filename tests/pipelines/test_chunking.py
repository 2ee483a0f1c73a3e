"""How areas are cut: all actors busy, no more pieces than that takes, and memory that is known beforehand."""

from math import prod

import pytest

from models.registry import load_cards
from models.runtimes import setup_of
from pipelines.chunking import MEMORY_MB, choose, chunks, least_mb
from swathe.lattice import Lattice


@pytest.fixture(scope="module")
def cards(pytestconfig):
    return load_cards((pytestconfig.rootpath / "configs" / "models",))


@pytest.mark.parametrize("actors", [1, 2, 5])
@pytest.mark.parametrize("side", [3000, 5000, 20_000])
def test_a_method_that_repeats_nothing_is_cut_into_few_pieces(cards, side, actors):
    water = cards["water-mndwi"]
    eats = water.input
    lattice = Lattice.of_file(eats.chip, eats.overlap, (side, side))
    chosen = choose((side, side), lattice, water, actors)
    pieces = chunks((side, side), chosen)
    assert sum(piece.window.area for piece in pieces) == side * side
    assert len(pieces) >= 2 * actors
    assert len(pieces) <= max(4 * actors, 64 if side > 8192 else 0)


def test_tiles_of_the_shipped_cards_take_a_batch_and_little_more(cards):
    for card in cards.values():
        setup = setup_of(card)
        batch_mb = 4 * (prod(setup.input) + prod(setup.output)) / 1e6
        assert batch_mb < least_mb(card) < batch_mb + MEMORY_MB, card.id
