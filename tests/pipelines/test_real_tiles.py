"""Tiles for the check of an export: those of the run's own imagery, read only where a model has to be registered."""

import numpy as np
import pytest
import rasterio

from models.artefact import find
from models.load import ensure
from models.weights import ModelHome
from pipelines.begin import begin, look
from pipelines.real_tiles import COUNT, real_tiles
from swathe.errors import ReadError
from swathe.recipe import Recipe


@pytest.fixture
def work(card, scene, sensors):
    recipe = Recipe(card.id, (str(scene),))
    return begin(recipe, card, look(recipe, card, sensors), 1).work


def test_they_are_the_imagery_in_the_models_units(work, scene):
    with real_tiles(lambda: work, None) as tiles:
        found = np.load(tiles())["tiles"]
    eats = work.card.input
    assert found.shape == (COUNT, eats.times, len(eats.bands), eats.chip, eats.chip)
    assert found.dtype == np.float32
    names = {band.name: band.index for band in work.imagery.dates[0].bands}
    with rasterio.open(scene) as file:
        first = file.read([names[name] for name in eats.bands])[:, : eats.chip, : eats.chip].astype(float)
        valid = file.read_masks(1)[: eats.chip, : eats.chip] > 0
    expected = (first * 1e-4 / eats.scale - np.array(eats.mean)[:, None, None]) / np.array(eats.std)[:, None, None]
    np.testing.assert_allclose(found[0, 0][:, valid], expected[:, valid], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_read_leaves_random_tiles(work):
    def lost():
        raise ReadError("lost")

    with real_tiles(lost, None) as tiles:
        assert tiles() is None


@pytest.mark.slow
def test_a_model_is_registered_with_tiles_of_the_imagery_that_it_meets_first(work, tmp_path):
    with real_tiles(lambda: work, None) as tiles:
        ready = ensure(work.card, ModelHome(tmp_path, offline=True), tiles=tiles)
    parity = ready.artefact.verdicts[ready.engine].parity
    assert (parity.real_tiles, parity.tiles > COUNT) == (COUNT, True)


def test_a_model_that_is_registered_asks_for_none(card, home):
    assert find(card, home) is not None

    def never():
        raise AssertionError

    ensure(card, home, tiles=never)
