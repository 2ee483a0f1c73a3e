"""Networks from elsewhere: uploads that are no imagery, a config read as a stranger's, a card of one's own."""

import pytest

from serve.desk.adoption import About, common_name
from serve.desk.asking import Asking
from swathe.errors import CardError, ConflictError, ImageryError, InputError, NotFoundError, SwatheError
from swathe.project import UploadState
from tests.pipelines.fault_server import Always, FaultServer, NoRange

CONFIG = """
model:
  class_path: terratorch.tasks.{task}
  init_args:
    model_factory: EncoderDecoderFactory
    model_args: {{backbone: prithvi_eo_tiny, backbone_bands: [BLUE, SWIR_1], decoder: FCNDecoder, num_classes: 2}}
    class_names: [ground, scar]
data: {{init_args: {{means: [{mean}, 0.2], stds: [0.1, 0.1]{more}}}}}
"""


def brought(desk, who, name, content):
    made = desk.uploads.begin(who, name)
    return desk.uploads.write(who, made.id, [content])


def adopted(hall, who, about=None, *, task="SemanticSegmentationTask", mean=0.1, more="", name="net"):
    text = CONFIG.format(task=task, mean=mean, more=more)
    config = brought(hall.desk, who, "c.yaml", text.encode())
    weights = brought(hall.desk, who, "w.ckpt", b"numbers")
    about = about or About(f"{name}-{who.user.id[-6:]}", "A network")
    return hall.desk.adoption.adopt(who, about, f"upload://{config.id}", f"upload://{weights.id}")


def test_files_of_a_training_are_kept_as_they_came_and_are_no_imagery(hall):
    ada = hall.person()
    made = brought(hall.desk, ada, "weights.ckpt", b"\x80\x04 whatever")
    assert (made.state, made.facts["plain"]) == (UploadState.READY, True)
    assert hall.desk.uploads.uri(ada, made.id).endswith("/weights.ckpt")
    with pytest.raises(ImageryError) as refused:
        hall.desk.jobs.submit(ada, Asking(model="water-ndwi", inputs=(f"upload://{made.id}",)))
    assert refused.value.problem.code == "upload.kind"
    with pytest.raises(NotFoundError):
        hall.desk.uploads.uri(hall.person(), made.id)


def test_imagery_is_no_checkpoint(hall, open_root):
    ada = hall.person()
    scene = brought(hall.desk, ada, "scene.tif", (open_root / "scene.tif").read_bytes())
    with pytest.raises(ConflictError):
        hall.desk.uploads.uri(ada, scene.id)


def test_a_config_and_weights_become_a_card_of_ones_own(hall):
    ada = hall.person()
    card = adopted(hall, ada).card
    assert (card.task, card.input.bands, card.input.scale) == ("segmentation", ("blue", "swir16"), 1.0)
    assert [c.name for c in card.output.classes] == ["ground", "scar"]
    assert card.network["factory"] == "EncoderDecoderFactory"
    assert card.resources.warm == 0
    assert "no mean of the config is larger than 2" in card.summary
    with pytest.raises(SwatheError):
        hall.desk.models.get(hall.person(), card.id)


@pytest.mark.parametrize(
    ("mean", "more", "factor", "scale"),
    [(0.1, "", None, 1.0), (900, "", None, 10_000.0), (0.1, ", constant_scale: 0.0001", None, 1.0),
     (0.1, "", 0.5, 5_000.0)],
)  # fmt: skip
def test_numbers_are_told_by_a_rule_that_is_named(hall, mean, more, factor, scale):
    ada = hall.person()
    about = About(f"n-{ada.user.id[-8:]}", "n", factor=factor)
    card = adopted(hall, ada, about, mean=mean, more=more).card
    assert card.input.scale == pytest.approx(scale)
    assert "Scale:" in card.summary


def test_what_makes_no_map_or_says_too_little_is_refused(hall):
    ada = hall.person()
    with pytest.raises(CardError):
        adopted(hall, ada, task="ClassificationTask")
    with pytest.raises(CardError) as refused:
        adopted(hall, ada, About("x-1", "x", bands=("blue",)))
    assert "2 means" in refused.value.detail
    assert (common_name("NIR_NARROW"), common_name("B8A"), common_name("vv"), common_name("indigo")) == (
        "nir08", "nir08", "vv", None)  # fmt: skip


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"PK\3\4 zip", None), (b"\x80\2 pickle", None), (b"\x08\0\0\0\0\0\0\0{      }", None),
     (b"<!doctype html>", "weights.content"), (b"", "weights.content"), (None, "read.gone")],
)  # fmt: skip
def test_weights_at_an_address_are_looked_at_before_a_card_is_made(front_of, tmp_path, content, code):
    front = front_of(allow_private_urls=True)
    ada = front.person()
    if content is not None:
        (tmp_path / "w.ckpt").write_bytes(content)
    (tmp_path / "c.yaml").write_text(CONFIG.format(task="SemanticSegmentationTask", mean=0.1, more=""))
    with FaultServer(tmp_path) as server:
        wish = About("far-net", "A network"), server.url("c.yaml"), f"{server.url('w.ckpt')}?token=secret"
        if code is None:
            assert front.desk.adoption.adopt(ada, *wish).card.weights is not None
            return
        with pytest.raises(SwatheError) as refused:
            front.desk.adoption.adopt(ada, *wish)
    assert refused.value.problem.code == code
    assert "secret" not in refused.value.problem.line()
    assert not [m for m in front.desk.models.listed(ada) if m.card.id == "far-net"]


def test_weights_of_a_server_without_ranges_are_believed(front_of, tmp_path):
    front = front_of(allow_private_urls=True)
    (tmp_path / "w.ckpt").write_bytes(b"PK\3\4" + bytes(2 << 20))
    (tmp_path / "c.yaml").write_text(CONFIG.format(task="SemanticSegmentationTask", mean=0.1, more=""))
    with FaultServer(tmp_path, Always(NoRange())) as server:
        adopted = front.desk.adoption.adopt(front.person(), About("far-net", "A network"), server.url("c.yaml"),
                                            server.url("w.ckpt"))  # fmt: skip
    assert adopted.card.id == "far-net"


def test_sources_are_listed_and_one_fits(hall):
    ada = hall.person()
    found = [card.id for card in hall.desk.sources.listed(ada)]
    assert found[0] == "earth-search-s2-c1-l2a"
    assert not {"local-catalogue", "local-folder", "private-stac", "private-tiles"} & set(found)
    water = hall.desk.models.get(ada, "water-mndwi").card
    assert hall.desk.sources.fitting(ada, water).id == "earth-search-s2-c1-l2a"
    burn = hall.desk.models.get(ada, "prithvi-eo-v2-300m-burnscars").card
    assert hall.desk.sources.fitting(ada, burn).id == "pc-hls-s30"
    with pytest.raises(InputError):
        hall.desk.sources.get(ada, "nowhere")
