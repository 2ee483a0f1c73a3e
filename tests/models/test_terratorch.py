"""The adapter against TerraTorch's, TorchGeo's and Clay's own code: same weights, same tiles, same numbers."""

from __future__ import annotations

import logging

import pytest
import yaml

from swathe.card import ModelCard
from swathe.errors import CardError, UnsafeModelError, WeightsError

pytestmark = pytest.mark.torch

BANDS = ["BLUE", "GREEN", "RED", "NIR_NARROW", "SWIR_1", "SWIR_2"]
COMMON = ["blue", "green", "red", "nir08", "swir16", "swir22"]
VIT = {"backbone": "prithvi_eo_tiny", "backbone_pretrained": False, "backbone_bands": BANDS}
PYRAMID = [
    {"name": "SelectIndices", "indices": [0, 1, 2, 3]},
    {"name": "ReshapeTokensToImage"},
    {"name": "LearnedInterpolateToPyramidal"},
]
SEGMENTATION = {**VIT, "necks": PYRAMID, "decoder": "UperNetDecoder", "decoder_channels": 16, "num_classes": 3}
REGRESSION = {**VIT, "necks": PYRAMID, "decoder": "UNetDecoder", "decoder_channels": [16, 8, 8, 4]}
CLASSIFICATION = {**VIT, "decoder": "IdentityDecoder", "necks": PYRAMID[:2], "num_classes": 3}
CHIP = 64


def assert_same(ours, theirs):
    """Equal but for the order of sums: how tensors lie in memory decides which kernel of the CPU adds them up."""
    import torch

    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def terratorch():
    """The library, imported once, with torch on one thread count and no gradients."""
    import terratorch.models
    import terratorch.tasks
    import torch

    torch.set_float32_matmul_precision("highest")
    with torch.no_grad():
        yield terratorch


@pytest.fixture
def adapter(terratorch):
    import models.terratorch

    return models.terratorch


def a_card(task="segmentation", network=None, *, bands=tuple(COMMON), origin=None, **more):
    classes = [{"value": i, "name": f"class {i}", "colour": "#123456"} for i in range(3)]
    whole = {"segmentation": {"classes": classes}, "classification": {"classes": classes, "stride": CHIP}}
    return ModelCard.model_validate(
        {
            "id": "a-card", "title": "A card", "task": task, "adapter": "terratorch", "network": network,
            "input": {"bands": bands, "chip": CHIP, "overlap": 0, **more.pop("input", {})},
            "output": {**whole.get(task, {}), **more.pop("output", {})},
            "licence": "Apache-2.0", "citation": "Nobody", "origin": origin, **more,
        }
    )  # fmt: skip


def factory(args, name="EncoderDecoderFactory", **more):
    return {"factory": name, "args": args, **more}


def tiles(count=2, times=1, bands=6, side=CHIP, seed=0):
    import torch

    return torch.randn(count, times, bands, side, side, generator=torch.Generator().manual_seed(seed))


def task_of(terratorch, name, args, tmp_path, **more):
    """A Lightning task with seeded random numbers, and its checkpoint as Lightning would write it."""
    import torch

    torch.manual_seed(5)
    task = getattr(terratorch.tasks, name)(model_args=args, model_factory="EncoderDecoderFactory", **more).eval()
    path = tmp_path / "task.ckpt"
    hyper = {"model_args": args, "loss": "ce"}
    torch.save({"state_dict": task.state_dict(), "hyper_parameters": hyper, "epoch": 3}, path)
    return task, path


def test_segmentation_is_the_tasks_softmax(terratorch, adapter, tmp_path):
    import torch

    task, checkpoint = task_of(
        terratorch, "SemanticSegmentationTask", SEGMENTATION, tmp_path, class_weights=[1.0, 2.0, 3.0]
    )
    assert "criterion.weight" in task.state_dict()  # a part of the task, not of the network
    x = tiles()
    ours = adapter.build(a_card(network=factory(SEGMENTATION)), checkpoint)(x)
    assert ours.shape == (2, 3, CHIP, CHIP)
    assert ours.dtype == torch.float32
    assert_same(ours, task(x[:, 0]).output.softmax(1))


