"""The API's way to the models while the steward comes and goes, without Ray: what is told, and with which status."""

import asyncio

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pipelines.online import Form, Question
from serve.deployments.berths import RayReplicas
from serve.deployments.steward import Berth, Standing
from serve.problems import install
from swathe.card import Input, ModelCard, Output, Resources
from swathe.errors import ConflictError, ModelError
from swathe.recipe import Recipe

CARD = ModelCard(
    id="net", title="A network", task="regression", adapter="artefact", network={"file": "net.onnx"},
    input=Input(bands=("red",), chip=64, overlap=16, mean=(0,), std=(1,)), output=Output(),
    resources=Resources(memory_gb=3), licence="MIT", citation="none",
)  # fmt: skip


class Steward:
    """Stands where the caretaker's handle does, and says what it is told to say."""

    def __init__(self, berths):
        self.said = berths

    @property
    def berths(self):
        return self

    async def remote(self):
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


def at(standing, **more):
    return {"net": Berth(CARD, "model-net-1", standing, **more)}


def replicas_of(steward):
    """Such that each question is asked of the steward."""
    found = RayReplicas(steward, None)
    found._ask = lambda berth, _: asyncio.sleep(0, berth.app)
    return found


def ask(replicas, model="net"):
    replicas._asked = float("-inf")
    return asyncio.run(replicas.predict(model, Question(Recipe(model), b"", Form.TIFF)))


@pytest.mark.parametrize("said", [None, {}, at(Standing.STARTING, said="exporting")], ids=["no look", "on", "at it"])
def test_a_model_that_is_not_there_yet_is_503_with_a_time(said):
    app, replicas = FastAPI(), replicas_of(Steward(said))
    install(app)

    @app.get("/")
    async def predict():
        await replicas.predict("net", Question(Recipe("net"), b"", Form.TIFF))

    answer = TestClient(app).get("/")
    assert (answer.status_code, answer.json()["status"], answer.json()["code"]) == (503, 503, "model.starting")
    assert int(answer.headers["Retry-After"]) > 0


def test_a_new_steward_hides_no_model_before_it_has_looked():
    steward = Steward(at(Standing.READY, replicas=1))
    replicas = replicas_of(steward)
    assert ask(replicas) == "model-net-1"
    for said in (None, ConnectionError("it is being started"), at(Standing.IDLE)):
        steward.said = said
        assert ask(replicas) == "model-net-1"
    for said in (at(Standing.IDLE), None):
        steward.said = said
        with pytest.raises(ConflictError):  # switched on since
            ask(replicas, "other")


def test_a_model_that_failed_is_told_with_its_problem():
    problem = {"detail": "net does not start: OSError", "code": "model.start", "hint": "wait"}
    with pytest.raises(ModelError, match="OSError") as caught:
        ask(replicas_of(Steward(at(Standing.FAILED, problem=problem))))
    assert caught.value.problem.hint == "wait"
