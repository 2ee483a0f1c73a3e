"""Configs, arguments and checkpoints of strangers: the harmless pass, the rest is refused by name and never runs."""

from __future__ import annotations

import io
import os
import pickle
import tracemalloc
import zipfile

import pytest

from models import safety
from swathe.errors import CardError, UnsafeModelError, WeightsError

GOOD = """
trainer:
  callbacks:
    - class_path: RichProgressBar
    - class_path: lightning.pytorch.callbacks.EarlyStopping
      init_args: {monitor: val/loss}
model:
  class_path: terratorch.tasks.SemanticSegmentationTask
  init_args:
    model_factory: EncoderDecoderFactory
    model_args: {backbone: prithvi_eo_v2_300_tl, backbone_pretrained: true, num_classes: 2}
data:
  class_path: terratorch.datamodules.Sen1Floods11NonGeoDataModule
  init_args:
    data_root: /somebodys/folder
    train_transform:
      - class_path: albumentations.pytorch.ToTensorV2
optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 5.0e-05}}
"""


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (f"touch {self.trace}",)


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "config.yaml"
        path.write_text(text)
        return path

    return write


def test_a_published_training_config_passes(config):
    document = safety.read_config(config(GOOD))
    assert document["model"]["init_args"]["model_args"]["backbone"] == "prithvi_eo_v2_300_tl"


def test_python_tags_are_refused_by_name_and_do_not_run(config, tmp_path):
    trace = tmp_path / "ran"
    with pytest.raises(UnsafeModelError, match=r"python/object/apply:os\.system"):
        safety.read_config(config(f'model: !!python/object/apply:os.system ["touch {trace}"]'))
    assert not trace.exists()


@pytest.mark.parametrize("place", ["model: {class_path: %s}", "trainer: {callbacks: [{class_path: %s}]}"])
@pytest.mark.parametrize(
    "path", ["os.system", "subprocess.Popen", "terratorch_evil.Task", "builtins.eval", "my.Callback"]
)
def test_foreign_classes_are_refused_by_name(config, place, path):
    with pytest.raises(UnsafeModelError) as refused:
        safety.read_config(config(place % path))
    assert path in refused.value.detail
    assert refused.value.problem.code == "model.unsafe"
    assert "class_path" in refused.value.field


@pytest.mark.parametrize(
    "text",
    ["just a word", "[1, 2]", "a: [1", "a: b: c", "a: 2024-13-45", "a: !!int x", "a: !!int ''", "a: !!bool x", "a: 0b_",
     "a: !!timestamp x", "a: " + "9" * 5000, "a: " + "[" * 5000],
)  # fmt: skip
def test_what_is_no_mapping_is_a_card_error(config, text):
    with pytest.raises(CardError, match="config"):
        safety.read_config(config(text))


def test_a_missing_or_huge_config_is_a_card_error(config, tmp_path):
    with pytest.raises(CardError, match="cannot read"):
        safety.read_config(tmp_path / "nowhere.yaml")
    with pytest.raises(CardError, match="more than"):
        safety.read_config(config("a: " + "x" * safety.LARGEST_CONFIG))