def test_three_dates_go_in_as_bands_then_dates(terratorch, adapter, tmp_path):
    import torch

    necks = [PYRAMID[0], {**PYRAMID[1], "effective_time_dim": 3}]
    args = {**SEGMENTATION, "backbone_num_frames": 3, "necks": necks}
    task, checkpoint = task_of(terratorch, "SemanticSegmentationTask", args, tmp_path)
    x = tiles(times=3)
    ours = adapter.build(a_card(network=factory(args), input={"times": 3}), checkpoint)(x)
    assert_same(ours, task(x.permute(0, 2, 1, 3, 4)).output.softmax(1))
    turned = adapter.build(a_card(network=factory(args), input={"times": 3}), checkpoint)(x.flip(1))
    assert not torch.equal(ours, turned)


def test_regression_keeps_its_one_channel(terratorch, adapter, tmp_path):

    task, checkpoint = task_of(terratorch, "PixelwiseRegressionTask", REGRESSION, tmp_path, loss="mse")
    x = tiles()
    ours = adapter.build(a_card("regression", factory(REGRESSION)), checkpoint)(x)
    assert ours.shape == (2, 1, CHIP, CHIP)
    assert_same(ours[:, 0], task(x[:, 0]).output)


def test_a_number_per_tile(terratorch, adapter, tmp_path):

    args = {**{k: v for k, v in CLASSIFICATION.items() if k != "num_classes"}, "num_outputs": 1}
    task, checkpoint = task_of(terratorch, "ScalarRegressionTask", args, tmp_path, loss="mse")
    x = tiles()
    ours = adapter.build(a_card("regression", factory(args), output={"stride": CHIP}), checkpoint)(x)
    assert_same(ours, task(x[:, 0]).output.reshape(2, 1, 1, 1))


def test_classification_is_one_cell_per_tile(terratorch, adapter, tmp_path):

    task, checkpoint = task_of(terratorch, "ClassificationTask", CLASSIFICATION, tmp_path)
    x = tiles()
    ours = adapter.build(a_card("classification", factory(CLASSIFICATION)), checkpoint)(x)
    assert ours.shape == (2, 3, 1, 1)
    assert_same(ours[:, :, 0, 0], task(x[:, 0]).output.softmax(1))


@pytest.mark.parametrize("times", [1, 3])
def test_embeddings_are_the_tokens_on_their_grid(terratorch, adapter, tmp_path, times):
    import torch
    from terratorch.models.necks import ReshapeTokensToImage
    from terratorch.registry import BACKBONE_REGISTRY

    args = {"bands": BANDS, "num_frames": times}
    card = a_card(
        "embedding", {"backbone": "prithvi_eo_tiny", "args": args},
        input={"times": times}, output={"channels": 256 * times, "stride": 16},
    )  # fmt: skip
    checkpoint = adapter.write_random_checkpoint(card, tmp_path / "b.ckpt", seed=1)
    backbone = BACKBONE_REGISTRY.build("prithvi_eo_tiny", **args).eval()
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    backbone.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    x = tiles(times=times)
    neck = ReshapeTokensToImage([256], effective_time_dim=times)
    (expected,) = neck([backbone(x.transpose(1, 2))[-1]])
    ours = adapter.build(card, checkpoint)(x)
    assert ours.shape == (2, 256 * times, 4, 4)
    assert_same(ours, expected)


def test_feature_maps_of_a_convolutional_backbone_pass_as_they_are(terratorch, adapter, tmp_path):

    network = {"backbone": "timm_resnet18", "args": {"in_chans": 6, "out_indices": [1, 2]}, "layer": 0}
    card = a_card("embedding", network, output={"channels": 64, "stride": 4})
    net = adapter.build(card, adapter.write_random_checkpoint(card, tmp_path / "c.ckpt", seed=1))
    x = tiles()
    assert_same(net(x), net.network(x[:, 0])[0])
    assert net(x).shape == (2, 64, 16, 16)


