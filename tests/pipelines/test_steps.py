"""Steps after the model: told, kept, skipped and tried again; whatever they do, the result stands."""

import json
from dataclasses import dataclass, field

import pytest

from pipelines.begin import begin, look
from pipelines.run import Request, run
from pipelines.runner import Loop
from pipelines.steps.treatment import Made
from swathe.errors import ImageryError, Interrupted, OutputError
from swathe.recipe import Recipe
from swathe.state import State
from swathe.step import Step, StepState, fold


@dataclass
class Copy:
    """A treatment that copies the raster it is given, and remembers which that was."""

    name: str = "processor"
    key: str = "1"
    file: str = "processed.tif"
    trouble: list = field(default_factory=list)
    seen: list = field(default_factory=list)

    def carry_out(self, bench):
        bench.check()
        bench.say(f"works on {bench.raster}")
        self.seen.append(bench.raster)
        if self.trouble:
            raise self.trouble.pop(0)
        (bench.out / self.file).write_bytes((bench.out / bench.raster).read_bytes())
        return Made((self.file,), self.file, {"bytes": 1})


@dataclass
class Nothing(Copy):
    """There is nothing to do."""

    def carry_out(self, bench):
        self.seen.append(bench.raster)
        return Made(skipped="there is no cloud")


@pytest.fixture(scope="module")
def small(write_scene, tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("small") / "scene.tif", (96, 120))


@pytest.fixture
def treated(card, small, home, sensors):
    """Run with treatments: ``treated(out, *treatments)`` gives outcome and events."""

    def treated(out, *treatments, **options):
        events = []

        class Watch:
            def event(self, event):
                events.append(event)

            def progress(self, done, total):
                pass

        recipe = Recipe(card.id, (str(small),))
        made = begin(recipe, card, look(recipe, card, sensors), 1)
        request = Request(out, home, treatments=tuple(treatments), **options)
        return run(made, request, Loop(), Watch()), events

    return treated


def test_steps_are_carried_out_in_order_and_told(treated, tmp_path):
    first, second, third = Copy("mask", file="probabilities.tif"), Nothing("nothing"), Copy()
    outcome, events = treated(tmp_path, first, second, third)
    assert outcome.state is State.DONE
    assert (first.seen, second.seen, third.seen) == (["result.tif"], ["probabilities.tif"], ["probabilities.tif"])
    steps = fold(events)
    assert [(s.name, s.state) for s in steps] == [
        ("mask", StepState.FINISHED), ("nothing", StepState.SKIPPED), ("processor", StepState.FINISHED)
    ]  # fmt: skip
    assert [Step.of(e.facts).state for e in events if e.kind == "step"][:3] == [StepState.WAITING] * 3
    assert steps[1].detail == {"because": "there is no cloud"}
    assert all(s.started <= s.ended for s in steps)
    facts = json.loads((tmp_path / "report.json").read_text())
    assert [Step.of(s) for s in facts["steps"]] == list(steps)
    assert facts["published"] == "processed.tif"
    assert "works on probabilities.tif" in (tmp_path / "processor.log").read_text()
    item = json.loads((tmp_path / "item.json").read_text())
    assert item["assets"]["processed"]["data_type"] == "uint8"
    assert item["assets"]["processor-log"]["href"] == "./processor.log"


@pytest.mark.parametrize(
    ("error", "code"),
    [(ImageryError("another grid", code="step.grid"), "step.grid"), (KeyError("/secret"), "step.internal")],
)  # fmt: skip
def test_a_step_that_fails_leaves_the_rest_and_is_tried_again(treated, tmp_path, error, code):
    first, second, third = Copy("mask", file="probabilities.tif"), Copy(trouble=[error]), Nothing("last")
    outcome, events = treated(tmp_path, first, second, third)
    assert outcome.state is State.INCOMPLETE
    mask, failed, passed = fold(events)
    assert (mask.state, failed.state, passed.state) == (StepState.FINISHED, StepState.FAILED, StepState.SKIPPED)
    assert failed.problem["code"] == code
    assert "/secret" not in (tmp_path / "processor.log").read_text()
    assert code in (tmp_path / "processor.log").read_text()
    assert "processor" in passed.detail["because"]
    facts = json.loads((tmp_path / "report.json").read_text())
    assert (facts["status"], facts["published"]) == ("incomplete", "probabilities.tif")
    assert {"result.tif", "item.json", "processor.log"} <= {p.name for p in tmp_path.iterdir()}
    assert json.loads((tmp_path / "item.json").read_text())["properties"]["swathe:status"] == "incomplete"

    outcome, events = treated(tmp_path, first, second, third)
    assert outcome.state is State.DONE
    assert outcome.resumed == 1
    assert (first.seen, second.seen) == (["result.tif"], ["probabilities.tif", "probabilities.tif"])
    assert fold(events)[0] == mask
    assert not any(e.kind == "chunk" for e in events)


