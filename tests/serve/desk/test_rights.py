"""Who may do what: every use case of the desk against everybody who might try it."""

import itertools
import threading
from dataclasses import dataclass

import pytest

from serve.desk import rights
from serve.desk.desk import Desk
from serve.desk.labels import LONGEST_LABELS
from serve.store import ids, processors
from swathe.errors import (
    AccessError,
    ConflictError,
    ForbiddenError,
    InputError,
    LimitError,
    NotFoundError,
    UnknownModelError,
)
from swathe.job import JobState
from swathe.recipe import Radiometry
from swathe.user import SCOPES_OF, Caller, Role, Scope

OK, MISSING, FORBIDDEN = "ok", "missing", "forbidden"
NUMBERS = itertools.count()
CARD = {
    "id": "mine", "title": "Mine", "task": "segmentation", "adapter": "artefact", "network": {"output": "logits"},
    "weights": {"uri": "https://a.example/net.onnx"}, "input": {"bands": ["red"], "chip": 64, "overlap": 8},
    "output": {"classes": [{"value": 0, "name": "no", "colour": "#000000"}, {"value": 1, "name": "yes",
                                                                            "colour": "#ffffff"}]},
    "licence": "MIT", "citation": "none",
}  # fmt: skip


@dataclass
class Case:
    """One use case: how it is tried, and what becomes of it for (owner, stranger, viewer, admin, key without scope)."""

    call: object
    ends: tuple


READ = (OK, MISSING, MISSING, OK, FORBIDDEN)
"""Of one thing that somebody owns."""
WRITE = (OK, MISSING, FORBIDDEN, OK, FORBIDDEN)
"""The same, where viewers are told that they change nothing."""
OPEN = (OK, OK, OK, OK, FORBIDDEN)
"""What everybody may do for themselves."""
MAKE = (OK, OK, FORBIDDEN, OK, FORBIDDEN)
"""The same, but for viewers."""
ADMIN = (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK, FORBIDDEN)