def test_a_chip_that_is_no_multiple_of_the_patch_is_padded_by_terratorch(terratorch, adapter, tmp_path):

    task, checkpoint = task_of(terratorch, "SemanticSegmentationTask", SEGMENTATION, tmp_path)
    x = tiles(side=57)
    ours = adapter.build(a_card(network=factory(SEGMENTATION), input={"chip": 57}), checkpoint)(x)
    assert ours.shape == (2, 3, 57, 57)
    assert_same(ours, task(x[:, 0]).output.softmax(1))


def a_config(folder, args, task="SemanticSegmentationTask", **init_args):
    path = folder / "config.yaml"
    init = {"model_factory": "EncoderDecoderFactory", "model_args": args, **init_args}
    model = {"class_path": f"terratorch.tasks.{task}", "init_args": init}
    path.write_text(
        yaml.safe_dump({"seed_everything": 0, "model": model, "optimizer": {"class_path": "torch.optim.Adam"}})
    )
    return path


def test_a_config_and_its_factory_block_are_the_same_network(terratorch, adapter, tmp_path):

    a_config(tmp_path, {**SEGMENTATION, "backbone_pretrained": True})
    of_config = a_card(network={"config": "config.yaml"}, origin=tmp_path / "a-card.yaml")
    of_factory = a_card(network=factory(SEGMENTATION))
    checkpoint = adapter.write_random_checkpoint(of_config, tmp_path / "r.ckpt", seed=3)
    x = tiles()
    assert_same(adapter.build(of_config, checkpoint)(x), adapter.build(of_factory, checkpoint)(x))


def test_a_config_by_uri_is_fetched(terratorch, adapter, tmp_path):
    path = a_config(tmp_path, SEGMENTATION)
    asked = []

    def fetch(uri):
        asked.append(uri)
        return path

    card = a_card(network={"config": "hf://owner/repo/config.yaml"})
    assert adapter.write_random_checkpoint(card, tmp_path / "r.ckpt", 0, fetch).is_file()
    assert asked == ["hf://owner/repo/config.yaml"]
    with pytest.raises(WeightsError, match=r"hf://owner/repo/config\.yaml"):
        adapter.write_random_checkpoint(card, tmp_path / "s.ckpt", 0)


def test_a_config_of_embeddings(terratorch, adapter, tmp_path):

    args = {"backbone": "prithvi_eo_tiny", "backbone_bands": BANDS, "backbone_num_frames": 1}
    a_config(tmp_path, args, "EmbeddingGenerationTask", layers=[1, 2])
    output = {"channels": 256, "stride": 16}
    of_config = a_card("embedding", {"config": "config.yaml"}, origin=tmp_path / "a.yaml", output=output)
    block = {"backbone": "prithvi_eo_tiny", "args": {"bands": BANDS, "num_frames": 1}, "layer": 2}
    checkpoint = adapter.write_random_checkpoint(of_config, tmp_path / "r.ckpt", seed=3)
    x = tiles()
    expected = adapter.build(a_card("embedding", block, output=output), checkpoint)(x)
    assert_same(adapter.build(of_config, checkpoint)(x), expected)


def test_auxiliary_heads_have_a_place_for_their_weights(terratorch, adapter, tmp_path):
    from terratorch.models.model import AuxiliaryHead

    head = {"name": "aux", "decoder": "FCNDecoder", "decoder_args": {"decoder_channels": 8}}
    task, checkpoint = task_of(
        terratorch, "SemanticSegmentationTask", SEGMENTATION, tmp_path,
        aux_heads=[AuxiliaryHead(**head)], aux_loss={"aux": 0.4},
    )  # fmt: skip
    x = tiles()
    ours = adapter.build(a_card(network=factory(SEGMENTATION, aux_heads=[head])), checkpoint)(x)
    assert_same(ours, task(x[:, 0]).output.softmax(1))
    with pytest.raises(WeightsError, match="unexpected"):
        adapter.build(a_card(network=factory(SEGMENTATION)), checkpoint)