def test_a_finished_step_is_repeated_where_its_files_are_spoilt(treated, tmp_path):
    first, second = Copy("mask", file="probabilities.tif"), Copy(trouble=[ImageryError("no"), ImageryError("no")])
    treated(tmp_path, first, second)
    treated(tmp_path, first, second)
    assert first.seen == ["result.tif"]
    (tmp_path / "probabilities.tif").write_bytes(b"cut short")
    treated(tmp_path, first, second)
    assert first.seen == ["result.tif"] * 2


def test_another_key_is_another_step(treated, tmp_path):
    first, changed = Copy("mask", file="probabilities.tif"), Copy("mask", "2", "probabilities.tif")
    last = Copy(trouble=[ImageryError("no")])
    treated(tmp_path, first, last)
    treated(tmp_path, changed, last)
    assert (len(first.seen), len(changed.seen)) == (1, 1)


def test_files_of_a_step_that_is_no_longer_wanted_go(treated, tmp_path):
    treated(tmp_path, Copy(), Copy("last", file="probabilities.tif", trouble=[ImageryError("no")]))
    assert (tmp_path / "processed.tif").exists()
    outcome, _ = treated(tmp_path)
    assert outcome.state is State.DONE
    assert not (tmp_path / "processed.tif").exists()
    assert not (tmp_path / "processor.log").exists()


def test_a_finished_run_with_other_steps_is_not_passed_off(treated, tmp_path):
    treated(tmp_path)
    assert treated(tmp_path)[0].already
    with pytest.raises(OutputError, match="other steps"):
        treated(tmp_path, Copy())
    outcome, _ = treated(tmp_path, Copy(), overwrite=True)
    assert outcome.state is State.DONE
    assert treated(tmp_path, Copy())[0].already


def test_a_stop_ends_the_run_and_the_step_waits_again(treated, tmp_path):
    def stop():
        raise Interrupted("stop")

    events = []
    with pytest.raises(Interrupted):
        events = treated(tmp_path, Copy(trouble=[Interrupted("stop")]))[1]
    told = [json.loads(line) for line in (tmp_path / ".swathe" / "events.jsonl").read_text().splitlines()]
    assert [e["facts"]["state"] for e in told if e["kind"] == "step"] == ["waiting", "running", "waiting"]
    assert told[-1]["facts"]["state"] == "interrupted"
    with pytest.raises(Interrupted):
        treated(tmp_path, Copy(), check=stop)
    assert treated(tmp_path, Copy())[0].state is State.DONE
    assert not events


def test_a_log_has_a_bound(treated, tmp_path):
    class Talks(Copy):
        def carry_out(self, bench):
            for _ in range(300):
                bench.say("x" * 10_000)
            return super().carry_out(bench)

    treated(tmp_path, Talks())
    text = (tmp_path / "processor.log").read_text()
    assert 1 << 20 <= len(text) + 10_100 <= (1 << 20) + 20_200
    assert "the log is cut here\n" in text
    assert text.endswith("finished\n")


@pytest.mark.parametrize("levels", [65, 300, 900, 5000])
def test_what_nests_too_deep_is_left_out_and_the_step_stands(treated, tmp_path, levels):
    deep = 1
    for i in range(levels):
        deep = [deep] if i % 2 else {"a": deep}

    @dataclass
    class Deep(Copy):
        def carry_out(self, bench):
            bench.note(noted=deep, plain=[1])
            made = super().carry_out(bench)
            return Made(made.files, made.raster, {"told": deep, "bytes": 1})

    outcome, events = treated(tmp_path, Deep())
    (step,) = fold(events)
    assert (outcome.state, step.state) == (State.DONE, StepState.FINISHED)
    assert step.detail == {"noted": None, "plain": [1], "told": None, "bytes": 1}
    assert json.loads((tmp_path / "report.json").read_text())["steps"][0]["detail"] == step.detail
