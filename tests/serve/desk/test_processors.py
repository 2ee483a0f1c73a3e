"""Processors at the desk: looked at, kept, seen by whom they should be, named in jobs, deleted."""

import pytest

from pipelines.sandbox.isolation import Isolation, isolation
from pipelines.store.folder import FolderBlobs
from serve.desk.asking import Asking
from serve.desk.inputs import settled
from serve.store import uploads, users
from swathe.errors import ConflictError, ForbiddenError, InputError, LimitError, NotFoundError, StoreError
from swathe.project import UploadState
from swathe.user import Role

SCRIPT = b'if __name__ == "__main__":\n    pass\n'
FLAGS = b'# --input\nif __name__ == "__main__":\n    pass\n'
pytestmark = pytest.mark.skipif(isolation().walls is None, reason=f"no sandbox here: {isolation().detail}")


@pytest.fixture
def front(hall):
    return hall


def asked(id_, **parameters):
    return Asking.model_validate({"model": "water-ndwi", "inputs": ["https://a.example/x.tif"],
                                  "processor": {"id": id_, "parameters": parameters}})  # fmt: skip


def wish(front, caller, asking):
    return settled(asking.to_recipe(), front.desk.settings, front.desk.store, caller).recipe.processor


def test_a_script_is_kept_and_named_in_a_job(front):
    ada, desk = front.person(), front.desk.processors
    made = desk.add(ada, "../a/fill.py", SCRIPT, name="Fill", parameters={"a": 1, "b": 2}, labels={"x": 1})
    assert (made.file, made.name, made.call, made.size) == ("fill.py", "Fill", "positional", len(SCRIPT))
    assert desk.get(ada, made.id) == made
    assert made in desk.listed(ada).items
    found = wish(front, ada, asked(made.id, b=3))
    assert (found.content, found.parameters, found.title) == (SCRIPT, {"a": 1, "b": 3}, "Fill")
    assert found.about["id"] == made.id
    with front.desk.store.read() as c:
        assert uploads.stored_bytes(c, ada.user.id) == len(SCRIPT)


def test_deleted_ones_run_for_jobs_that_were_accepted(front):
    ada, desk = front.person(), front.desk.processors
    made = desk.add(ada, "a.py", SCRIPT)
    desk.delete(ada, made.id)
    for attempt in (lambda: desk.get(ada, made.id), lambda: wish(front, ada, asked(made.id)),
                    lambda: desk.content(ada, made.id, "a.py"), lambda: desk.delete(ada, made.id)):  # fmt: skip
        with pytest.raises(NotFoundError):
            attempt()
    assert made.id not in {p.id for p in desk.listed(ada).items}
    assert wish(front, None, asked(made.id)).content == SCRIPT


def test_others_do_not_see_it_unless_it_is_shared(front):
    ada, bob, viewer, desk = front.person(), front.person(), front.person(Role.VIEWER), front.desk.processors
    project = front.desk.projects.add(ada, "together", shared=True)
    own, shared = desk.add(ada, "a.py", SCRIPT), desk.add(ada, "b.py", SCRIPT, project=project.id)
    with pytest.raises(NotFoundError):
        desk.get(bob, own.id)
    with pytest.raises(NotFoundError):
        wish(front, bob, asked(own.id))
    assert desk.get(bob, shared.id) == shared
    assert {p.id for p in desk.listed(bob).items} >= {shared.id}
    assert own.id not in {p.id for p in desk.listed(bob).items}
    with pytest.raises(ForbiddenError):
        desk.delete(bob, shared.id)
    with pytest.raises(ForbiddenError):
        desk.add(viewer, "a.py", SCRIPT)