@pytest.mark.filterwarnings("ignore")
def test_a_checkpoint_of_lightnings_own_trainer_loads(terratorch, adapter, tmp_path):
    """Its hyper-parameters hold TerraTorch's enums and data classes, its state a loss and an optimizer."""
    import lightning
    import torch
    from terratorch.datasets import HLSBands
    from terratorch.models.model import AuxiliaryHead

    head = {"name": "aux", "decoder": "FCNDecoder", "decoder_args": {"decoder_channels": 8}}
    task = terratorch.tasks.SemanticSegmentationTask(
        model_factory="EncoderDecoderFactory",
        model_args={**SEGMENTATION, "backbone_bands": [HLSBands(name) for name in BANDS]},
        aux_heads=[AuxiliaryHead(**head)],
        aux_loss={"aux": 0.4},
        class_weights=[1.0, 2.0, 3.0],
    ).eval()
    trainer = lightning.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu")
    trainer.strategy.connect(task)
    trainer.save_checkpoint(tmp_path / "task.ckpt", weights_only=False)
    asked = torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "task.ckpt")
    assert "terratorch.datasets.utils.HLSBands" in asked
    x = tiles()
    ours = adapter.build(a_card(network=factory(SEGMENTATION, aux_heads=[head])), tmp_path / "task.ckpt")(x)
    assert_same(ours, task(x[:, 0]).output.softmax(1))


def test_networks_of_segmentation_models_pytorch_and_timm(terratorch, adapter, tmp_path):
    import torch
    from terratorch.registry import MODEL_FACTORY_REGISTRY

    smp = {"backbone": "resnet18", "model": "Unet", "bands": BANDS, "num_classes": 3, "pretrained": False}
    timm = {"backbone": "resnet18", "in_channels": 6, "num_classes": 3, "pretrained": False}
    for name, task, args in (
        ("SMPModelFactory", "segmentation", smp),
        ("TimmModelFactory", "classification", timm),
    ):
        card = a_card(task, factory({k: v for k, v in args.items() if k != "pretrained"}, name))
        path = adapter.write_random_checkpoint(card, tmp_path / f"{name}.ckpt", seed=2)
        reference = MODEL_FACTORY_REGISTRY.build(name).build_model(task=task, **args).eval()
        state = torch.load(path, weights_only=True)["state_dict"]
        reference.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
        x = tiles()
        expected = reference(x[:, 0]).output.softmax(1)
        assert_same(adapter.build(card, path)(x).reshape(expected.shape), expected)