CASES = {
    "jobs.get": Case(lambda d, w, t: d.jobs.get(w, t.job), READ),
    "jobs.events": Case(lambda d, w, t: d.jobs.events(w, t.job), READ),
    "jobs.logs": Case(lambda d, w, t: d.jobs.logs(w, t.job), READ),
    "jobs.files": Case(lambda d, w, t: d.jobs.files(w, t.done), READ),
    "jobs.open": Case(lambda d, w, t: d.jobs.open(w, t.done, "item.json"), READ),
    "jobs.item": Case(lambda d, w, t: d.jobs.item(w, t.done), READ),
    "jobs.listed": Case(lambda d, w, t: d.jobs.listed(w), OPEN),
    "jobs.cancel": Case(lambda d, w, t: d.jobs.cancel(w, t.job), WRITE),
    "jobs.resume": Case(lambda d, w, t: d.jobs.resume(w, t.failed), WRITE),
    "jobs.drop": Case(lambda d, w, t: d.jobs.drop(w, t.done), WRITE),
    "projects.add": Case(lambda d, w, t: d.projects.add(w, "new"), MAKE),
    "projects.get": Case(lambda d, w, t: d.projects.get(w, t.project), READ),
    "projects.listed": Case(lambda d, w, t: d.projects.listed(w), OPEN),
    "projects.change": Case(lambda d, w, t: d.projects.change(w, t.project, name="other"), WRITE),
    "projects.drop": Case(lambda d, w, t: d.projects.drop(w, t.project), WRITE),
    "uploads.begin": Case(lambda d, w, t: d.uploads.begin(w, "x.tif"), MAKE),
    "uploads.begin in a project": Case(lambda d, w, t: d.uploads.begin(w, "x.tif", t.project), WRITE),
    "uploads.write": Case(lambda d, w, t: d.uploads.write(w, t.upload, [b"x"]), WRITE),
    "uploads.address": Case(lambda d, w, t: d.uploads.address(w, t.upload), WRITE),
    "uploads.get": Case(lambda d, w, t: d.uploads.get(w, t.upload), (OK, MISSING, FORBIDDEN, OK, FORBIDDEN)),
    "uploads.listed": Case(lambda d, w, t: d.uploads.listed(w), MAKE),
    "uploads.drop": Case(lambda d, w, t: d.uploads.drop(w, t.upload), WRITE),
    "models.listed": Case(lambda d, w, t: d.models.listed(w), OPEN),
    "models.get": Case(lambda d, w, t: d.models.get(w, t.model), READ),
    "models.add": Case(lambda d, w, t: d.models.add(w, CARD | {"id": f"new-{t.number}"}), MAKE),
    "models.change": Case(lambda d, w, t: d.models.change(w, t.model, enabled=False), WRITE),
    "models.change of a shipped one": Case(lambda d, w, t: d.models.change(w, "snow-ndsi", enabled=True), ADMIN),
    "models.change to shared": Case(lambda d, w, t: d.models.change(w, t.model, shared=True),
                                    (FORBIDDEN, MISSING, FORBIDDEN, OK, FORBIDDEN)),
    "models.drop": Case(lambda d, w, t: d.models.drop(w, t.model), WRITE),
    "keys.make": Case(lambda d, w, t: d.keys.make(w), MAKE),
    "keys.make for somebody": Case(lambda d, w, t: d.keys.make(w, user=t.user), WRITE),
    "keys.listed": Case(lambda d, w, t: d.keys.listed(w), MAKE),
    "keys.listed of somebody": Case(lambda d, w, t: d.keys.listed(w, t.user), WRITE),
    "keys.change": Case(lambda d, w, t: d.keys.change(w, t.key, active=False), WRITE),
    "keys.drop": Case(lambda d, w, t: d.keys.drop(w, t.key), WRITE),
    "users.add": Case(lambda d, w, t: d.users.add(w, f"new{t.number}@example.org"), ADMIN),
    "users.listed": Case(lambda d, w, t: d.users.listed(w), ADMIN),
    "users.get": Case(lambda d, w, t: d.users.get(w, t.user), (OK, MISSING, MISSING, OK, OK)),
    "users.change of a name": Case(lambda d, w, t: d.users.change(w, t.user, name="N"), (OK, MISSING, MISSING, OK, OK)),
    "users.change of a role": Case(lambda d, w, t: d.users.change(w, t.user, role=Role.ADMIN),
                                   (FORBIDDEN, MISSING, MISSING, OK, FORBIDDEN)),
    "usage.of": Case(lambda d, w, t: d.usage.of(w, t.user), (OK, MISSING, MISSING, OK, OK)),
    "audit.listed": Case(lambda d, w, t: d.audit.listed(w), (OK, OK, OK, OK, OK)),
    "audit.listed of somebody": Case(lambda d, w, t: d.audit.listed(w, user=t.user), (OK, MISSING, MISSING, OK, OK)),
    "predictions.of_image": Case(lambda d, w, t: d.predictions.of_image(w, "water-ndwi", None, Radiometry()), MAKE),
    "catalogue.owner_of": Case(lambda d, w, t: d.catalogue.owner_of(w), OPEN),
    "catalogue.item": Case(lambda d, w, t: d.catalogue.item(w, "imagery", t.item), READ),
    "catalogue.drop": Case(lambda d, w, t: d.catalogue.drop(w, "imagery", t.item), WRITE),
    "jobs.content": Case(lambda d, w, t: d.jobs.content(w, t.done, "item.json"), READ),
    "jobs.file_name": Case(lambda d, w, t: d.jobs.file_name(w, t.done, "item.json"), READ),
    "jobs.log": Case(lambda d, w, t: d.jobs.log(w, t.job), READ),
    "jobs.publications": Case(lambda d, w, t: d.jobs.publications(w, t.job), READ),
    "jobs.hooks": Case(lambda d, w, t: d.jobs.hooks(w, t.job), READ),
    "jobs.log_name": Case(lambda d, w, t: d.jobs.log_name(w, t.job), READ),
    "archives.named": Case(lambda d, w, t: d.archives.named(w, t.done), READ),
    "archives.content": Case(lambda d, w, t: d.archives.content(w, t.done), READ),
    "layers.of": Case(lambda d, w, t: d.layers.of(d.jobs.get(w, t.done)), READ),
    "layers.of_job": Case(lambda d, w, t: d.layers.of_job(w, t.done), READ),
    "layers.listed": Case(lambda d, w, t: d.layers.listed(w), OPEN),
    "links.make": Case(lambda d, w, t: d.links.make(w, "log", t.job), READ),
    "batches.submit": Case(lambda d, w, t: d.batches.submit(w, []), MAKE),
    "batches.get": Case(lambda d, w, t: d.batches.get(w, t.batch), READ),
    "batches.events": Case(lambda d, w, t: d.batches.events(w, t.batch), READ),
    "batches.listed": Case(lambda d, w, t: d.batches.listed(w), OPEN),
    "batches.label": Case(lambda d, w, t: d.batches.label(w, t.batch, {"a": 1}), WRITE),
    "batches.cancel": Case(lambda d, w, t: d.batches.cancel(w, t.batch), WRITE),
    "batches.drop": Case(lambda d, w, t: d.batches.drop(w, t.batch), WRITE),
    "presets.add": Case(lambda d, w, t: d.presets.add(w, "recipe", "mine"), MAKE),
    "presets.get": Case(lambda d, w, t: d.presets.get(w, t.preset), READ),
    "presets.listed": Case(lambda d, w, t: d.presets.listed(w, "recipe"), OPEN),
    "presets.expect_changeable": Case(lambda d, w, t: d.presets.expect_changeable(w, t.preset), WRITE),
    "presets.change": Case(lambda d, w, t: d.presets.change(w, t.preset, name="other"), WRITE),
    "presets.change to shared": Case(lambda d, w, t: d.presets.change(w, t.preset, shared=True),
                                     (FORBIDDEN, FORBIDDEN, FORBIDDEN, OK, FORBIDDEN)),
    "presets.drop": Case(lambda d, w, t: d.presets.drop(w, t.preset), WRITE),
    "processors.get": Case(lambda d, w, t: d.processors.get(w, t.processor), WRITE),
    "processors.file_name": Case(lambda d, w, t: d.processors.file_name(w, t.processor, ""), WRITE),
    "processors.listed": Case(lambda d, w, t: d.processors.listed(w), MAKE),
    "processors.delete": Case(lambda d, w, t: d.processors.delete(w, t.processor), WRITE),
    "sources.listed": Case(lambda d, w, t: d.sources.listed(w), OPEN),
    "sources.get": Case(lambda d, w, t: d.sources.get(w, "earth-search-s2-l2a"), OPEN),
    "uploads.content_name": Case(lambda d, w, t: d.uploads.content_name(w, t.upload), WRITE),
}  # fmt: skip
ELSEWHERE = {
    "jobs.estimate", "jobs.submit", "jobs.again", "models.usable", "models.enabled", "uploads.arrived",
    "uploads.expire", "keys.open", "users.of_token", "catalogue.register", "catalogue.view", "predictions.of_asking",
    "uploads.images", "adoption.adopt", "batches.plan_next", "batches.waiting", "layers.draw", "layers.get",
    "layers.read", "links.content", "links.kinds", "links.offer", "links.open", "links.renewed", "models.card",
    "batches.clear", "batches.new_id", "batches.milestones", "jobs.clear", "models.shared",
    "processors.add", "processors.content", "sources.fitting", "sources.scenes", "uploads.content", "uploads.uri",
    "uploads.drawn", "uploads.file", "uploads.moments", "uploads.one_by_one", "processors.clear",
}  # fmt: skip
"""Use cases that need more than a caller and are tried below, or in the tests of their module."""