@pytest.mark.parametrize(
    ("file", "content", "more", "code"),
    [
        ("a.sh", SCRIPT, {}, "processor.name"),
        ("a.py", b"x = (", {}, "processor.syntax"),
        ("a.py", b"x = 1", {}, "processor.main"),
        ("a.py", FLAGS, {"parameters": {"a b": 1}}, "processor.parameters"),
        ("a.py", FLAGS, {"parameters": {"input": 1}}, "processor.parameters"),
        ("a.py", SCRIPT, {"parameters": {"a": "x" * 70_000}}, "processor.parameters"),
        ("a.py", SCRIPT, {"call": "shell"}, "processor.call"),
        ("a.py", SCRIPT, {"labels": {"a": "x" * 20_000}}, "limit.labels"),
        ("a.py", SCRIPT, {"project": "p" + "0" * 26}, "project.unknown"),
    ],
)
def test_what_is_no_processor_is_refused(front, file, content, more, code):
    with pytest.raises(InputError) as caught:
        front.desk.processors.add(front.person(), file, content, **more)
    assert caught.value.problem.code == code


def test_storage_counts(front):
    with pytest.raises(LimitError, match="MB"):
        front.desk.processors.add(front.person(storage_mb=1), "a.py", SCRIPT + b"# " + b"a" * 2_000_000)


def lying(front):
    """Ids of the scripts that are kept."""
    return {blob.name.partition("/")[0] for blob in front.desk.settings.blobs("processors").list()}


def storing(monkeypatch, meanwhile):
    """While a script is stored, something else happens."""
    put = FolderBlobs.put

    def slowly(blobs, name, content, **more):
        meanwhile()
        return put(blobs, name, content, **more)

    monkeypatch.setattr(FolderBlobs, "put", slowly)


def test_others_write_while_a_script_is_stored(front, monkeypatch):
    """Object storage may take minutes; a transaction that waited for it would keep everybody out."""

    def meanwhile():
        with front.desk.store.begin() as c:
            users.change(c, ada.user.id, name="Ada")

    ada = front.person()
    storing(monkeypatch, meanwhile)
    made = front.desk.processors.add(ada, "a.py", SCRIPT)
    assert made.id in lying(front)
    with front.desk.store.read() as c:
        assert users.get(c, ada.user.id).name == "Ada"


def test_a_script_whose_room_was_taken_meanwhile_does_not_stay(front, monkeypatch):
    def meanwhile():
        begun = front.desk.uploads.begin(ada, "large.tif")
        with front.desk.store.begin() as c:
            uploads.settle(c, begun.id, UploadState.READY, 900_000, "", {})

    ada, before = front.person(storage_mb=1), lying(front)
    storing(monkeypatch, meanwhile)
    with pytest.raises(LimitError):
        front.desk.processors.add(ada, "a.py", SCRIPT + b"#" * 200_000)
    assert lying(front) == before


def test_a_script_whose_row_may_stand_is_not_taken_away(front, monkeypatch):
    """A database that was lost at the end of a transaction has perhaps kept it."""

    def lost(*_, **__):
        raise StoreError("gone", code="store.unavailable")

    ada, before = front.person(), lying(front)
    monkeypatch.setattr("serve.desk.processors.audit.note", lost)
    with pytest.raises(StoreError):
        front.desk.processors.add(ada, "a.py", SCRIPT)
    assert len(lying(front) - before) == 1


def test_nothing_is_accepted_where_nothing_can_be_shut_in(front, monkeypatch):
    monkeypatch.setattr("pipelines.sandbox.isolation.isolation", lambda: Isolation("none", None, "no bubblewrap"))
    with pytest.raises(ConflictError) as caught:
        front.desk.processors.add(front.person(), "a.py", SCRIPT)
    assert caught.value.problem.code == "processor.isolation"


def test_a_link_opens_the_script(front):
    ada = front.person()
    made = front.desk.processors.add(ada, "a.py", SCRIPT)
    signed = front.desk.links.make(ada, "processor", made.id)
    caller, link = front.desk.links.open(signed.token, "a.py")
    content = front.desk.links.content(caller, link)
    assert b"".join(content.where.read(0, content.bytes)) == SCRIPT
