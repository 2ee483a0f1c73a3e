"""What shipped models make of digital numbers and of reflectance."""

from pathlib import Path

import pytest

from models.registry import load_cards
from swathe.bands import OPTICAL
from swathe.errors import BandError
from swathe.unit import settle, stretched

CARDS = load_cards((Path(__file__).resolve().parent.parent.parent / "configs" / "models",))
RATIOS = {
    "builtup-ndbi", "burn-nbr-otsu", "vegetation-ndvi", "water-mndwi", "water-mndwi-otsu", "water-mndwi-two-gaussian",
    "water-ndwi", "water-ndwi-otsu",
}  # fmt: skip
"""Ratios of two bands that are compared with nothing but 0, or with what the area itself shows."""


@pytest.mark.parametrize("card", [card for card in CARDS.values() if set(card.input.bands) <= set(OPTICAL)], ids=str)
def test_digital_numbers_are_taken_by_plain_ratios_alone(card):
    """Networks, EVI, AWEI and published thresholds were made for reflectance."""
    for unit in ("reflectance", "as tagged", "as declared"):
        assert settle(card.input, unit) is None
        assert not stretched(card.input, unit)
    if card.id in RATIOS:
        assert settle(card.input, "DN") is None
        assert "digital numbers" in stretched(card.input, "DN")
        return
    with pytest.raises(BandError) as caught:
        settle(card.input, "DN")
    assert caught.value.problem.code == "band.unit"
    assert "the model wants reflectance, the imagery comes in DN" in caught.value.detail
    assert "ratio of two bands" in caught.value.hint


def test_the_table_of_ratios_names_cards():
    assert CARDS.keys() > RATIOS
