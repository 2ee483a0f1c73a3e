"""Composites against numpy's own on the stacked array."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipelines.mosaic import composite


@given(st.data())
def test_the_median_is_numpys(data):
    n, h, w = data.draw(st.integers(1, 13)), data.draw(st.integers(1, 70)), data.draw(st.integers(1, 5))
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "int16", "float32"]))
    seed = data.draw(st.integers(0, 1000))
    rng = np.random.default_rng(seed)
    limits = (0, 256) if dtype == "uint8" else (0, 65536) if dtype == "uint16" else (-32768, 32768)
    planes = rng.integers(*limits, (n, h, w)).astype(dtype)
    clear = rng.random((n, h, w)) < data.draw(st.sampled_from([0.0, 0.3, 0.9, 1.0]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all-NaN slices are wanted here
        wanted = np.nan_to_num(np.nanmedian(np.where(clear, planes.astype(float), np.nan), axis=0))
    got, count = composite.median(planes, clear)
    np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(count, clear.sum(axis=0))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_the_largest_number_of_a_type_is_a_number_like_any_other(dtype):
    top = np.iinfo(dtype).max if dtype == "uint16" else np.float32(np.inf)
    planes = np.array([top, 3, top, 7], dtype).reshape(4, 1, 1)
    clear = np.array([True, False, True, True]).reshape(4, 1, 1)
    assert composite.median(planes, clear)[0].item() == top


@pytest.mark.parametrize("n", range(1, 40))
def test_the_network_sorts(n):
    """Zeros and ones are enough: a network that sorts those sorts all (Knuth 5.3.4, theorem Z)."""
    rng = np.random.default_rng(n)
    bits = rng.random((n, 50, 40)) < rng.random((1, 50, 40))
    if n <= 11:
        every = (np.arange(2**n)[None] >> np.arange(n)[:, None]) & 1
        bits = every.astype(bool)[:, None]
    got = np.stack(composite._sorted(list(bits.astype(np.uint8))))
    np.testing.assert_array_equal(got, np.sort(bits.astype(np.uint8), axis=0))


@given(st.data())
def test_the_best_is_the_farthest_and_of_equals_the_first(data):
    shape = (data.draw(st.integers(1, 5)), 3, 4)
    clear = data.draw(hnp.arrays(bool, shape))
    score = data.draw(hnp.arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0, 2.5])))
    got = composite.best(clear, score)
    for place in np.ndindex(shape[1:]):
        seen = [(-score[n, *place], n) for n in range(len(clear)) if clear[n, *place]]
        assert got[place] == (min(seen)[1] if seen else composite.NONE)