class Things:
    """What the first of some people has; made when it is asked for."""

    def __init__(self, front, image):
        self.front, self.image, self.owner, self.number = front, image, front.person(), next(NUMBERS)
        viewer, admin = front.person(Role.VIEWER), front.person(Role.ADMIN)
        self.people = (self.owner, front.person(), viewer, admin, Caller(self.owner.user, frozenset()))

    user = property(lambda self: self.owner.user.id)
    job = property(lambda self: self.front.job(self.owner).id)
    failed = property(lambda self: self.front.job(self.owner, JobState.FAILED).id)
    done = property(lambda self: self.front.left(self.owner, {"item.json": b"{}"}).id)
    project = property(lambda self: self.front.desk.projects.add(self.owner, "maps").id)
    upload = property(lambda self: self.front.desk.uploads.begin(self.owner, "scene.tif").id)
    key = property(lambda self: self.front.desk.keys.make(self.owner)[0].id)
    model = property(lambda self: self.front.desk.models.add(self.owner, CARD | {"id": f"mine-{self.number}"}).card.id)

    batch = property(lambda self: self.front.desk.batches.submit(self.owner, []).id)
    preset = property(lambda self: self.front.desk.presets.add(self.owner, "recipe", "mine").id)

    @property
    def processor(self):
        """Put into the store by hand: a machine that cannot shut a script in takes none."""
        with self.front.desk.store.begin() as c:
            return processors.add(c, self.user, id=ids.new("r"), name="turn", description="", file="turn.py", size=1,
                                  call="", parameters={}, labels={}, sha256="0" * 64).id  # fmt: skip

    @property
    def item(self):
        uploads, begun = self.front.desk.uploads, self.upload
        uploads.write(self.owner, begun, [self.image().read_bytes()])
        (entry,) = self.front.desk.catalogue.register(self.owner, begun, when="2024-07-25")
        return entry["id"]


def end_of(call, desk, caller, things):
    try:
        call(desk, caller, things)
    except (NotFoundError, UnknownModelError):
        return MISSING
    except ForbiddenError:
        return FORBIDDEN
    return OK


