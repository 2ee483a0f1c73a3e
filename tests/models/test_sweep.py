"""The cache of models: what a card names or somebody uses stays, the rest goes after its days, or for want of room."""

import hashlib
import json
import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from models.artefact import Artefact, card_sha256, draft, find, key_of, store
from models.sweep import Keep, remove_unused
from models.weights import fetch, sha256_of

WEEK = Keep(timedelta(days=7), None)


def aged(folder, days):
    """As if nothing in it had been touched for so long."""
    then = time.time() - days * 86400
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))
    return folder


def weights_of(home, content, name="net.pt"):
    """In the cache: where they lie."""
    new = home.cache / "new"
    new.parent.mkdir(exist_ok=True)
    new.write_bytes(content)
    folder = home.cache / "weights" / sha256_of(new)
    folder.mkdir(parents=True, exist_ok=True)
    new.rename(folder / name)
    return folder


def exported(home, card, digest):
    """An artefact as registration leaves it: where it lies."""
    record = Artefact(
        key=key_of(card, home, "onnx", "cpu"), card=card.id, card_sha256=card_sha256(card), weights_sha256=digest,
        verified=True, family="onnx", precision="fp32", device="cpu", threads=1, main="net.onnx",
        verdicts={"openvino": {"passed": True}},
    )  # fmt: skip
    with draft(home) as scratch:
        files = Path(scratch) / "files"
        files.mkdir()
        (files / "net.onnx").write_bytes(b"graph")
        return store(record, files, home).folder


@pytest.fixture
def cached(home, card_of):
    """Make a card with weights in the cache and an artefact; both unused for ``days``."""

    def make(name, days, **parts):
        weights = weights_of(home, f"weights of {name}".encode())
        card = card_of(id=name, weights={"uri": "https://example.org/net.pt", "sha256": weights.name}, **parts)
        return card, [aged(weights, days), aged(exported(home, card, weights.name), days)]

    return make


def test_only_what_no_card_names_and_nobody_uses_goes(cached, home):
    named, kept = cached("named", 100)
    _, old = cached("old", 8)
    _, recent = cached("recent", 6)
    assert sorted(remove_unused(home, [named], WEEK)) == sorted(old)
    assert not any(folder.exists() for folder in old)
    assert all(folder.exists() for folder in (*kept, *recent))
    assert remove_unused(home, [named], WEEK) == []
    assert remove_unused(home, [], Keep(None, None)) == []
    left = sorted(path.name for path in home.artefacts.iterdir())
    assert left == sorted(folder.name for folder in (kept[1], recent[1]))


def test_of_a_card_that_was_replaced_the_old_artefact_goes(cached, home):
    """Its weights are those of the new card."""
    card, (weights, old) = cached("mine", 30)
    other = card.model_copy(update={"resources": card.resources.model_copy(update={"batch": 2})})
    new = aged(exported(home, other, weights.name), 30)
    assert remove_unused(home, [other], WEEK) == [old]
    assert (weights.exists(), new.exists()) == (True, True)


def test_what_a_card_only_says_of_itself_costs_it_no_artefact(cached, home):
    card, (_, artefact) = cached("mine", 30)
    renamed = card.model_copy(update={"title": "Another title"})
    assert card_sha256(renamed) != card_sha256(card)
    assert artefact not in remove_unused(home, [renamed], WEEK)


def test_what_is_used_counts_from_then_on(cached, home):
    """From the command line, say, by a card that the service does not know."""
    card, (weights, artefact) = cached("mine", 30)
    assert fetch(card.weights, home).path.parent == weights
    assert find(card, home).artefact.folder == artefact
    assert remove_unused(home, [], WEEK) == []
    aged(weights, 30)
    assert remove_unused(home, [], WEEK) == [weights]


def test_an_artefact_of_a_file_of_ones_own_stays_as_long_as_its_card_does(home, card_of, tmp_path):
    """Such weights never come into the cache."""
    (tmp_path / "own.pt").write_bytes(b"own")
    card = card_of(weights={"uri": str(tmp_path / "own.pt")})
    artefact = aged(exported(home, card, sha256_of(tmp_path / "own.pt")), 30)
    assert remove_unused(home, [card], WEEK) == []
    assert remove_unused(home, [], WEEK) == [artefact]


def test_a_config_at_an_address_stays_as_well(home, card_of):
    """It is pinned at its first load: fetched again it might be another one."""
    uri = "https://example.org/config.yaml"
    config = aged(weights_of(home, b"model: {}", "config.yaml"), 30)
    pin = home.cache / "pins" / f"{hashlib.sha256(uri.encode()).hexdigest()}.json"
    pin.parent.mkdir(parents=True)
    pin.write_text(json.dumps({"sha256": config.name}))
    card = card_of(network={"config": uri})
    assert remove_unused(home, [card], WEEK) == []
    assert remove_unused(home, [], WEEK) == [config]


def test_what_is_too_much_goes_before_its_days_the_oldest_first(home):
    folders = [aged(weights_of(home, bytes([n]) * 400_000), n) for n in (1, 2, 3)]
    fresh = weights_of(home, bytes(400_000))
    assert remove_unused(home, [], Keep(timedelta(days=7), 1.3)) == folders[2:]
    assert sorted(remove_unused(home, [], Keep(None, 0.1))) == sorted(folders[:2])
    assert fresh.exists()  # somebody may have fetched it a moment ago


def test_pins_and_the_mirror_stay(cached, home):
    for folder in ("pins", "mirror/example.org"):
        (home.cache / folder).mkdir(parents=True)
        (home.cache / folder / "file").write_text("{}")
        aged(home.cache / folder, 1000)
    cached("old", 1000)
    assert len(remove_unused(home, [], WEEK)) == 2
    assert (home.cache / "pins" / "file").exists()
    assert (home.cache / "mirror" / "example.org" / "file").exists()


def test_what_killed_processes_left_goes_after_a_day(home):
    drafts = [home.cache / "weights" / ".part-abc", home.artefacts / ".draft-abc"]
    for left in drafts:
        left.mkdir(parents=True)
        (left / "part").write_bytes(b"half")
    assert remove_unused(home, [], WEEK) == []
    for left in drafts:
        aged(left, 2)
    (drafts[1] / "part").write_bytes(b"a bit more")
    assert remove_unused(home, [], WEEK) == drafts[:1]


def test_a_cache_that_was_never_used_is_no_trouble(home):
    assert remove_unused(home, [], WEEK) == []
