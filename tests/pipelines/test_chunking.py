"""How areas are cut: all actors busy, and no more pieces than that takes."""

import pytest

from models.registry import load_cards
from pipelines.chunking import choose, chunks
from swathe.lattice import Lattice


@pytest.fixture(scope="module")
def water(pytestconfig):
    return load_cards((pytestconfig.rootpath / "configs" / "models",))["water-mndwi"]


@pytest.mark.parametrize("actors", [1, 2, 5])
@pytest.mark.parametrize("side", [3000, 5000, 20_000])
def test_a_method_that_repeats_nothing_is_cut_into_few_pieces(water, side, actors):
    eats = water.input
    lattice = Lattice.of_file(eats.chip, eats.overlap, (side, side))
    chosen = choose((side, side), lattice, water, actors)
    pieces = chunks((side, side), chosen)
    assert sum(piece.window.area for piece in pieces) == side * side
    assert len(pieces) >= 2 * actors
    assert len(pieces) <= max(4 * actors, 64 if side > 8192 else 0)