@pytest.mark.parametrize("name", CASES)
def test_everybody_may_do_what_is_theirs_and_no_more(hall, image, name):
    ends = []
    for i in range(len(CASES[name].ends)):
        things = Things(hall, image)
        ends.append(end_of(CASES[name].call, hall.desk, things.people[i], things))
    assert tuple(ends) == CASES[name].ends


def test_no_use_case_is_left_out(front):
    rooms = {name: room for name, room in vars(front.desk).items() if name not in {"settings", "store"}}
    known = {f"{name}.{verb}" for name, room in rooms.items() for verb in vars(type(room)) if not verb.startswith("_")}
    assert known == {name.partition(" ")[0] for name in CASES} | ELSEWHERE
    assert set(vars(Desk(front.desk.settings, front.desk.store))) == {*rooms, "settings", "store"}


def test_a_shared_project_lets_everybody_look_and_nobody_change(front):
    owner, others = front.person(), (front.person(), front.person(Role.VIEWER))
    project = front.desk.projects.add(owner, "maps", shared=True)
    job = front.left(owner, {"item.json": b"{}"}, project=project.id)
    for other in others:
        assert front.desk.jobs.get(other, job.id).id == job.id
        assert [j.id for j in front.desk.jobs.listed(other).items] == [job.id]
        assert front.desk.projects.get(other, project.id).name == "maps"
        for change in (lambda w: front.desk.jobs.drop(w, job.id), lambda w: front.desk.projects.drop(w, project.id)):
            with pytest.raises(ForbiddenError):
                change(other)


def test_scopes_of_a_key_do_not_outlive_a_role(front):
    """A member's key, whose user was made a viewer since: the role cuts it."""
    admin, member = front.person(Role.ADMIN), front.person()
    _, secret = front.desk.keys.make(member)
    assert Scope.JOBS_WRITE in front.desk.keys.open(secret).scopes
    front.desk.users.change(admin, member.user.id, role=Role.VIEWER)
    assert front.desk.keys.open(secret).scopes == SCOPES_OF[Role.VIEWER]
    stale = Caller(front.desk.users.get(admin, member.user.id), SCOPES_OF[Role.MEMBER])
    with pytest.raises(ForbiddenError):
        rights.require(stale, Scope.JOBS_WRITE)


def test_no_key_makes_a_stronger_one(front):
    admin, member = front.person(Role.ADMIN), front.person()
    _, narrow = front.desk.keys.make(member, scopes=[Scope.KEYS, Scope.JOBS_READ])
    caller = front.desk.keys.open(narrow)
    made, _ = front.desk.keys.make(caller)
    assert made.scopes == {Scope.KEYS, Scope.JOBS_READ}
    for wanted in ([Scope.JOBS_WRITE], [Scope.ADMIN]):
        with pytest.raises(ForbiddenError):
            front.desk.keys.make(caller, scopes=wanted)
    with pytest.raises(ForbiddenError):
        front.desk.keys.make(admin, scopes=[Scope.ADMIN], user=member.user.id)
    small = Caller(admin.user, frozenset({Scope.KEYS}))
    with pytest.raises(NotFoundError):
        front.desk.keys.make(small, user=member.user.id)


def test_a_user_has_so_many_keys_and_no_more(limited):
    """One that is switched off counts, as it can be switched on again; one that has expired does not."""
    front = limited(keys_per_user=3)
    admin, member = front.person(Role.ADMIN), front.person()
    off, _ = front.desk.keys.make(member)
    front.desk.keys.change(member, off.id, active=False)
    for days in (None, -1, 1):
        front.desk.keys.make(member, days=days)
    with pytest.raises(LimitError, match="you have 3 keys, 3 are allowed") as caught:
        front.desk.keys.make(member)
    assert caught.value.problem.code == "limit.keys"
    assert front.desk.keys.make(admin, user=member.user.id)
    assert [bool(front.desk.keys.make(admin)) for _ in range(5)] == [True] * 5
    assert front.desk.keys.make(front.person())
    for key in (off, front.desk.keys.listed(member)[-1]):
        front.desk.keys.drop(member, key.id)
    assert front.desk.keys.make(member)


def test_keys_that_are_made_at_once_are_no_more_either(limited):
    front = limited(keys_per_user=3)
    member, ends = front.person(), []

    def make():
        try:
            ends.append(bool(front.desk.keys.make(member)))
        except LimitError as error:
            ends.append(error.problem.code)

    threads = [threading.Thread(target=make) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ends)) == ["True"] * 3 + ["limit.keys"] * 3


