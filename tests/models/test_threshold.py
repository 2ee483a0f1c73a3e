"""Thresholds from histograms, held against scikit-image, plain loops and known distributions."""

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.filters import threshold_otsu

from models.threshold import BINS, FLAT, Histogram, bin_numbers, otsu, posterior, two_gaussian, valley

GENERATOR = np.random.default_rng(3)


def histogram_of(values, low=-1.0, high=1.0, bins=BINS):
    return Histogram.empty(low, high, bins).add(np.asarray(values, np.float32))


def mixture(share=0.7, low=(-0.4, 0.1), high=(0.3, 0.08), count=200_000, seed=1):
    generator = np.random.default_rng(seed)
    upper = round(count * (1 - share))
    return np.concatenate([generator.normal(*low, count - upper), generator.normal(*high, upper)])


counts_of = arrays(np.int64, st.integers(2, 60), elements=st.integers(0, 1000)).filter(lambda c: (c > 0).sum() > 1)


def test_counting_equals_numpy():
    # Away from the edges: there numpy, which works in double precision, may choose the other bin.
    places = GENERATOR.integers(0, BINS, 50_000) + GENERATOR.uniform(0.05, 0.95, 50_000)
    values = (places * 2 / BINS - 1).astype(np.float32)
    assert np.array_equal(histogram_of(values).counts, np.histogram(values, BINS, (-1, 1))[0])


def test_values_outside_count_in_the_outermost_bins():
    counts = histogram_of([-7, -1, 1, 9, 0.999], bins=4).counts
    assert counts.tolist() == [2, 0, 0, 3]


def test_bins_of_any_range():
    assert bin_numbers(np.float32([-2, 0, 1.99, 2]), -2, 2, 8).tolist() == [0, 4, 7, 7]


def test_parts_in_any_order_give_the_same_histogram():
    values = GENERATOR.normal(0, 0.3, 10_000).astype(np.float32)
    parts = [histogram_of(part) for part in np.array_split(values, 13)]
    random.Random(5).shuffle(parts)
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert np.array_equal(merged.counts, histogram_of(values).counts)
    assert merged.pixels == 10_000


def test_adding_leaves_the_histogram_alone():
    first = histogram_of([0.1])
    first.add(np.float32([0.2]))
    assert first.pixels == 1


def test_different_bins_are_not_merged():
    with pytest.raises(ValueError, match="different bins"):
        histogram_of([0]).merge(histogram_of([0], low=-2))


@given(counts_of)
@settings(deadline=None)
def test_otsu_splits_where_scikit_image_does(counts):
    histogram = Histogram(-1.0, 1.0, counts)
    theirs = threshold_otsu(hist=(counts, histogram.centres))
    split = otsu(histogram)
    ours = counts[histogram.centres < split.threshold]
    below = counts[: int(np.argmin(abs(histogram.centres - theirs))) + 1]
    # Two splits that are equally good may be told apart by rounding: then both must really be equally good.
    if ours.sum() != below.sum():
        assert between(counts, histogram.centres, ours.size) == pytest.approx(
            between(counts, histogram.centres, below.size), rel=1e-5
        )


def between(counts, centres, size):
    """Variance between the classes, in a plain way."""
    low, high, n = counts[:size], counts[size:], counts.sum()
    means = [(part * c).sum() / part.sum() for part, c in ((low, centres[:size]), (high, centres[size:]))]
    return low.sum() / n * high.sum() / n * (means[0] - means[1]) ** 2


@given(counts_of)
@settings(deadline=None)
def test_separability_lies_between_nothing_and_all(counts):
    split = otsu(Histogram(-1.0, 1.0, counts))
    assert 0 < split.separability <= 1 + 1e-12
    assert 0 <= split.valley <= 1


def test_the_threshold_lies_in_the_middle_of_a_gap():
    split = otsu(histogram_of([-0.45] * 10 + [0.45] * 10, bins=8))
    assert split.threshold == pytest.approx(0.0)
    assert split.separability == pytest.approx(1)


@pytest.mark.parametrize("values", [[], [0.3], [0.3] * 1000])
def test_one_value_has_no_threshold(values):
    assert otsu(histogram_of(values)) is None
    assert two_gaussian(histogram_of(values)) is None