@pytest.mark.timeout(20)
@pytest.mark.parametrize("times", [1, 9])
def test_aliases_that_would_grow_are_refused(config, times):
    """Nine times nine times nine ..., and lists in lists in lists without end."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * times)}]" for i in range(1, 2000)]
    merged = ["a0: &a0 {x: 1}"]
    merged += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}" for i in range(1, 40)]
    for text in ("\n".join(lines), "\n".join(merged), "a: &a {b: *a}", "a: &a [*a]"):
        with pytest.raises(CardError, match="aliases"):
            safety.read_config(config(text))


def test_aliases_may_save_words(config):
    document = safety.read_config(config("a: &bands [RED, NIR]\nb: *bands\nc: {<<: &more {d: 1}}\ne: *more"))
    assert (document["b"], document["c"], document["e"]) == (["RED", "NIR"], {"d": 1}, {"d": 1})


def test_long_keys_are_not_written_out_for_each_value(config):
    tracemalloc.start()
    assert safety.read_config(config(f"? {'k' * 100_000}\n: [{'[],' * 10_000}]"))
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()


def test_a_network_that_holds_itself_is_walked_once():
    endless = {"a": 1}
    endless["b"] = endless
    assert [key for _, key, _ in safety.walk(endless)] == ["a", "b"]


REFUSED = {
    "class": {"backbone": {"class_path": "os.system"}},
    "checkpoint": {"backbone_ckpt_path": "anything"},
    "checkpoint of the v1 models": {"backbone_pretrained_cfg_overlay": {"file": "weights"}},
    "pretrained by name": {"pretrained": "imagenet"},
    "weights by name": {"decoder_encoder_weights": "imagenet"},
    "weights by default": {"weights": True},
    "a folder for imports": {"model_sys_path": "here"},
    "custom modules": {"custom_modules_path": "custom_modules"},
    "a path": {"backbone": "../../secret"},
    "a home": {"backbone": "~root"},
    "an address": {"backbone": "https://example.org/model"},
    "a repository": {"backbone": "hf-hub:someone/model"},
    "a windows path": {"backbone": "C:\\model"},
    "a dotted name": {"head_final_act": "os.getcwd"},
    "a function of torch": {"head_final_act": "torch.hub.load"},
    "deep below": {"necks": [{"name": "SelectIndices", "indices": [{"x": "subprocess.run"}]}]},
}


@pytest.mark.parametrize("arguments", REFUSED.values(), ids=REFUSED.keys())
def test_arguments_that_fetch_read_or_import_are_refused(arguments):
    with pytest.raises(UnsafeModelError) as refused:
        safety.safe_arguments(arguments)
    assert refused.value.field.startswith("network.args.")


def test_arguments_of_strange_types_are_card_errors():
    with pytest.raises(CardError, match="no plain value"):
        safety.safe_arguments({"a": object()})


def test_pretrained_is_switched_off_and_the_rest_is_kept():
    given = {
        "backbone": "prithvi_eo_v2_300", "backbone_pretrained": True, "backbone_kwargs": {"pretrained": True},
        "backbone_drop_path": 0.1, "backbone_ckpt_path": None, "bands": ["BLUE"], "modalities": ["untok_sen2l2a@224"],
        "decoder_scale_modules": False, "necks": [{"name": "ReshapeTokensToImage", "remove_cls_token": False}],
        "pretrained_bands": ["RED"],
    }  # fmt: skip
    safe = safety.safe_arguments(given)
    assert safe == {**given, "backbone_pretrained": False, "backbone_kwargs": {"pretrained": False}}
    assert given["backbone_pretrained"] is True


def test_names_must_be_known():
    assert safety.check_name("a", {"a"}, "backbone") == "a"
    for wrong in ("b", None, ["a"], {"class_path": "a"}):
        with pytest.raises(UnsafeModelError, match="backbone asks for"):
            safety.check_name(wrong, {"a"}, "backbone")


def test_a_folder_that_terratorch_would_import_is_refused(tmp_path):
    safety.refuse_custom_modules(tmp_path)
    (tmp_path / "custom_modules").mkdir()
    with pytest.raises(UnsafeModelError, match="custom_modules"):
        safety.refuse_custom_modules(tmp_path)


def test_missing_and_strange_files_are_named(tmp_path):
    with pytest.raises(WeightsError, match="no checkpoint at") as missing:
        safety.read_checkpoint(tmp_path / "nowhere.ckpt")
    assert missing.value.problem.code == "weights.missing"
    strange = tmp_path / "model.pkl"
    strange.write_bytes(b"")
    with pytest.raises(UnsafeModelError, match=r"model\.pkl"):
        safety.read_checkpoint(strange)


@pytest.mark.torch
@pytest.mark.parametrize("written", ["zip", "legacy", "pickle"])
@pytest.mark.parametrize("place", ["alone", "in hyper-parameters"])
def test_a_checkpoint_that_would_run_something_is_refused_by_name(tmp_path, written, place):
    import torch

    trace = tmp_path / "ran"
    held = Bomb(trace) if place == "alone" else {"state_dict": {"w": torch.zeros(1)}, "hyper_parameters": Bomb(trace)}
    path = tmp_path / "model.ckpt"
    if written == "pickle":
        path.write_bytes(pickle.dumps(held))
    else:
        torch.save(held, path, _use_new_zipfile_serialization=written == "zip")
    with pytest.raises(UnsafeModelError) as refused:
        safety.read_checkpoint(path)
    assert "system" in refused.value.detail, refused.value.detail
    assert not trace.exists()


@pytest.mark.torch
def test_a_pickled_class_is_named(tmp_path):
    import torch
    from torch import nn

    path = tmp_path / "model.pt"
    torch.save({"state_dict": {}, "network": nn.Linear(1, 1)}, path)
    with pytest.raises(UnsafeModelError, match=r"torch\.nn\.modules\.linear\.Linear"):
        safety.read_checkpoint(path)


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_torchscript_is_refused(tmp_path):
    import torch
    from torch import nn

    path = tmp_path / "model.pt"
    torch.jit.save(torch.jit.script(nn.Linear(1, 1)), path)
    with pytest.raises(UnsafeModelError, match=r"model\.pt"):
        safety.read_checkpoint(path)


@pytest.mark.torch
def test_layers_of_torch_may_be_named():
    assert safety.safe_arguments({"head_final_act": "torch.nn.ReLU"}) == {"head_final_act": "torch.nn.ReLU"}
    for wrong in ("torch.nn.Parameter", "torch.nn.functional", "torch.nn.NoSuchLayer", "torch.nn.modules.ReLU"):
        with pytest.raises(UnsafeModelError, match="head_final_act"):
            safety.safe_arguments({"head_final_act": wrong})


@pytest.mark.torch
@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_truncated_file_is_corrupt(tmp_path, suffix):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / f"model{suffix}"
    state = {"w": torch.arange(1000.0)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    assert torch.equal(safety.read_checkpoint(path)["w"], state["w"])
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(WeightsError) as corrupt:
        safety.read_checkpoint(path)
    assert corrupt.value.problem.code == "weights.corrupt"


@pytest.mark.torch
@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 nonsense"])
def test_what_is_no_checkpoint_is_corrupt_or_refused(tmp_path, content):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises((WeightsError, UnsafeModelError)):
        safety.read_checkpoint(path)


@pytest.mark.torch
def test_an_archive_with_a_hostile_pickle_inside_is_refused(tmp_path):
    import torch

    trace, good = tmp_path / "ran", io.BytesIO()
    torch.save({"w": torch.zeros(1)}, good)
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            hostile = name.endswith("data.pkl")
            target.writestr(name, pickle.dumps(Bomb(trace), protocol=2) if hostile else source.read(name))
    with pytest.raises(UnsafeModelError, match="system"):
        safety.read_checkpoint(path)
    assert not trace.exists()
