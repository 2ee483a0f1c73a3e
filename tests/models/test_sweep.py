"""The cache of models: what a card names or somebody uses stays, the rest goes after its days."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from models.artefact import Artefact, card_sha256, draft, find, key_of, store
from models.sweep import remove_unused
from models.weights import fetch, sha256_of
from swathe.card import Weights

WEEK = timedelta(days=7)


def aged(folder, days):
    """As if nothing in it had been touched for so long."""
    then = time.time() - days * 86400
    for path in (*folder.iterdir(), folder):
        os.utime(path, (then, then))
    return folder


@pytest.fixture
def cached(home, card_of):
    """Make a card with weights in the cache and an artefact; both unused for ``days``."""

    def make(name, days, **parts):
        content = home.cache / "new"
        content.parent.mkdir(exist_ok=True)
        content.write_bytes(f"weights of {name}".encode())
        digest = sha256_of(content)
        (home.cache / "weights" / digest).mkdir(parents=True)
        content.rename(home.cache / "weights" / digest / "net.pt")
        card = card_of(id=name, weights={"uri": "https://example.org/net.pt", "sha256": digest}, **parts)
        record = Artefact(
            key=key_of(card, home, "onnx", "cpu"), card=name, card_sha256=card_sha256(card), weights_sha256=digest,
            verified=True, family="onnx", precision="fp32", device="cpu", threads=1, main="net.onnx",
            verdicts={"openvino": {"passed": True}},
        )  # fmt: skip
        with draft(home) as scratch:
            files = Path(scratch) / "files"
            files.mkdir()
            (files / "net.onnx").write_bytes(b"graph")
            made = store(record, files, home)
        return card, [aged(home.cache / "weights" / digest, days), aged(made.folder, days)]

    return make


def test_only_what_no_card_names_and_nobody_uses_goes(cached, home):
    named, kept = cached("named", 100)
    _, old = cached("old", 8)
    _, recent = cached("recent", 6)
    assert sorted(remove_unused(home, [named], WEEK)) == sorted(old)
    assert not any(folder.exists() for folder in old)
    assert all(folder.exists() for folder in (*kept, *recent))
    assert remove_unused(home, [named], WEEK) == []


def test_what_is_used_counts_from_then_on(cached, home):
    """From the command line, say, by a card that the service does not know."""
    card, (weights, artefact) = cached("mine", 30)
    assert fetch(card.weights, home).path.parent == weights
    assert find(card, home).artefact.folder == artefact
    assert remove_unused(home, [], WEEK) == []
    aged(weights, 30)
    assert remove_unused(home, [], WEEK) == [weights]


def test_an_artefact_of_a_file_of_ones_own_stays_as_long_as_its_card_does(cached, home, tmp_path):
    """Such weights never come into the cache, so that nothing there bears their hash."""
    card, (_, artefact) = cached("own", 30)
    own = card.model_copy(update={"weights": Weights(uri=str(tmp_path / "own.pt"))})
    record = artefact / "artefact.json"
    record.write_text(record.read_text().replace(card_sha256(card), card_sha256(own)))
    aged(artefact, 30)
    assert artefact not in remove_unused(home, [own], WEEK)
    assert remove_unused(home, [], WEEK) == [artefact]


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
    for draft_ in drafts:
        draft_.mkdir(parents=True)
        (draft_ / "part").write_bytes(b"half")
    assert remove_unused(home, [], WEEK) == []
    for draft_ in drafts:
        aged(draft_, 2)
    (drafts[1] / "part").write_bytes(b"a bit more")
    assert remove_unused(home, [], WEEK) == drafts[:1]


def test_a_cache_that_was_never_used_is_no_trouble(home):
    assert remove_unused(home, [], WEEK) == []
