"""Publications carried out: after the end, again after trouble, anew after a resume, and away with the job."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import rasterio
from affine import Affine

from pipelines.runner import Loop
from serve.desk.jobs import Jobs
from serve.desk.layers import Layers
from serve.desk.models import Models
from serve.running.attempt import Hired, attempt
from serve.running.publishing import TRIES, Publishing
from serve.store import jobs, publications
from swathe.errors import ConflictError, ServiceError
from swathe.job import JobState
from swathe.publication import Publication, PublicationState
from swathe.sld import Colour


class Shown:
    """A map server that keeps what it is given, and is in the mood that a test sets."""

    def __init__(self):
        self.layers, self.trouble, self.away, self.fault, self.foreign = {}, None, None, "", set()

    def expect_free(self, wanted):
        if wanted.full_name in self.foreign:
            raise wanted.taken()

    def publish(self, wanted, raster, sld):
        if wanted.name == self.fault:
            raise KeyError(self.fault)
        self.layers[wanted.full_name] = (raster.read_bytes(), sld)
        if self.trouble is not None:
            raise self.trouble
        return f"https://maps.example.org/{wanted.name}"

    def withdraw(self, gone):
        if self.away is not None:
            raise self.away
        self.layers.pop(gone.full_name, None)


@pytest.fixture
def shown():
    return Shown()


@pytest.fixture
def turn(world, shown, monkeypatch):
    """One turn of whoever publishes; nobody waits between two tries."""
    monkeypatch.setattr("serve.running.publishing._WAIT_S", 0.0)
    models = Models(world.settings, world.store)
    return Publishing(world.settings, world.store, shown, Layers(world.settings, Jobs(world.settings, world.store,
                                                                                    models), models)).turn  # fmt: skip


def wished(world, id_, name="water", files=(), colours=()):
    with world.store.begin() as c:
        publications.add(c, [Publication("", id_, "lagoon", name, files, colours, "values")])


@contextmanager
def loop(card, held):
    yield Hired(Loop(), "loop")


def ran(world, id_):
    """Carried out in this process."""
    with world.store.begin() as c:
        hold = jobs.take(c, id_, "a", 60)
    attempt(world.settings, world.store, hold, loop)
    assert world.job(id_).state is JobState.DONE


def ended(world, name="water", **wish):
    """A job that is done and waits to be published; its id."""
    id_ = world.submit()
    wished(world, id_, name, **wish)
    ran(world, id_)
    return id_


def one_of(world, id_):
    with world.store.read() as c:
        return publications.of_job(c, id_)[0]


def test_it_is_published_once_the_job_has_ended(world, shown, turn):
    id_ = world.submit()
    wished(world, id_)
    assert turn() == 0
    assert one_of(world, id_).state is PublicationState.WAITING
    ran(world, id_)
    assert (turn(), turn()) == (1, 0)
    raster, sld = shown.layers["lagoon:water"]
    assert raster == (world.folder(id_) / "result.tif").read_bytes()
    assert 'quantity="1" label="water"' in sld
    found = one_of(world, id_)
    assert (found.state, found.url) == (PublicationState.PUBLISHED, "https://maps.example.org/water")
    assert any("published as lagoon:water" in line.message for line in world.told(id_)[2])


def test_colours_and_files_that_were_wished(world, shown, turn):
    ended(world, files=("masked.tif", "result.tif"), colours=(Colour(1, "#123456", 0.5, "wet"),))
    turn()
    assert 'color="#123456" opacity="0.5" quantity="1" label="wet"' in shown.layers["lagoon:water"][1]


def test_a_picture_is_shown_in_its_own_colours(world, shown, turn):
    data, path = np.random.default_rng(2).integers(0, 255, (3, 64, 64), "uint8"), world.scene.with_name("ortho.tif")
    with rasterio.open(path, "w", driver="GTiff", width=64, height=64, count=3, dtype="uint8", crs="EPSG:32633",
                       transform=Affine(10, 0, 500_000, 0, -10, 5_600_000)) as file:  # fmt: skip
        file.write(data)
    id_ = world.submit(model="image-as-it-is", inputs=[str(path)])
    wished(world, id_, colours=(Colour(1, "#123456", 0.5, "wet"),))
    ran(world, id_)
    assert turn() == 1
    raster, sld = shown.layers["lagoon:water"]
    assert "ColorMapEntry" not in sld
    with rasterio.MemoryFile(raster).open() as file:
        assert (file.read() == data).all()


def test_trouble_passes_and_is_told_until_then(world, shown, turn):
    id_ = ended(world)
    shown.trouble = ServiceError("the GeoServer cannot be used: Timeout", code="publication.unreachable")
    assert turn() == 0
    found = one_of(world, id_)
    assert (found.state, found.problem["code"], found.tries) == (PublicationState.WAITING,
                                                                 "publication.unreachable", 1)  # fmt: skip
    shown.trouble = None
    assert turn() == 1
    found = one_of(world, id_)
    assert (found.state, found.problem, found.tries) == (PublicationState.PUBLISHED, None, 0)


def test_it_is_given_up_after_many_tries(world, shown, turn):
    id_ = ended(world)
    shown.trouble = ServiceError("no", code="publication.refused")
    for _ in range(TRIES + 1):
        turn()
    found = one_of(world, id_)
    assert (found.state, found.problem["code"]) == (PublicationState.FAILED, "publication.refused")
    shown.trouble = None
    assert turn() == 0
    with world.store.begin() as c:
        jobs.finish(c, resumed(c, id_), JobState.DONE, world.job(id_).result, 1)
    assert turn() == 1, "a new end is a new chance"
    assert one_of(world, id_).state is PublicationState.PUBLISHED


def test_what_is_to_go_is_never_given_up(world, shown, turn):
    id_ = ended(world)
    turn()
    with world.store.begin() as c:
        jobs.drop(c, id_)
    shown.away = ServiceError("no", code="publication.refused")
    assert [turn() for _ in range(TRIES + 1)] == [0] * (TRIES + 1)
    shown.away = None
    assert turn() == 1


def test_one_that_stumbles_keeps_no_other_waiting(world, shown, turn):
    first, second = ended(world, "first"), ended(world, "second")
    shown.fault = "first"
    assert turn() == 1
    assert one_of(world, second).state is PublicationState.PUBLISHED
    assert one_of(world, first).problem["code"] == "internal"


@pytest.mark.parametrize(("files", "foreign", "code"), [
    (("nothing.tif",), (), "publication.nothing"), ((), ("lagoon:water",), "publication.taken")])  # fmt: skip
def test_what_cannot_be_published_is_told_at_once(world, shown, turn, files, foreign, code):
    id_ = ended(world, files=files)
    shown.foreign.update(foreign)
    assert turn() == 0
    found = one_of(world, id_)
    assert (found.state, found.problem["code"]) == (PublicationState.FAILED, code)
    assert shown.layers == {}


def test_a_new_end_is_published_anew(world, shown, turn):
    id_ = ended(world)
    turn()
    shown.layers.clear()
    with world.store.begin() as c:  # as after a resume: one event more, and an end
        jobs.finish(c, resumed(c, id_), JobState.DONE, world.job(id_).result, 1)
    assert turn() == 1
    assert list(shown.layers) == ["lagoon:water"]


def resumed(c, id_):
    from sqlalchemy import update

    from serve.store import tables

    c.execute(update(tables.jobs).where(tables.jobs.c.id == id_).values(state=JobState.INCOMPLETE.value))
    jobs.resume(c, id_)
    return jobs.take(c, id_, "again", 60)


def test_it_goes_with_the_job(world, shown, turn):
    id_ = ended(world)
    turn()
    with world.store.begin() as c:
        jobs.drop(c, id_)
    assert turn() == 1
    assert shown.layers == {}
    with world.store.read() as c:
        assert publications.due(c, 10) == []


def test_a_job_that_is_removed_while_it_is_published_is_taken_away(world, shown, turn):
    id_ = ended(world)

    def removed(*_):
        with world.store.begin() as c:
            jobs.drop(c, id_)
        raise ServiceError("no", code="publication.refused")

    shown.expect_free = removed
    assert (turn(), turn()) == (0, 1)
    with world.store.read() as c:
        assert publications.due(c, 10) == []


def test_nothing_foreign_is_taken_away_with_a_job_that_never_ended(world, shown, turn):
    id_ = world.submit()
    wished(world, id_)
    shown.layers["lagoon:water"] = (b"somebody else's", "")
    with world.store.begin() as c:
        jobs.cancel(c, id_)
        jobs.drop(c, id_)
    assert turn() == 1
    assert "lagoon:water" in shown.layers


def test_a_name_is_given_once(world):
    first, second = world.submit(), world.submit()
    wished(world, first)
    with pytest.raises(ConflictError) as refused:
        wished(world, second)
    assert refused.value.problem.code == "publication.taken"
    assert replace(one_of(world, first), id="").job == first
