"""The cards of published networks: complete, true to the libraries' own figures, and buildable."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from models.blueprint import blueprint
from models.registry import default_folders, load_cards
from swathe.card import Task

CARDS = {i: card for i, card in load_cards(default_folders()).items() if card.adapter == "terratorch"}
SMALL = (
    "prithvi-eo-v2-tiny-upernet", "terramind-v1-tiny-s2l2a", "torchgeo-resnet18-s2-moco", "torchgeo-unet-ftw-fields",
    "torchgeo-vit-s16-s2-dino",
)  # fmt: skip
LARGE = sorted(CARDS.keys() - {*SMALL})

TENSORS = {
    # https://github.com/kurtvalcorza/prithvi-flood-segmentation-pipeline, docs/WEIGHTS.md, of the published checkpoint
    "prithvi-eo-v2-300m-tl-sen1floods11": (381, 318_968_580),
    # https://github.com/kurtvalcorza/prithvi-burnscar-segmentation-pipeline, docs/WEIGHTS.md, likewise
    "prithvi-eo-v2-300m-burnscars": (355, 324_204_674),
    "prithvi-eo-v2-tiny-upernet": (237, 6_388_853),
}

HLS = {"blue": "BLUE", "green": "GREEN", "red": "RED", "nir08": "NIR_NARROW", "swir16": "SWIR_1", "swir22": "SWIR_2"}
SENTINEL2 = {
    "coastal": "B1", "blue": "B2", "green": "B3", "red": "B4", "rededge071": "B5", "rededge075": "B6",
    "rededge078": "B7", "nir": "B8", "nir08": "B8a", "nir09": "B9", "cirrus": "B10", "swir16": "B11", "swir22": "B12",
}  # fmt: skip
OPTICAL = {
    "coastal": "COASTAL_AEROSOL", "blue": "BLUE", "green": "GREEN", "red": "RED", "rededge071": "RED_EDGE_1",
    "rededge075": "RED_EDGE_2", "rededge078": "RED_EDGE_3", "nir": "NIR_BROAD", "nir08": "NIR_NARROW",
    "nir09": "WATER_VAPOR", "swir16": "SWIR_1", "swir22": "SWIR_2",
}  # fmt: skip


def test_there_is_a_card_for_every_family():
    families = {"prithvi", "clay", "terramind", "torchgeo"}
    assert {i.split("-")[0] for i in CARDS} == families
    assert {"prithvi-eo-v2-300m-tl-sen1floods11", "prithvi-eo-v2-300m-burnscars"} <= CARDS.keys()
    assert CARDS["prithvi-eo-v2-300m-tl-multitemporal-crop"].input.times == 3


@pytest.mark.parametrize("model_id", CARDS)
def test_a_card_is_complete(model_id):
    card = CARDS[model_id]
    text = card.origin.read_text()
    assert text.startswith("# "), "the figures need their sources"
    assert card.weights is not None
    assert all((card.summary, card.licence, card.citation, card.links, card.input.gsd_m or "random" in card.title))
    assert all(url.startswith("https://") for url in card.links.values())
    assert blueprint(card).task
    assert not any(w in card.summary.lower() for w in ("state of the art", "best", "outperform"))


@pytest.mark.parametrize("model_id", [i for i, c in CARDS.items() if "://" in c.weights.uri])
def test_published_weights_are_pinned_to_a_revision(model_id):
    weights = CARDS[model_id].weights
    assert re.fullmatch(r"hf://[\w.-]+/[\w.-]+@[0-9a-f]{40}/\S+\.(pt|pth|ckpt)", weights.uri)
    assert weights.size_mb
    if weights.sha256 is None:
        assert "found no" in CARDS[model_id].origin.read_text(), "an unpublished hash is said to be so"


@pytest.mark.parametrize("model_id", [i for i, c in CARDS.items() if "://" not in c.weights.uri])
def test_weights_beside_a_card_are_explained(model_id):
    assert re.search("random|not published", CARDS[model_id].summary)


def per_band(card, figures, names):
    return tuple(figures[names[band]] for band in card.input.bands)


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_id", "module", "scale"),
    [
        ("prithvi-eo-v2-300m-tl-sen1floods11", "sen1floods11", 1),
        ("prithvi-eo-v2-300m-burnscars", "fire_scars", 1),
        ("prithvi-eo-v2-300m-tl-multitemporal-crop", "multi_temporal_crop_classification", 10000),
    ],
)
def test_prithvis_figures_are_those_of_its_training_data(model_id, module, scale):
    import importlib

    figures = importlib.import_module(f"terratorch.datamodules.{module}")
    card = CARDS[model_id]
    assert card.input.mean == per_band(card, figures.MEANS, HLS)
    assert card.input.std == per_band(card, figures.STDS, HLS)
    assert card.input.scale == scale
    assert [HLS[b] for b in card.input.bands] == card.network["args"]["backbone_bands"]


@pytest.mark.torch
def test_the_classes_of_the_crop_card_are_those_of_the_data_set():
    from terratorch.datasets import MultiTemporalCropClassification as Crops

    classes = CARDS["prithvi-eo-v2-300m-tl-multitemporal-crop"].output.classes
    assert [c.value - 1 for c in classes] == list(range(13))  # reduce_zero_label
    simple = [re.sub(r" ?/ ?", " or ", name).lower() for name in Crops.class_names]
    assert [c.name for c in classes] == simple


@pytest.mark.torch
def test_the_tiny_prithvi_has_its_pretraining_figures():
    from terratorch.models.backbones import prithvi_vit

    card = CARDS["prithvi-eo-v2-tiny-upernet"]
    assert list(card.input.mean) == prithvi_vit.PRITHVI_V2_MEAN
    assert list(card.input.std) == prithvi_vit.PRITHVI_V2_STD
    assert [HLS[b] for b in card.input.bands] == [b.value for b in prithvi_vit.PRETRAINED_BANDS]


@pytest.mark.torch
@pytest.mark.parametrize("model_id", [i for i in CARDS if i.startswith("terramind")])
def test_terraminds_figures_are_those_of_the_library(model_id):
    from terratorch.models.backbones.terramind.model import terramind_register as source

    card = CARDS[model_id]
    name = "untok_sen2l2a@224"
    assert [OPTICAL[b] for b in card.input.bands] == source.PRETRAINED_BANDS[name]
    assert list(card.input.mean) == source.v1_pretraining_mean[name]
    assert list(card.input.std) == source.v1_pretraining_std[name]
    repo, file = re.fullmatch(r"hf://(.+)@[0-9a-f]{40}/(.+)", card.weights.uri).groups()
    published = source.pretrained_weights[card.network["backbone"]]
    assert (repo, file) == (published["hf_hub_id"], published["hf_hub_filename"])
    for modality, stats in card.input.modalities.items():
        key = {"S2L2A": name, "S1GRD": "untok_sen1grd@224", "S1RTC": "untok_sen1rtc@224", "DEM": "untok_dem@224"}
        assert list(stats.mean) == source.v1_pretraining_mean[key[modality]]
        assert list(stats.std) == source.v1_pretraining_std[key[modality]]


@pytest.mark.torch
@pytest.mark.parametrize(
    ("model_id", "weights"),
    [
        ("torchgeo-resnet18-s2-moco", "ResNet18_Weights.SENTINEL2_ALL_MOCO"),
        ("torchgeo-vit-s16-s2-dino", "ViTSmall16_Weights.SENTINEL2_ALL_DINO"),
        ("torchgeo-unet-ftw-fields", "Unet_Weights.SENTINEL2_2CLASS_FTW"),
    ],
)
def test_torchgeos_figures_are_those_of_the_library(model_id, weights):
    import torch
    from torchgeo.models import get_weight

    card, published = CARDS[model_id], get_weight(weights)
    repo, revision, file = re.fullmatch(r"hf://(.+)@([0-9a-f]{40})/(.+)", card.weights.uri).groups()
    assert published.url.endswith(f"/{repo}/resolve/{revision}/{file}")
    digits = re.search(r"-([0-9a-f]{8})\.pth$", file).group(1)
    assert card.weights.sha256 is None or card.weights.sha256.startswith(digits)
    assert [SENTINEL2[b] for b in card.input.bands] * card.input.times == list(published.meta["bands"])
    stored = torch.full((len(published.meta["bands"]), 256, 256), 1234.0)
    theirs = published.transforms(stored.clone())[0, 0, 0].item()
    std = card.input.std or (1.0,)
    assert 0.1234 * card.input.scale / std[0] == pytest.approx(theirs)


def built_on_nothing(card):
    import torch

    from models.construct import construct

    with torch.device("meta"):
        return construct(blueprint(card))


@pytest.mark.torch
@pytest.mark.parametrize("model_id", TENSORS)
def test_networks_have_the_tensors_of_the_published_checkpoints(model_id):
    network = built_on_nothing(CARDS[model_id])
    assert (len(network.state_dict()), sum(p.numel() for p in network.parameters())) == TENSORS[model_id]


@pytest.mark.torch
def test_clays_encoder_has_the_tensors_of_the_published_checkpoint():
    network = built_on_nothing(CARDS["clay-v1.5-s2"])
    assert len(network.state_dict()) == 265  # of which each has its place in clay-v1.5.ckpt below model.encoder.
    waves = CARDS["clay-v1.5-s2"].network["args"]["waves"]
    assert len(waves) == len(CARDS["clay-v1.5-s2"].input.bands)
    assert waves == sorted(waves)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError("something went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def check_answer(card, answer):
    side = card.input.chip // card.output.stride
    assert tuple(answer.shape) == (answer.shape[0], card.output.depth, side, side)
    if card.task is Task.SEGMENTATION and answer.device.type != "meta":
        assert answer.sum(1).sub(1).abs().max() < 1e-5


@pytest.mark.torch
@pytest.mark.parametrize("model_id", SMALL)
def test_small_networks_build_and_answer_without_a_network(model_id, tmp_path, no_network):
    import torch

    from models.terratorch import build, write_random_checkpoint

    card = CARDS[model_id]
    network = build(card, write_random_checkpoint(card, tmp_path / Path(card.weights.uri).name, seed=7))
    x = torch.randn(2, card.input.times, len(card.input.bands), card.input.chip, card.input.chip)
    with torch.no_grad():
        answer = network(x)
    check_answer(card, answer)
    assert answer.isfinite().all()


@pytest.mark.torch
@pytest.mark.parametrize("model_id", [i for i in LARGE if not i.startswith("terramind")])
def test_large_networks_answer_in_the_cards_shape(model_id, no_network):
    """On torch's meta device: shapes without numbers, so that 300 million parameters cost nothing."""
    import torch

    from models.terratorch import Network

    card = CARDS[model_id]
    network = Network(built_on_nothing(card), blueprint(card), card.output.stride).eval()
    with torch.device("meta"), torch.no_grad():
        x = torch.empty(2, card.input.times, len(card.input.bands), card.input.chip, card.input.chip)
        check_answer(card, network(x))


@pytest.mark.torch
def test_terramind_base_builds(no_network):
    from models.construct import construct

    card = CARDS["terramind-v1-base-s2l2a"]
    network = construct(blueprint(card))  # its constructor reads numbers, which the meta device has not
    assert network.out_channels[-1] == card.output.depth
