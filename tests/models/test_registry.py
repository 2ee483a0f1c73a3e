"""Cards in folders: every mistake is named with its file and field."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError

import pytest

from models.registry import default_folders, load_cards, read_card
from swathe.errors import CardError, UnknownModelError

CARD = """\
id: {id}
title: A test
task: segmentation
adapter: artefact
network: {{kind: onnx}}
weights: {{uri: net.onnx}}
input: {{bands: [red, nir], chip: 64, overlap: 8}}
output:
  classes:
    - {{value: 0, name: land, colour: '#000000'}}
    - {{value: 1, name: water, colour: '#0000ff'}}
licence: Apache-2.0
citation: nobody
"""


@pytest.fixture
def folder(tmp_path):
    def write(name="water", text=CARD, below="cards"):
        path = tmp_path / below / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text.format(id=name))
        return path

    write.path = tmp_path / "cards"
    return write


def refused(path, code):
    with pytest.raises(CardError) as caught:
        load_cards([path.parent])
    problem = caught.value.problem
    assert problem.code == code
    assert str(path) in problem.detail
    return problem


def test_cards_are_read_with_their_origin(folder):
    path = folder()
    folder("ash", below="mine")
    registry = load_cards([folder.path, folder.path.parent / "mine", folder.path / "absent"])
    assert list(registry) == ["ash", "water"]
    assert registry["water"].origin == path.resolve()
    assert "origin" not in registry["water"].model_dump()
    assert len(registry) == 2
    assert "ash" in registry


def test_a_registry_is_a_frozen_value_that_travels(folder):
    folder()
    registry = load_cards([folder.path])
    assert pickle.loads(pickle.dumps(registry)) == registry
    with pytest.raises(FrozenInstanceError):
        registry.cards = {}


def test_an_unknown_id_is_answered_with_its_neighbours(folder):
    folder("water-mndwi")
    with pytest.raises(UnknownModelError) as caught:
        load_cards([folder.path])["watr-mndwi"]
    assert "water-mndwi" in caught.value.hint
    assert caught.value.problem.status == 404


def test_an_unknown_id_tells_where_was_looked(tmp_path):
    with pytest.raises(UnknownModelError, match="zebra") as caught:
        load_cards([tmp_path / "typo"])["zebra"]
    assert f"{tmp_path / 'typo'} (does not exist)" in caught.value.hint


def test_an_id_used_twice_names_both_files(folder):
    first, second = folder(), folder(below="mine")
    with pytest.raises(CardError) as caught:
        load_cards([first.parent, second.parent])
    assert caught.value.problem.code == "card.duplicate"
    assert str(first) in caught.value.detail
    assert str(second) in caught.value.detail


def test_the_file_bears_the_id(folder):
    path = folder()
    path = path.rename(path.with_name("fire.yaml"))
    assert "water.yaml" in refused(path, "card.name").hint


@pytest.mark.parametrize(
    ("old", "new", "field", "word"),
    [
        ("licence:", "license:", "licence", "licence: is missing"),
        ("chip: 64", "chips: 64", "input.chips", "no such field"),
        ("[red, nir]", "[red, B08]", "input.bands.1", "unknown band 'B08'"),
        ("'#0000ff'", "'blue'", "output.classes.1.colour", "colour"),
        ("value: 1", "value: 0", "output", "used twice"),
        ("overlap: 8", "overlap: 40", "input", "more than half"),
        ("chip: 64", "chip: 1000000", "input.chip", "65536"),
        ("chip: 64", "chip: 64, scale: 0", "input.scale", "greater than 0"),
        ("chip: 64", "chip: 64, scale: .inf", "input.scale", "finite"),
        ("chip: 64", "chip: 64, mean: [0, .nan]", "input.mean.1", "finite"),
        ("citation:", "origin: /etc/passwd\ncitation:", "origin", "no such field"),
    ],
)
def test_a_mistake_is_named_with_its_field(folder, old, new, field, word):
    assert old in CARD
    problem = refused(folder(text=CARD.replace(old, new)), "card.invalid")
    assert problem.field == field
    assert word in problem.detail


def test_what_stands_in_legends_is_one_line(folder):
    """What XML cannot hold would make a style that no map client reads."""
    text = CARD.replace("A test", '"A \\0 test\\r\\n"').replace("water,", '"wa\\x01ter",')
    card = read_card(folder(text=text))
    assert (card.title, card.output.classes[1].name) == ("A   test", "wa ter")


def test_a_misspelt_field_is_guessed(folder):
    assert refused(folder(text=CARD.replace("chip:", "chp:")), "card.invalid").hint == "did you mean chip?"


def test_an_unquoted_colour_is_explained(folder):
    text = CARD.replace(
        "{{value: 1, name: water, colour: '#0000ff'}}", "value: 1\n      name: water\n      colour: #00f"
    )
    assert "quote" in refused(folder(text=text), "card.invalid").hint


@pytest.mark.parametrize(
    "text",
    [
        "id: [",
        "just words",
        "",
        CARD + "id: again\n",
        "id: !!python/object/apply:os.system ['true']",
        "? [a, {{}}]\n: b",
        "\x00",
        "[" * 5000,
    ],
    ids=["broken", "no-mapping", "empty", "key-twice", "python-tag", "list-as-key", "control", "deep"],
)
def test_what_is_no_card_is_refused(folder, text):
    refused(folder(text=text), "card.yaml")


def test_an_unreadable_card_is_refused(tmp_path):
    with pytest.raises(CardError, match="No such file"):
        read_card(tmp_path / "gone.yaml")


def test_our_own_cards_hold_together(tmp_path):
    ours, user = default_folders(tmp_path / "mine")
    assert ours.parts[-2:] == ("configs", "models")
    assert user == tmp_path / "mine"
    for card in load_cards([ours, user]).values():
        assert card.licence
        assert card.citation