@pytest.mark.parametrize(
    ("values", "eta"),
    [
        (GENERATOR.normal(0, 0.15, 400_000), 2 / math.pi),
        (GENERATOR.uniform(-0.8, 0.8, 400_000), 0.75),
    ],
)
def test_separability_of_one_class_is_what_theory_says(values, eta):
    assert otsu(histogram_of(values)).separability == pytest.approx(eta, abs=0.003)


@pytest.mark.parametrize("draw", ["normal", "exponential", "lognormal", "student"])
def test_one_class_is_not_clear(draw):
    generator = np.random.default_rng(11)
    values = {
        "normal": lambda: generator.normal(0, 0.15, 100_000),
        "exponential": lambda: generator.exponential(0.1, 100_000) - 0.8,
        "lognormal": lambda: np.exp(generator.normal(-2, 0.5, 100_000)) - 0.8,
        "student": lambda: 0.05 * generator.standard_t(3, 100_000),
    }[draw]()
    histogram = histogram_of(values)
    assert not otsu(histogram).clear
    pair = two_gaussian(histogram)
    assert pair is None or not pair[0].clear


@pytest.mark.parametrize("share", [0.5, 0.8, 0.9])
def test_two_classes_are_clear_and_found(share):
    histogram = histogram_of(mixture(share))
    for split in (otsu(histogram), two_gaussian(histogram)[0]):
        assert split.clear
        assert -0.15 < split.threshold < 0.15


def test_two_gaussians_find_a_rare_class_that_otsu_does_not():
    histogram = histogram_of(mixture(0.988, low=(-0.3, 0.1), high=(0.35, 0.08)))
    split, classes = two_gaussian(histogram)
    assert split.clear
    assert 0 < split.threshold < 0.2
    assert classes.low_share == pytest.approx(0.988, abs=0.002)
    assert not otsu(histogram).clear


def test_two_gaussians_recover_the_mixture():
    split, classes = two_gaussian(histogram_of(mixture()))
    assert classes.low_share == pytest.approx(0.7, abs=0.005)
    assert (classes.low_mean, classes.high_mean) == (pytest.approx(-0.4, abs=0.005), pytest.approx(0.3, abs=0.005))
    assert (classes.low_sd, classes.high_sd) == (pytest.approx(0.1, abs=0.005), pytest.approx(0.08, abs=0.005))
    assert classes.log_odds(np.array([split.threshold]))[0] == pytest.approx(0, abs=0.3)
    assert split.separability > FLAT


def test_the_minimum_error_threshold_is_that_of_a_plain_search():
    """Kittler & Illingworth's criterion, term by term, over every split of the values themselves."""
    values = np.sort(mixture(0.6, count=2000))
    best, smallest = None, math.inf
    for cut in range(20, 1981):
        low, high = values[:cut], values[cut:]
        p = cut / 2000
        criterion = 1 + 2 * (p * math.log(low.std()) + (1 - p) * math.log(high.std()))
        criterion -= 2 * (p * math.log(p) + (1 - p) * math.log(1 - p))
        if criterion < smallest:
            best, smallest = (values[cut - 1] + values[cut]) / 2, criterion
    assert two_gaussian(histogram_of(values))[0].threshold == pytest.approx(best, abs=0.01)


def test_a_slope_is_no_minimum():
    assert two_gaussian(histogram_of(np.repeat(np.linspace(-0.9, 0.9, 40), 2 ** np.arange(40) // 2**24))) is None


@pytest.mark.parametrize("high", [(0.3, 0.03), (0.3, 0.2), (0.1, 0.3)])
def test_the_probability_rises_through_one_half_at_the_threshold(high):
    histogram = histogram_of(mixture(high=high))
    split, classes = two_gaussian(histogram)
    chance = posterior(classes, split.threshold, histogram)
    assert chance.dtype == np.float32
    assert (np.diff(chance) >= 0).all()
    assert ((chance > 0.5) == (histogram.centres > split.threshold)).all()
    assert chance[0] < 0.05
    assert chance[-1] > 0.95


def test_a_valley_is_measured_between_the_peaks():
    assert valley(histogram_of(mixture(low=(-0.5, 0.05), high=(0.5, 0.05))), 0.0) < 0.01
    assert valley(histogram_of(GENERATOR.normal(0, 0.1, 100_000)), 0.2) > 0.99
