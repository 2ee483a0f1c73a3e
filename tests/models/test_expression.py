"""Expressions and the catalogue of indices, held against spyndex itself."""

import subprocess
import sys

import numpy as np
import pytest
import spyndex

from models.expression import Apply, compiled
from models.index import catalogue, constants, letters, resolver
from swathe.errors import CardError


def run(text, bands, given=None):
    program = compiled(text, resolver(given or {}))
    count = len(next(iter(bands.values())))
    scratch = [np.full(count, np.nan, np.float32) for _ in range(program.depth)]
    with np.errstate(all="ignore"):
        return program.run([bands[name] for name in program.operands], scratch).copy()


def computable():
    """Names of the indices whose every letter is a band or a constant here."""
    known = {**letters(), **constants()}
    return sorted(name for name, index in catalogue().items() if set(index.letters) <= set(known))


@pytest.fixture(scope="module")
def bands():
    generator = np.random.default_rng(7)
    return {name: generator.uniform(0.01, 0.6, 500).astype(np.float32) for name in letters().values()}


def test_the_catalogue_is_that_of_spyndex():
    assert set(catalogue()) == set(spyndex.indices)
    ours = {name: index.formula.replace(" ", "") for name, index in catalogue().items()}
    assert ours == {name: spyndex.indices[name].formula for name in catalogue()}
    assert all(catalogue()[name].reference == spyndex.indices[name].reference for name in catalogue())
    assert all(value == spyndex.constants[name].default for name, value in constants().items())


def test_letters_mean_the_same_sentinel_2_bands_as_in_spyndex():
    sentinel = {"blue": "B2", "green": "B3", "red": "B4", "nir": "B8", "nir08": "B8A", "swir16": "B11", "swir22": "B12"}
    for letter, name in letters().items():
        if name in sentinel:
            assert spyndex.bands[letter].sentinel2a.band == sentinel[name]
    assert set(sentinel) <= set(letters().values())


def test_nearly_all_indices_of_spyndex_can_be_computed():
    assert len(computable()) > 240


@pytest.mark.parametrize("name", computable())
def test_every_index_equals_spyndex(name, bands):
    params = {
        letter: bands[letters()[letter]] if letter in letters() else np.float32(constants()[letter])
        for letter in catalogue()[name].letters
    }
    with np.errstate(all="ignore"):
        theirs = np.broadcast_to(spyndex.computeIndex(name, params), 500)
    assert theirs.dtype == np.float32
    np.testing.assert_allclose(run(name, bands), theirs, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["MNDWI", "NDWI", "AWEIsh", "NBR", "NDVI", "NDBI", "NDSI"])
def test_the_indices_of_our_cards_equal_spyndex_to_the_last_bit(name, bands):
    params = {letter: bands[letters()[letter]] for letter in catalogue()[name].letters}
    assert np.array_equal(run(name, bands), spyndex.computeIndex(name, params))


def test_spyndex_still_has_the_wrong_sign_in_awei_without_shadow(bands):
    """When this fails, spyndex was corrected: write ``index: AWEInsh`` into water-awei-nsh."""
    paper = 4 * (bands["green"] - bands["swir16"]) - (0.25 * bands["nir"] + 2.75 * bands["swir22"])
    wrong = run("AWEInsh", bands)
    np.testing.assert_allclose(wrong - paper, 5.5 * bands["swir22"], atol=1e-5)


def test_names_letters_and_indices_mix(bands):
    n, r, g = bands["nir"], bands["red"], bands["green"]
    np.testing.assert_allclose(
        run("NDVI - (green - N) / (G + nir)", bands), (n - r) / (n + r) - (g - n) / (g + n), atol=1e-6
    )
    np.testing.assert_allclose(run("-N + +R", bands), r - n, atol=1e-7)
    np.testing.assert_allclose(
        run("swir16 ** 2 + N ** 0.5 + G ** 3", bands), bands["swir16"] ** 2 + n**0.5 + g**3, rtol=1e-5
    )


def test_given_constants_win_over_those_of_spyndex(bands):
    n, r = bands["nir"], bands["red"]
    np.testing.assert_allclose(run("SAVI", bands, {"L": 0.5}), 1.5 * (n - r) / (n + r + 0.5), rtol=1e-5)


def test_operands_are_never_written_to(bands):
    before = {name: band.copy() for name, band in bands.items()}
    run("IBI", bands)
    run("nir", bands)
    assert all(np.array_equal(band, before[name]) for name, band in bands.items())


def test_a_bare_band_is_copied(bands):
    result = run("N", bands)
    assert np.array_equal(result, bands["nir"])
    assert result is not bands["nir"]


def test_constants_are_folded_at_compilation():
    program = compiled("(1 + 2 * 3) * N", resolver({}))
    assert sum(isinstance(step, Apply) for step in program.steps) == 1


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "N.real",
        "N[0]",
        "max(N, R)",
        "N if R else G",
        "N < R",
        "N and R",
        "not N",
        "~N",
        "N // R",
        "N % R",
        "N @ R",
        "lambda: N",
        "(n := N)",
        "[N]",
        "'N'",
        "1j * N",
        "True * N",
        "N ** R",
        "2 + 3",
        "N * (1 / 0)",
        "N * 1e400",
        "N * 10 ** 400",
        "N * " + "9" * 400,
        "",
        "N +",
        "N; R",
        "N\x00",
        "(" * 600,
        "-" * 900 + "N",
        "N" + "+N" * 600,
    ],
)
def test_anything_but_arithmetic_is_refused(text):
    with pytest.raises(CardError) as caught:
        compiled(text, resolver({}))
    assert caught.value.problem.code == "card.expression"
    assert caught.value.hint


def test_an_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(CardError) as caught:
        compiled("MNDWII", resolver({}))
    assert caught.value.problem.code == "card.index"
    assert "MNDWI" in caught.value.hint


def test_an_index_that_needs_what_nobody_has_is_refused_by_name():
    with pytest.raises(CardError, match="'T'"):
        compiled("NDBaI", resolver({}))


def test_loading_the_adapter_imports_nothing_heavy():
    code = (
        "import sys, models.formula as f, models.index as i; i.catalogue(); "
        "print({'spyndex', 'requests', 'torch', 'ray', 'rasterio', 'scipy', 'skimage'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
