"""Models: shipped cards that are switched, and cards of strangers that are added while the service runs."""

import copy

import pytest

from serve.desk.asking import Asking
from serve.planning import added_cards, cards_of
from serve.store import models as rows
from swathe.errors import (
    CardError,
    ConflictError,
    ForbiddenError,
    ImageryError,
    LimitError,
    SwatheError,
    UnknownModelError,
)
from swathe.job import JobState
from swathe.user import Role

CARD = {
    "id": "fields", "title": "Fields", "task": "segmentation", "adapter": "artefact",
    "network": {"output": "logits"}, "weights": {"uri": "https://a.example/net.onnx"},
    "input": {"bands": ["red"], "chip": 64, "overlap": 8},
    "output": {"classes": [{"value": 0, "name": "no", "colour": "#000000"}, {"value": 1, "name": "yes",
                                                                            "colour": "#ffffff"}]},
    "licence": "MIT", "citation": "none",
}  # fmt: skip


def card(**more):
    return copy.deepcopy(CARD) | more


def test_shipped_models_are_on_by_the_limits_until_somebody_decides(front):
    admin = front.person(Role.ADMIN)
    found = {state.card.id: state for state in front.desk.models.listed(admin)}
    assert list(found) == sorted(found)
    assert (found["snow-ndsi"].enabled, found["clay-v1.5-s2"].enabled) == (True, False)
    assert {state.source for state in found.values()} == {"shipped"}
    front.desk.models.change(admin, "clay-v1.5-s2", enabled=True)
    front.desk.models.change(admin, "snow-ndsi", enabled=False)
    on = front.desk.models.enabled()
    assert "clay-v1.5-s2" in on
    assert "snow-ndsi" not in on
    with pytest.raises(ConflictError) as caught:
        front.desk.jobs.submit(admin, Asking(model="snow-ndsi", inputs=("https://a.example/x.tif",)))
    assert caught.value.problem.code == "model.disabled"


def test_states_of_what_is_kept_warm_are_merged(front):
    owner = front.person()
    problem = {"code": "weights.missing", "detail": "gone"}
    states = {"snow-ndsi": {"state": "ready"}, "water-ndwi": {"state": "failed", "problem": problem}}
    found = {state.card.id: state for state in front.desk.models.listed(owner, states)}
    assert (found["snow-ndsi"].state, found["burn-nbr"].state) == ("ready", "")
    assert (found["water-ndwi"].state, found["water-ndwi"].problem) == ("failed", problem)


def test_a_card_is_added_seen_by_its_owner_and_used_by_whoever_carries_jobs_out(front):
    owner, other, admin = front.person(), front.person(), front.person(Role.ADMIN)
    made = front.desk.models.add(owner, card())
    assert (made.source, made.owner, made.shared, made.enabled) == ("added", owner.user.id, False, True)
    assert front.desk.models.usable(owner, "fields").input.chip == 64
    with pytest.raises(UnknownModelError):
        front.desk.models.usable(other, "fields")
    assert "fields" in cards_of(front.desk.settings, front.desk.store)
    front.desk.models.change(admin, "fields", shared=True)
    assert front.desk.models.usable(other, "fields").title == "Fields"
    assert front.desk.models.add(admin, card(id="for-all")).shared


def test_an_owner_replaces_their_card_and_nobody_else_does(front):
    owner, other = front.person(), front.person()
    front.desk.models.add(owner, card())
    again = front.desk.models.add(owner, card(title="Better"))
    assert (again.version, again.card.title) == (2, "Better")
    for person, document in ((other, card()), (owner, card(id="snow-ndsi"))):
        with pytest.raises(CardError) as caught:
            front.desk.models.add(person, document)
        assert caught.value.problem.code == "card.duplicate"


def test_models_are_counted(limited):
    front = limited(models_per_user=1)
    owner = front.person()
    front.desk.models.add(owner, card())
    with pytest.raises(LimitError, match="you have 1 models, 1 are allowed"):
        front.desk.models.add(owner, card(id="another"))
    assert front.desk.models.add(owner, card(title="Better")).version == 2


@pytest.mark.parametrize(("name", "asked", "most"), [
    ("warm", 1000, 1), ("replicas", 500, 4), ("memory_gb", 900, 8), ("cpu", 64, 8), ("gpu", 1.5, 1),
])  # fmt: skip
def test_a_member_s_card_asks_for_no_more_than_is_allowed(front, name, asked, most):
    owner, admin = front.person(), front.person(Role.ADMIN)
    within = card(resources={name: most})
    assert front.desk.models.add(owner, within).version == 1
    greedy = card(resources={name: asked})
    with pytest.raises(LimitError, match=f"asks for {name} {asked}, {most} are allowed") as caught:
        front.desk.models.add(owner, greedy)
    assert (caught.value.problem.code, caught.value.problem.field) == ("limit.model", f"resources.{name}")
    assert front.desk.models.get(owner, "fields").card.resources == front.desk.models.add(owner, within).card.resources
    assert getattr(front.desk.models.add(admin, greedy | {"id": "large"}).card.resources, name) == asked


@pytest.mark.parametrize("greedy", [
    {"resources": {"batch": 50_000}},
    {"input": {"bands": ["red"], "chip": 16_384, "overlap": 8}},
    {"input": {"bands": ["red"], "chip": 64, "overlap": 8, "times": 5000}},
    {"task": "embedding", "output": {"channels": 60_000}},
], ids=["batch", "chip", "times", "channels"])  # fmt: skip
def test_a_member_s_tiles_take_no_more_memory_than_is_allowed(front, greedy):
    owner, admin = front.person(), front.person(Role.ADMIN)
    with pytest.raises(LimitError, match=r"take \d+ MB, 1024 are allowed") as caught:
        front.desk.models.add(owner, card(**greedy))
    assert (caught.value.problem.code, caught.value.problem.field) == ("limit.model", "resources.batch")
    assert front.desk.models.add(admin, card(id="large", **greedy)).version == 1
    assert front.desk.models.add(owner, card(resources={"batch": 1024})).version == 1


