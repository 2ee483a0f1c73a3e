"""Colours in the words of other map servers, read as those read them."""

import re

import numpy as np

from swathe.layer import Look, Style
from swathe.masking import Mask, code_labels
from swathe.sld import Colour, colours_of, sld, with_codes

HEIGHTS = Style(Look.VALUES, span=(0.0, 2000.0), codes=code_labels([Mask.WATER, Mask.CLOUDS]))


def drawn(colours, value):
    """Red, green, blue of a number on a ramp: mixed between its neighbours."""
    stops = sorted(colours, key=lambda c: c.value)
    channels = np.array([[*bytes.fromhex(c.colour[1:])] for c in stops], float)
    return np.array([np.interp(value, [c.value for c in stops], channels[:, n]) for n in range(3)])


def test_codes_on_a_ramp_are_mixed_into_no_number():
    plain, kind = colours_of(Style(Look.VALUES, span=(0.0, 2000.0)))
    found, _ = colours_of(HEIGHTS)
    assert kind == "ramp"
    for value in (0, 500, 996, 996.9, 997.1, 998, 998.5, 1000, 1999, 5000):
        assert np.abs(drawn(found, value) - drawn(plain, value)).max() < 1.5, value
    for label in HEIGHTS.codes:
        assert (drawn(found, label.value) == [*bytes.fromhex(label.colour[1:])]).all()


def test_codes_beyond_a_ramp_colour_nothing_between():
    found, _ = colours_of(Style(Look.VALUES, span=(0.0, 10.0), codes=HEIGHTS.codes))
    assert np.abs(drawn(found, 500) - drawn(found, 10)).max() == 0
    assert (drawn(found, 999) == [*bytes.fromhex("b8b8b8")]).all()


def test_a_colour_that_was_wished_for_a_code_stays():
    wished = (Colour(1, "#0000ff", 1.0, "wet"), Colour(997, "#123456", 1.0, "sea"))
    found = with_codes(wished, "values", HEIGHTS.codes)
    assert [(c.value, c.colour) for c in found] == [(1, "#0000ff"), (997, "#123456"), (999, "#b8b8b8")]
    text = sld("x", found)
    assert re.findall(r'quantity="(\d+)"', text) == ["1", "997", "999"]