def test_random_checkpoints_repeat_and_differ_by_seed(terratorch, adapter, tmp_path):
    import torch

    card = a_card(network=factory(SEGMENTATION))
    before = torch.random.get_rng_state()
    one, same, other = (
        adapter.build(card, adapter.write_random_checkpoint(card, tmp_path / f"{i}.ckpt", seed))(tiles())
        for i, seed in enumerate((1, 1, 2))
    )
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_safetensors_half_precision_and_plain_keys(terratorch, adapter, tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    card = a_card(network=factory(SEGMENTATION))
    path = adapter.write_random_checkpoint(card, tmp_path / "r.safetensors", seed=3)
    state = load_file(path)
    lightning = tmp_path / "r.ckpt"
    adapter.write_random_checkpoint(card, lightning, seed=3)
    x = tiles()
    expected = adapter.build(card, lightning)(x)
    assert_same(adapter.build(card, path)(x), expected)
    plain = {k.removeprefix("model."): v for k, v in state.items()}
    save_file(plain, tmp_path / "plain.safetensors")
    assert_same(adapter.build(card, tmp_path / "plain.safetensors")(x), expected)
    torch.save({"model": {k: v.half() if v.is_floating_point() else v for k, v in plain.items()}}, tmp_path / "h.pth")
    halved = adapter.build(card, tmp_path / "h.pth")
    assert {p.dtype for p in halved.parameters()} == {torch.float32}
    assert torch.allclose(halved(x), expected, atol=1e-2)
    assert not halved.training
    assert not any(p.requires_grad for p in halved.parameters())


def test_checkpoints_that_do_not_fit_say_what_is_wrong(terratorch, adapter, tmp_path):
    import torch

    card = a_card(network=factory(SEGMENTATION))
    path = adapter.write_random_checkpoint(card, tmp_path / "r.ckpt", seed=3)
    state = torch.load(path, weights_only=True)["state_dict"]
    head = "model.head.head.2.weight"

    def refused(changed):
        torch.save({"state_dict": changed}, path)
        with pytest.raises(WeightsError) as error:
            adapter.build(card, path)
        assert error.value.problem.code == "weights.mismatch"
        return error.value.detail

    assert "1 missing (head.head.2.weight)" in refused({k: v for k, v in state.items() if k != head})
    assert "1 unexpected (extra.w)" in refused({**state, "model.extra.w": torch.zeros(1)})
    assert "of another shape (head.head.2.weight (5, 16, 1, 1) for (3, 16, 1, 1))" in refused(
        {**state, head: torch.zeros(5, 16, 1, 1)}
    )
    several = refused({k: v for k, v in state.items() if ".decoder." not in k})
    assert several.count("decoder.") == 3
    assert ", …)" in several
    assert "no state dict" in refused({"epoch": 3})
    assert "no state dict" in refused({})


def test_pretraining_checkpoints_are_renamed_and_what_has_no_place_is_named_or_dropped(terratorch, adapter, tmp_path):
    import torch

    size = {"dim": 64, "depth": 1, "heads": 2, "dim_head": 16, "mlp_ratio": 2, "patch_size": 8}
    waves = [0.49, 0.56, 0.66, 0.86, 1.61, 2.2]
    network = {"clay": "v1.5", "args": {**size, "waves": waves, "gsd": 10}, "rename": {"model.encoder.": "encoder."}}
    output = {"channels": 64, "stride": 8}
    dropping = a_card("embedding", {**network, "drop": ["model.decoder."]}, output=output)
    path = adapter.write_random_checkpoint(dropping, tmp_path / "clay.ckpt", seed=1)
    state = torch.load(path, weights_only=True)["state_dict"]
    assert all(k.startswith("model.encoder.") for k in state)
    torch.save({"state_dict": {**state, "model.decoder.w": torch.zeros(3)}}, path)
    assert adapter.build(dropping, path)(tiles()).shape == (2, 64, 8, 8)
    with pytest.raises(WeightsError, match=r"1 unexpected \(model\.decoder\.w\)"):
        adapter.build(a_card("embedding", network, output=output), path)


def test_clay_is_its_own_encoder_without_time_and_place(terratorch, adapter, tmp_path):
    import torch
    from terratorch.models.backbones.clay_v15.model import Encoder

    size = {"dim": 64, "depth": 2, "heads": 2, "dim_head": 16, "mlp_ratio": 2, "patch_size": 8}
    waves = [0.49, 0.56, 0.66, 0.86, 1.61, 2.2]
    card = a_card(
        "embedding", {"clay": "v1.5", "args": {**size, "waves": waves, "gsd": 10}}, output={"channels": 64, "stride": 8}
    )
    path = adapter.write_random_checkpoint(card, tmp_path / "clay.ckpt", seed=1)
    encoder = Encoder(mask_ratio=0.0, shuffle=False, **size).eval()
    state = torch.load(path, weights_only=True)["state_dict"]
    encoder.load_state_dict({k.removeprefix("model.encoder."): v for k, v in state.items()})
    x = tiles()
    nothing = torch.zeros(2, 4)
    cube = {
        "pixels": x[:, 0],
        "time": nothing,
        "latlon": nothing,
        "gsd": torch.tensor(10.0),
        "waves": torch.tensor(waves),
    }
    expected = encoder(cube)[0][:, 1:].transpose(1, 2).reshape(2, 64, 8, 8)
    assert_same(adapter.build(card, path)(x), expected)


@pytest.mark.parametrize("builder", ["resnet18", "vit_small_patch16_224"])
def test_torchgeo_embeddings_are_the_networks_last_features(adapter, tmp_path, builder):
    import torch
    from torchgeo.models import get_model

    args = {"in_chans": 6, "num_classes": 0, **({"img_size": CHIP} if builder.startswith("vit") else {})}
    depth, stride = (512, 32) if builder == "resnet18" else (384, 16)
    card = a_card("embedding", {"torchgeo": builder, "args": args}, output={"channels": depth, "stride": stride})
    path = adapter.write_random_checkpoint(card, tmp_path / "r.pth", seed=4)
    reference = get_model(builder, **args).eval()
    state = torch.load(path, weights_only=True)["state_dict"]
    reference.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    x = tiles()
    expected = reference.forward_features(x[:, 0])
    if expected.ndim == 3:
        expected = expected[:, 1:].transpose(1, 2).reshape(2, depth, CHIP // stride, CHIP // stride)
    assert_same(adapter.build(card, path)(x), expected)


def test_torchgeo_unet_takes_its_dates_newest_first(adapter, tmp_path):
    import torch
    from torchgeo.models import unet

    args = {"encoder_name": "resnet18", "in_channels": 8, "classes": 3}
    network = {"torchgeo": "unet", "args": args}
    bands = ["red", "green", "blue", "nir"]
    oldest = a_card(network=network, bands=bands, input={"times": 2})
    newest = a_card(network={**network, "layout": "stack-newest-first"}, bands=bands, input={"times": 2})
    path = adapter.write_random_checkpoint(newest, tmp_path / "r.pth", seed=4)
    reference = unet(encoder_weights=None, **args).eval()
    state = torch.load(path, weights_only=True)["state_dict"]
    reference.load_state_dict({k.removeprefix("model."): v for k, v in state.items()})
    x = tiles(times=2, bands=4)
    planting, harvest = x[:, 0], x[:, 1]
    expected = reference(torch.cat((harvest, planting), dim=1)).softmax(1)  # torchgeo/datasets/ftw.py
    assert_same(adapter.build(newest, path)(x), expected)
    expected = reference(torch.cat((planting, harvest), dim=1)).softmax(1)
    assert_same(adapter.build(oldest, path)(x), expected)


HOSTILE = {
    "a class": factory({**SEGMENTATION, "decoder": {"class_path": "os.system", "init_args": {"command": "touch ran"}}}),
    "a dotted backbone": factory({**SEGMENTATION, "backbone": "os.system"}),
    "a path as backbone": factory({**SEGMENTATION, "backbone": "../../secret"}),
    "an unknown backbone": factory({**SEGMENTATION, "backbone": "no_such_backbone"}),
    "a backbone that fetches code": factory({**SEGMENTATION, "backbone": "dinov3_vits16"}),
    "the same by prefix": factory({**SEGMENTATION, "backbone": "terratorch_dinov3_vits16"}),
    "an unknown decoder": factory({**SEGMENTATION, "decoder": "NoSuchDecoder"}),
    "an unknown neck": factory({**SEGMENTATION, "necks": [{"name": "NoSuchNeck"}]}),
    "an unknown auxiliary decoder": factory(
        SEGMENTATION, aux_heads=[{"name": "a", "decoder": "X", "decoder_args": {}}]
    ),
    "a factory with an import path": factory(SEGMENTATION, "SatMAEModelFactory"),
    "an unknown factory": factory(SEGMENTATION, "os.system"),
    "another checkpoint": factory({**SEGMENTATION, "backbone_ckpt_path": "x.pt"}),
    "an activation": factory({**SEGMENTATION, "head_final_act": "os.getcwd"}),
    "an encoder of the hub": factory({"backbone": "tu-hf-hub:a/b", "model": "Unet", "bands": BANDS}, "SMPModelFactory"),
    "an encoder class": factory({"backbone": "os.path", "model": "Unet", "bands": BANDS}, "SMPModelFactory"),
    "an unknown model": factory({"backbone": "resnet18", "model": "encoders", "bands": BANDS}, "SMPModelFactory"),
    "a timm model of the hub": factory({"backbone": "hf_hub:a/b", "in_channels": 6}, "TimmModelFactory"),
    "another builder": {"torchgeo": "aurora_swin_unet"},
    "builder weights": {"torchgeo": "resnet18", "args": {"weights": "ResNet18_Weights.SENTINEL2_ALL_MOCO"}},
    "a config above its card": {"config": "../config.yaml"},
}


@pytest.mark.parametrize("network", HOSTILE.values(), ids=HOSTILE.keys())
def test_networks_that_ask_for_code_are_refused(adapter, tmp_path, monkeypatch, network):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeModelError) as refused:
        adapter.write_random_checkpoint(a_card(network=network), tmp_path / "r.ckpt", seed=0)
    assert refused.value.problem.code == "model.unsafe"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    [
        "model: {class_path: os.system, init_args: {command: touch ran}}",
        "model: {class_path: evil.SemanticSegmentationTask, init_args: {}}",
        "model: {class_path: terratorch.cli_tools.build_lightning_cli, init_args: {}}",
        "model: {class_path: terratorch.tasks.SemanticSegmentationTask, init_args: {model: {class_path: os.system}}}",
        "model: {class_path: SemanticSegmentationTask, init_args: {model_factory: os.system, model_args: {}}}",
        'model: !!python/object/apply:os.system ["touch ran"]',
    ],
)
def test_configs_that_ask_for_code_are_refused(adapter, tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    card = a_card(network={"config": "config.yaml"}, origin=tmp_path / "a.yaml")
    with pytest.raises(UnsafeModelError):
        adapter.build(card, tmp_path / "r.ckpt")
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_a_working_folder_with_custom_modules_is_refused(adapter, tmp_path, monkeypatch):
    (tmp_path / "custom_modules").mkdir()
    (tmp_path / "custom_modules" / "__init__.py").write_text("raise SystemExit('ran')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnsafeModelError, match="custom_modules"):
        adapter.write_random_checkpoint(a_card(network=factory(SEGMENTATION)), tmp_path / "r.ckpt", seed=0)


MISTAKEN = {
    "no way in": ({}, "give one of"),
    "two ways in": ({"factory": "EncoderDecoderFactory", "backbone": "x"}, "give one of"),
    "a misspelt field": ({"factory": "EncoderDecoderFactory", "arguments": {}}, "network.arguments"),
    "an unknown argument": (factory({**SEGMENTATION, "decoder_chanels": 16}), "unexpected keyword argument 'chanels'"),
    "a wrong number of classes": (factory({**SEGMENTATION, "num_classes": 7}), "names 3 classes, its network has 7"),
    "no decoder": (factory({k: v for k, v in SEGMENTATION.items() if k != "decoder"}), "cannot be built"),
}


@pytest.mark.parametrize(("network", "said"), MISTAKEN.values(), ids=MISTAKEN.keys())
def test_mistakes_in_a_card_are_card_errors(adapter, tmp_path, network, said):
    with pytest.raises(CardError, match=said):
        adapter.write_random_checkpoint(a_card(network=network), tmp_path / "r.ckpt", seed=0)


def test_a_config_of_another_task_is_a_card_error(adapter, tmp_path):
    a_config(tmp_path, CLASSIFICATION, "ClassificationTask")
    card = a_card(network={"config": "config.yaml"}, origin=tmp_path / "a.yaml")
    with pytest.raises(CardError, match="says segmentation, its config ClassificationTask"):
        adapter.build(card, tmp_path / "r.ckpt")


def test_several_dates_need_a_layout(adapter, tmp_path):
    card = a_card(network=factory(SEGMENTATION, layout="image"), input={"times": 2})
    with pytest.raises(CardError, match="2 dates"):
        adapter.build(card, tmp_path / "r.ckpt")


def test_a_card_without_weights_builds_nothing(adapter):
    with pytest.raises(WeightsError) as missing:
        adapter.build(a_card(network=factory(SEGMENTATION)), None)
    assert missing.value.problem.code == "weights.missing"


def test_building_leaves_precision_and_logging_alone(adapter, tmp_path):
    import torch

    handlers = logging.getLogger().handlers[:]
    adapter.write_random_checkpoint(a_card(network=factory(SEGMENTATION)), tmp_path / "r.ckpt", seed=0)
    assert torch.get_float32_matmul_precision() == "highest"
    assert logging.getLogger().handlers == handlers


def test_no_backbone_of_this_terratorch_is_pretrained_by_default(terratorch):
    import inspect

    from terratorch.registry import TERRATORCH_BACKBONE_REGISTRY as BACKBONES

    from models.construct import FETCHING

    given = {n: inspect.signature(BACKBONES[n]).parameters.get("pretrained") for n in BACKBONES}
    assert {n for n, p in given.items() if p and p.default not in (False, None)} == set()
    assert any(n.startswith(FETCHING) for n in given)


@pytest.fixture(scope="module")
def small(terratorch, tmp_path_factory):
    """A small network as it would be exported."""
    from models.terratorch import build, write_random_checkpoint

    card = a_card(network=factory(SEGMENTATION))
    return build(card, write_random_checkpoint(card, tmp_path_factory.mktemp("small") / "r.ckpt", seed=3))


def dynamic():
    import torch

    return {"tiles": {0: torch.export.Dim("batch", min=1, max=64)}}


def test_torch_export_takes_any_batch(small):
    import torch

    program = torch.export.export(small, (tiles(2),), dynamic_shapes=dynamic(), strict=False).module()
    for count in (1, 3, 8):
        x = tiles(count, seed=count)
        assert torch.allclose(program(x), small(x), atol=1e-6)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_onnx_export_takes_any_batch(small, tmp_path):
    import numpy as np
    import onnxruntime
    import torch

    path = tmp_path / "small.onnx"
    torch.onnx.export(
        small, (tiles(2),), path, dynamo=True, dynamic_shapes=dynamic(), input_names=["tiles"], verbose=False
    )
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for count in (1, 3, 8):
        x = tiles(count, seed=count)
        (numbers,) = session.run(None, {"tiles": x.numpy()})
        np.testing.assert_allclose(numbers, small(x).numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_clay_goes_through_onnx_into_openvino(terratorch, adapter, tmp_path):
    import numpy as np
    import openvino
    import torch

    size = {"dim": 64, "depth": 1, "heads": 2, "dim_head": 16, "mlp_ratio": 2, "patch_size": 8}
    network = {"clay": "v1.5", "args": {**size, "waves": [0.49, 0.56, 0.66, 0.86, 1.61, 2.2], "gsd": 10}}
    card = a_card("embedding", network, output={"channels": 64, "stride": 8})
    net, path = adapter.build(card, adapter.write_random_checkpoint(card, tmp_path / "c.ckpt", 1)), tmp_path / "c.onnx"
    torch.onnx.export(
        net, (tiles(2),), path, dynamo=True, dynamic_shapes=dynamic(), input_names=["tiles"], verbose=False
    )
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    x = tiles(3, seed=3)
    np.testing.assert_allclose(compiled(x.numpy())[0], net(x).numpy(), atol=1e-4)


def test_a_padded_chip_bakes_the_batch_in(small):
    """The trap that models/terratorch.py warns of: if it goes away with a new TerraTorch, the warning may go too."""
    import torch

    with pytest.raises(torch._dynamo.exc.UserError, match="batch"):
        torch.export.export(small, (tiles(2, side=57),), dynamic_shapes=dynamic(), strict=False)