def test_a_user_has_so_many_projects_and_no_more(limited):
    front = limited(projects_per_user=2)
    member, other = front.person(), front.person()
    first, _ = (front.desk.projects.add(member, name) for name in ("a", "b"))
    with pytest.raises(LimitError, match="you have 2 projects, 2 are allowed") as caught:
        front.desk.projects.add(member, "c")
    assert caught.value.problem.code == "limit.projects"
    assert front.desk.projects.add(other, "c")
    front.desk.projects.drop(member, first.id)
    assert front.desk.projects.add(member, "c")


def test_labels_are_short_whatever_they_are_of(hall):
    """They are answered in lists, and those of a shared project in everybody's."""
    member, fits = hall.person(), {"a": "x" * (LONGEST_LABELS - 9)}
    project = hall.desk.projects.add(member, "maps", labels=fits)
    assert hall.desk.projects.change(member, project.id, labels=fits).labels == fits
    assert hall.desk.uploads.begin(member, "scene.tif", labels=fits).labels == fits
    for wish in (lambda long: hall.desk.projects.add(member, "more", labels=long),
                 lambda long: hall.desk.projects.change(member, project.id, labels=long),
                 lambda long: hall.desk.uploads.begin(member, "scene.tif", labels=long)):  # fmt: skip
        with pytest.raises(LimitError) as caught:
            wish({"a": "x" * (LONGEST_LABELS - 8)})
        assert (caught.value.problem.code, caught.value.field) == ("limit.labels", "labels")


def test_keys_that_open_nothing_are_all_told_the_same(front):
    member, admin = front.person(), front.person(Role.ADMIN)
    off, off_text = front.desk.keys.make(member)
    front.desk.keys.change(member, off.id, active=False)
    gone, gone_text = front.desk.keys.make(member)
    front.desk.keys.drop(member, gone.id)
    _, late = front.desk.keys.make(member, days=-1)
    left = front.person()
    _, left_text = front.desk.keys.make(left)
    front.desk.users.change(admin, left.user.id, active=False)
    _, good = front.desk.keys.make(member)
    said = set()
    for text in (
        off_text,
        gone_text,
        late,
        left_text,
        good[:-1] + ("a" if good[-1] != "a" else "b"),
        "",
        "swk-",
        "x" * 9000,
    ):
        with pytest.raises(AccessError) as caught:
            front.desk.keys.open(text)
        said.add((caught.value.detail, caught.value.problem.code, caught.value.hint))
    assert len(said) == 1
    assert front.desk.keys.open(good).user.id == member.user.id


def test_the_last_administrator_stays(front):
    admin = front.person(Role.ADMIN)
    for step in ({"role": Role.MEMBER}, {"active": False}):
        with pytest.raises(ConflictError, match="last administrator"):
            front.desk.users.change(admin, admin.user.id, **step)
    other = front.person(Role.ADMIN)
    assert front.desk.users.change(other, admin.user.id, role=Role.MEMBER).role is Role.MEMBER


def test_a_token_s_user_is_made_once_and_never_takes_over_another(front):
    claims = {"iss": "https://id.example", "sub": "7", "email": "New@example.org", "email_verified": True, "name": "N"}
    first = front.desk.users.of_token(claims)
    assert (first.user.email, first.user.role, first.key) == ("new@example.org", Role.MEMBER, None)
    assert front.desk.users.of_token(claims | {"email": "moved@example.org"}).user == first.user
    with pytest.raises(ConflictError):
        front.desk.users.of_token(claims | {"sub": "8"})
    unverified = front.desk.users.of_token(claims | {"sub": "9", "email_verified": False})
    assert unverified.user.email == "9@id.example"
    silent = {name: value for name, value in claims.items() if name != "email_verified"} | {"sub": "10"}
    assert front.desk.users.of_token(silent).user.email == "10@id.example"  # and takes nobody's address
    admin = front.person(Role.ADMIN)
    front.desk.users.change(admin, first.user.id, active=False)
    with pytest.raises(AccessError):
        front.desk.users.of_token(claims)


def test_every_change_is_in_the_audit_log_and_no_secret(front, image):
    things = Things(front, image)
    admin = things.people[3]
    assert things.item
    assert things.project
    assert things.model
    _, secret = front.desk.keys.make(things.owner, label="laptop")
    with pytest.raises(InputError):
        front.desk.models.add(things.owner, {"id": "x"})
    lines = front.desk.audit.listed(admin).items
    actions = [line.action for line in lines]
    assert {"project.add", "upload.begin", "model.add", "key.make", "catalogue.register"} <= set(actions)
    assert secret not in repr(lines)
    assert secret[-32:] not in repr(lines)