def test_how_much_memory_that_is_the_operator_says(limited):
    front = limited(model_tiles_mb=40)
    owner = front.person()
    front.desk.models.add(owner, card())
    with pytest.raises(LimitError, match="1024 tiles at once of 64 x 64 pixels take 54 MB, 40 are allowed"):
        front.desk.models.add(owner, card(resources={"batch": 1024}))


@pytest.mark.parametrize("name", ["memory_gb", "cpu", "gpu", "idle_s"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_endless_resources_are_refused(front, name, value):
    with pytest.raises(SwatheError) as caught:
        front.desk.models.add(front.person(Role.ADMIN), card(resources={name: value}))
    assert caught.value.problem.code == "card.invalid"


def test_a_model_goes_when_no_job_needs_it(front):
    owner = front.person()
    front.desk.models.add(owner, card())
    job = front.job(owner, model="fields")
    with pytest.raises(ConflictError, match="1 jobs use"):
        front.desk.models.drop(owner, "fields")
    assert front.desk.jobs.cancel(owner, job.id).state is JobState.CANCELLED
    front.desk.models.drop(owner, "fields")
    with pytest.raises(UnknownModelError):
        front.desk.models.get(owner, "fields")


def test_shipped_models_stay(front):
    admin = front.person(Role.ADMIN)
    with pytest.raises(ConflictError) as caught:
        front.desk.models.drop(admin, "snow-ndsi")
    assert caught.value.problem.code == "model.shipped"
    with pytest.raises(ForbiddenError):
        front.desk.models.change(front.person(), "snow-ndsi", enabled=False)


def nested(depth):
    found = {}
    for _ in range(depth):
        found = {"a": found}
    return found


HOSTILE = {
    "a path": (card(weights={"uri": "/etc/passwd"}), "card.path"),
    "a file": (card(weights={"uri": "file:///etc/passwd"}), "card.path"),
    "beside": (card(weights={"uri": "net.onnx"}), "card.path"),
    "a config here": (card(adapter="terratorch", network={"config": "../../secret.yaml"}), "card.path"),
    "a network here": (card(weights=None, network={"file": "/srv/net.onnx"}), "card.path"),
    "not a text": (card(weights=None, network={"file": ["/srv/net.onnx"]}), "card.path"),
    "this machine": (card(weights={"uri": "https://127.0.0.1/net.onnx"}), "url.private"),
    "plain http": (card(weights={"uri": "http://localhost:8265/api"}), "card.path"),
    "metadata": (card(weights={"uri": "https://169.254.169.254/latest"}), "url.private"),
    "a password": (card(weights={"uri": "https://u:p@a.example/net.onnx"}), "url.userinfo"),
    "another adapter": (card(adapter="python"), "card.invalid"),
    "an origin": (card(origin="/etc/passwd"), "card.invalid"),
    "an id of a path": (card(id="../x"), "card.invalid"),
    "no id": ({k: v for k, v in CARD.items() if k != "id"}, "card.invalid"),
    "a book": (card(summary="x" * 1_100_000), "card.size"),
    "a batch of everything": (card(resources={"batch": 10**400}), "card.invalid"),
    "replicas without number": (card(resources={"replicas": 10**400}), "card.invalid"),
    "no end": (card(network=nested(5000)), "card.invalid"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_cards_are_refused_by_name(front, name):
    document, code = HOSTILE[name]
    with pytest.raises(SwatheError) as caught:
        front.desk.models.add(front.person(), document)
    assert isinstance(caught.value, CardError | ImageryError)
    assert caught.value.problem.code == code
    assert added_cards(front.desk.store) == {}


def test_the_service_s_own_bucket_holds_no_weights(front_of):
    front = front_of(results="s3://maps/all")
    with pytest.raises(ImageryError, match="belongs to the service"):
        front.desk.models.add(front.person(), card(weights={"uri": "s3://maps/all/uploads/f1/net.onnx"}))


def test_weights_lie_in_buckets_that_were_opened_for_users(front_of):
    """They are fetched with the service's credentials, too."""
    front = front_of(s3_buckets=("open",))
    with pytest.raises(ImageryError) as caught:
        front.desk.models.add(front.person(), card(weights={"uri": "s3://theirs/net.onnx"}))
    assert caught.value.problem.code == "url.bucket"


def test_a_card_that_holds_together_no_longer_hides_no_other(front):
    owner = front.person()
    front.desk.models.add(owner, card())
    with front.desk.store.begin() as c:
        (row,) = rows.listed(c)
        rows.put(c, type(row)(**{**{f: getattr(row, f) for f in row.__slots__}, "card": {"id": "fields", "gone": 1}}))
    assert added_cards(front.desk.store) == {}
    assert "snow-ndsi" in front.desk.models.enabled()
    with pytest.raises(UnknownModelError):
        front.desk.models.usable(owner, "fields")


def test_unknown_models_are_told_what_looks_like_them_and_no_folder(front):
    with pytest.raises(UnknownModelError) as caught:
        front.desk.models.get(front.person(), "snow-ndis")
    assert caught.value.hint.startswith("did you mean snow-ndsi, ")
    with pytest.raises(UnknownModelError) as caught:
        front.desk.models.get(front.person(), "q" * 5000)
    assert str(front.desk.settings.data_dir) not in caught.value.hint + caught.value.detail
    assert len(caught.value.detail) < 200
