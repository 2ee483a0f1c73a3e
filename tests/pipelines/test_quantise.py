"""Quantising: numpy's argmax and plain arithmetic are the oracle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.products import quantise as module
from pipelines.products.layer import Kind, LayerSpec, RasterSpec, Resampling, layer_of
from pipelines.products.quantise import quantise
from swathe.card import ClassLabel, Input, ModelCard, Output, Task
from swathe.errors import ModelError


def labels(values):
    return tuple(
        ClassLabel(value=v, name=f"class {v}", colour="#102030", background=not i) for i, v in enumerate(values)
    )


def card(task, output, **more):
    return ModelCard(
        id="m1", title="Some model", task=task, adapter="formula", input=Input(bands=("red",), chip=64, overlap=0),
        output=output, licence="MIT", citation="none", **more,
    )  # fmt: skip


def classes(values, *, scored=True, probabilities=False):
    output = Output(classes=labels(values), scored=scored)
    return layer_of(card(Task.SEGMENTATION, output), probabilities=probabilities)


def probabilities(rng, k, h, w):
    raw = rng.random((k, h, w), dtype=np.float32) ** 3
    return raw / raw.sum(axis=0)


@settings(deadline=None, max_examples=60)
@given(
    k=st.integers(2, 14), h=st.integers(1, 40), w=st.integers(1, 90), seed=st.integers(0, 999), slab=st.integers(1, 300)
)
def test_the_most_probable_class_wins_and_its_probability_is_the_score(k, h, w, seed, slab):
    rng = np.random.default_rng(seed)
    values = rng.permutation(255)[:k].tolist()
    data, mask = probabilities(rng, k, h, w), rng.random((h, w)) > 0.2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SLAB", slab)
        stored = quantise(data, mask, classes(values, probabilities=True))
    assert np.array_equal(stored["result"][0], np.where(mask, np.array(values)[data.argmax(axis=0)], 255))
    expected = np.where(mask, np.floor(data.max(axis=0) * np.float32(254) + np.float32(0.5)), 255)
    assert np.array_equal(stored["score"][0], expected)
    every = np.where(mask, np.floor(data * np.float32(254) + np.float32(0.5)), 255)
    assert np.array_equal(stored["probabilities"], every)


def test_of_equal_probabilities_the_first_class_wins():
    data = np.full((4, 2, 3), 0.25, np.float32)
    data[0, 0] = 0
    stored = quantise(data, np.ones((2, 3), np.bool_), classes([9, 5, 7, 1]))
    assert stored["result"][0].tolist() == [[5, 5, 5], [9, 9, 9]]


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_a_probability_that_is_no_number_makes_nodata(channel):
    data = np.full((3, 1, 2), 1 / 3, np.float32)
    data[channel, 0, 1] = np.nan
    stored = quantise(data, np.ones((1, 2), np.bool_), classes([0, 1, 2], probabilities=True))
    assert stored["result"][0, 0, 1] == stored["score"][0, 0, 1] == 255
    assert (stored["probabilities"][:, 0, 1] == 255).all()
    assert stored["result"][0, 0, 0] == 0


def test_a_blend_that_leaves_the_unit_interval_by_a_rounding_error_is_no_nodata():
    data = np.array([[[1.0000001, 1.01]], [[-1e-7, -0.01]]], np.float32)
    stored = quantise(data, np.ones((1, 2), np.bool_), classes([0, 1], probabilities=True))
    assert stored["score"].tolist() == [[[254, 254]]]
    assert stored["probabilities"][1].tolist() == [[0, 0]]


def test_numbers_stay_as_they_are_and_nodata_is_nan():
    spec = layer_of(card(Task.REGRESSION, Output(name="biomass", unit="Mg/ha", range=(0, 300))))
    data = np.array([[[1.5, -7.25], [3.0, np.inf]]], np.float32)
    stored = quantise(data, np.array([[True, True], [False, True]]), spec)
    assert list(stored) == ["result"]
    assert np.array_equal(stored["result"], np.array([[[1.5, -7.25], [np.nan, np.inf]]], np.float32), equal_nan=True)


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(ModelError) as caught:
        quantise(np.zeros((2, 4, 4), np.float32), np.ones((4, 4), np.bool_), classes([0, 1, 2]))
    assert caught.value.problem.code == "model.channels"


def test_layers_follow_the_card():
    spec = classes([0, 3])
    assert (spec.kind, spec.result.dtype, spec.result.nodata, spec.result.resampling) == (
        Kind.CLASSES, "uint8", 255, Resampling.MODE,
    )  # fmt: skip
    assert spec.score is not None
    assert (spec.score.scale, spec.score.resampling) == (1 / 254, Resampling.AVERAGE)
    assert [r.name for r in spec.rasters] == ["result", "score"]
    assert [c.value for c in spec.drawn] == [3]
    assert classes([0, 3], scored=False).score is None
    regression = layer_of(card(Task.REGRESSION, Output(name="NDVI", unit="", range=(-1, 1))))
    assert (regression.kind, regression.result.bands, regression.range) == (Kind.VALUES, ("NDVI",), (-1, 1))
    embedding = layer_of(card(Task.EMBEDDING, Output(channels=768, stride=16)))
    assert (embedding.kind, embedding.result.count, embedding.result.dtype) == (Kind.EMBEDDING, 768, "float32")


def test_tiles_of_a_file_hold_no_more_than_16_megabytes():
    for bands in (1, 13, 64, 100):
        spec = RasterSpec("result", "float32", np.nan, ("b",) * bands, Resampling.AVERAGE)
        assert spec.block**2 * bands * 4 <= 16 << 20
    assert RasterSpec("result", "float32", np.nan, ("b",), Resampling.AVERAGE).block == 512


def test_a_spec_survives_the_trip_between_processes():
    import pickle

    spec = classes([0, 1], probabilities=True)
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert isinstance(spec, LayerSpec)
