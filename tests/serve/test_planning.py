"""What the command line and the service share: cards read again when they change, plans with an estimate."""

from dataclasses import replace

import numpy as np
import pytest
import rasterio
import yaml
from affine import Affine

from pipelines.estimate import Means
from serve.planning import card_of, cards_of, cards_of_folders, in_precision, plan_of
from serve.settings import ROOT, Settings
from swathe.errors import AreaError, CardError, InputError, UnknownModelError
from swathe.recipe import Recipe

SHIPPED = ROOT / "configs" / "models"


@pytest.fixture
def own(tmp_path):
    """A folder with one card of its own."""
    document = yaml.safe_load((SHIPPED / "water-ndwi.yaml").read_text()) | {"id": "mine"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    return tmp_path


def test_cards_are_read_once_and_again_when_one_of_them_changes(own):
    folders = (SHIPPED, own)
    first = cards_of_folders(folders)
    assert cards_of_folders(folders) is first
    document = yaml.safe_load((own / "mine.yaml").read_text())
    (own / "mine.yaml").write_text(yaml.safe_dump(document | {"title": "Better"}))
    assert cards_of_folders(folders)["mine"].title == "Better"
    (own / "mine.yaml").rename(own / "other.yaml")
    with pytest.raises(CardError) as caught:
        cards_of_folders(folders)
    assert caught.value.problem.code == "card.name"
    (own / "other.yaml").unlink()
    assert "mine" not in cards_of_folders(folders)


def test_a_precision_is_the_card_s_own_unless_it_is_named():
    card = cards_of(Settings())["water-ndwi"]
    assert in_precision(card, None) is card
    assert in_precision(card, "bf16").runtime.precision == "bf16"
    with pytest.raises(InputError) as caught:
        in_precision(card, "int8")
    assert caught.value.field == "--precision"


def test_an_unknown_model_is_told_what_looks_like_it():
    with pytest.raises(UnknownModelError, match="water-nwdi") as caught:
        card_of(Recipe("water-nwdi"), Settings())
    assert "water-ndwi" in caught.value.hint


def test_warm_workers_take_less_time_than_a_pool_that_is_started(tmp_path):
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", width=96, height=64, count=2, dtype="uint16",
                       crs="EPSG:32633", transform=Affine(10, 0, 500_000, 0, -10, 5_600_000)) as file:  # fmt: skip
        file.write(np.full((2, 64, 96), 900, "uint16"))
        file.scales, file.descriptions = (1e-4, 1e-4), ("green", "nir")
    recipe, settings = Recipe("water-ndwi", (str(tmp_path / "scene.tif"),)), Settings(data_dir=tmp_path)
    card = card_of(recipe, settings)
    kinds = ("pool", "loop", "ray")
    seconds = [plan_of(recipe, card, settings, Means(kind, 2, 1)).cost.seconds for kind in kinds]
    assert seconds == sorted(set(seconds))


def test_an_area_may_be_a_tile_by_its_name(tmp_path):
    """A square kilometre from 610 km east and 5320 km north: a hundred pixels of 10 m."""
    with rasterio.open(tmp_path / "scene.tif", "w", driver="GTiff", width=300, height=200, count=2, dtype="uint16",
                       crs="EPSG:32633", transform=Affine(10, 0, 609_500, 0, -10, 5_322_000)) as file:  # fmt: skip
        file.write(np.full((2, 200, 300), 900, "uint16"))
        file.scales, file.descriptions = (1e-4, 1e-4), ("green", "nir")
    recipe = Recipe("water-ndwi", (str(tmp_path / "scene.tif"),), aoi="33UXP1020")
    settings = Settings(data_dir=tmp_path)
    grid = plan_of(recipe, card_of(recipe, settings), settings, Means("loop", 1, 1)).work.grid
    assert grid.shape == (100, 100)
    assert (grid.transform.c, grid.transform.f) == (610_000, 5_321_000)
    with pytest.raises(AreaError) as caught:
        plan_of(replace(recipe, aoi="99UXP"), card_of(recipe, settings), settings, Means("loop", 1, 1))
    assert caught.value.problem.code == "area.tile"
