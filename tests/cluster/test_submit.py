"""Runs as Ray jobs, on a real Ray whose ``swathe`` is a stand-in that says what it was given."""

from __future__ import annotations

import json
import time

import pytest

from cluster import submit
from cluster.submit import Dashboard, Job, JobRequest
from models.weights import ModelHome
from swathe.errors import ClusterError, InputError
from tests.cluster.test_commands import Settings, call

pytestmark = pytest.mark.timeout(400)
NOWHERE = Dashboard("http://127.0.0.1:9")


def request(*arguments, key, place="image"):
    return JobRequest(arguments=arguments, key=key, place=place, metadata={"model": "water-mndwi"})


def gone(_):
    raise BrokenPipeError


@pytest.fixture(scope="module")
def at(kept):
    return submit.dashboard(kept[0])


@pytest.mark.ray
def test_the_same_run_sent_twice_is_one_job(at, kept):
    sent = submit.submit(request("run", "--out", "a folder", key="aa11"), at)
    again = submit.submit(request("run", "--out", "a folder", key="aa11"), at)
    assert (sent.id, sent.fresh) == ("swathe-aa11-a1", True)
    assert (again.id, again.fresh) == (sent.id, False)

    written = []
    ended = submit.follow(sent.id, at, written.append)
    assert "".join(written) == "arguments run --out a folder\n"
    assert (ended.status, ended.exit_code, ended.ended) == ("succeeded", 0, True)
    assert submit.submit(request("run", key="aa11"), at).id == sent.id

    settings = Settings(kept[0], ModelHome(kept[0]))
    for more in ((), ("--follow",)):
        answer = call(settings, "cluster", "logs", sent.id, "--json", *more)
        assert answer.exit_code == 0
        told = [json.loads(line) for line in answer.stdout.splitlines()]
        assert {"line": "arguments run --out a folder"} in told  # Ray's own line stands before it, or after
        assert all(list(line) == ["line"] for line in told)
    assert "arguments run --out a folder" in call(settings, "cluster", "logs", sent.id).stdout.splitlines()

    # A reader that went away is no fault of the cluster.
    with pytest.raises(BrokenPipeError):
        submit.follow(sent.id, at, gone)

    # Its products are gone: the same run once more.
    more = submit.submit(request("run", key="aa11"), at, again=True)
    assert (more.id, more.fresh) == ("swathe-aa11-a2", True)
    assert [j.id for j in submit.listing(at) if "aa11" in j.id] == ["swathe-aa11-a1", "swathe-aa11-a2"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_failure_gives_its_code_and_is_tried_again_under_another_name(at):
    first = submit.follow(submit.submit(request("fail", key="bb22"), at).id, at, lambda _: None)
    assert (first.status, first.driver_exit_code, first.exit_code) == ("failed", 3, 3)
    assert first.message == "Job entrypoint command failed with exit code 3"
    assert submit.submit(request("run", key="bb22"), at).id == "swathe-bb22-a2"


@pytest.mark.ray
@pytest.mark.slow
def test_a_stopped_job_has_time_for_its_receipts(at):
    sent = submit.submit(request("wait", key="cc33"), at)
    limit = time.monotonic() + 120
    while "waiting" not in submit.logs(sent.id, at):
        assert time.monotonic() < limit
        time.sleep(0.5)
    stopped = submit.cancel(sent.id, at)
    assert (stopped.status, stopped.exit_code) == ("stopped", 130)
    # Ray's own patience is 3 s; the stand-in needs 4.
    assert submit.logs(sent.id, at).endswith("receipt written\n")
    assert submit.cancel(sent.id, at).status == "stopped"


@pytest.mark.ray
def test_the_token_is_wanted(at):
    with pytest.raises(ClusterError) as refused:
        submit.listing(Dashboard(at.url, "guessed"))
    assert refused.value.problem.code == "cluster.auth"
    with pytest.raises(ClusterError) as unknown:
        submit.state("swathe-zz99-a1", at)
    assert unknown.value.problem.code == "job.unknown"
    assert at.token not in repr(at)


@pytest.mark.ray
def test_where_jobs_go(kept, tmp_path, monkeypatch):
    data_dir, running = kept
    monkeypatch.setenv("RAY_ADDRESS", "10.9.9.9:6379")  # Ray's client would go there; ours goes where it is told
    for address in (None, "auto", running.address):
        at = submit.dashboard(data_dir, address)
        assert (at.url, at.here) == (running.dashboard, True)
    assert isinstance(submit.listing(at), list)
    assert submit.dashboard(tmp_path, "https://ray.example.org/") == Dashboard("https://ray.example.org")


@pytest.mark.parametrize(("address", "code"), [(None, "cluster.none"), ("10.0.0.5:6379", "cluster.address")])
def test_nowhere_to_send_to(tmp_path, address, code):
    with pytest.raises(ClusterError) as refused:
        submit.dashboard(tmp_path, address)
    assert refused.value.problem.code == code
    assert "http" in refused.value.hint


def test_a_dashboard_that_does_not_answer():
    with pytest.raises(ClusterError) as refused:
        submit.submit(request("run", key="ee55"), NOWHERE)
    assert refused.value.problem.code == "cluster.unreachable"


@pytest.mark.parametrize(("arguments", "key"), [((), "aa"), (("run",), ""), (("run",), "a b; rm -rf /")])
def test_requests_that_are_none(arguments, key):
    with pytest.raises(InputError):
        submit.submit(JobRequest(arguments=arguments, key=key), NOWHERE)


def test_entrypoints_survive_a_shell(tmp_path):
    import subprocess
    import sys

    (tmp_path / "it's a folder").mkdir()
    words = ("run", "--out", "a b", "$(whoami)", "it's", "a\\b", "*")
    sent = JobRequest(arguments=words, key="aa", cwd=tmp_path / "it's a folder")
    here = submit._entrypoint(sent, Dashboard("http://x", here=True))
    program = "import sys, os; print(os.getcwd()); print(sys.argv[1:])"
    echo = here.replace(f"{sys.executable} -m swathe.command", f"{sys.executable} -c '{program}'")
    answer = subprocess.run(["sh", "-c", echo], capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == [str(tmp_path / "it's a folder"), str(list(words))]


def test_places():
    here, there = Dashboard("http://x", here=True), Dashboard("http://x")
    plain = JobRequest(arguments=("run",), key="aa")
    assert " -m swathe.command run" in submit._entrypoint(plain, here)
    assert submit._entrypoint(plain, there) == "exec swathe run"
    assert submit._runtime_env(plain) == {}
    sent = JobRequest(arguments=("run",), key="aa", place="upload", environment={"A": "b"})
    assert submit._entrypoint(sent, there) == "exec python -m swathe.command run"
    assert submit._runtime_env(sent)["working_dir"] == str(sent.cwd)
    assert submit._runtime_env(sent)["env_vars"] == {"A": "b"}


@pytest.mark.parametrize(
    ("status", "driver", "code"),
    [("succeeded", 0, 0), ("stopped", None, 130), ("failed", 2, 2), ("failed", None, 1), ("failed", -9, 1)],
)
def test_exit_codes(status, driver, code):
    assert Job("swathe-aa-a1", status, driver_exit_code=driver).exit_code == code


RAY = "2026-01-01 00:00:00,001\tINFO job_manager.py:581 -- Runtime env is setting up.\n"
RUNNING = "Running entrypoint for job x: exec swathe run\n"


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        ((RAY + RUNNING + "mine\n", "too\n"), "mine\ntoo\n"),
        # The command may speak before Ray's line about it reaches the file.
        ((RAY + "mine\n" + RUNNING + "too\n",), "mine\ntoo\n"),
        # Cut anywhere.
        ((RAY[:30], RAY[30:] + RUNNING[:5], RUNNING[5:] + "mi", "ne\n"), "mine\n"),
        # Later lines are the command's, whatever they look like, and unfinished ones are shown at once.
        ((RAY + RUNNING, RUNNING, "42 %\r"), RUNNING + "42 %\r"),
        # Where the command never ran, what Ray says about it is the news.
        ((RAY, "no such image"), "no such image"),
    ],
)
def test_rays_own_first_lines_are_left_out(texts, left):
    written = []
    output = submit._Output(written.append)
    for text in texts:
        output.take(text)
    output.finish()
    assert "".join(written) == left
    assert output.seen == sum(map(len, texts))


class Flaky:
    """A client whose connection breaks: text per connection, then an error, except for the last."""

    def __init__(self, *connections, ended=False):
        self.connections = list(connections)
        self.ended = ended

    async def tail_job_logs(self, _):
        log, breaks = self.connections.pop(0)
        for start in range(0, len(log), 7):
            yield log[start : start + 7]
        if breaks:
            raise RuntimeError("connection closed")

    def get_job_info(self, job):
        status = "SUCCEEDED" if self.ended else "RUNNING"
        return type("Details", (), {"submission_id": job, "status": status, "message": "", "driver_exit_code": 0})

    def get_job_logs(self, _):
        return LOG


LOG = RAY + RUNNING + "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    "client",
    [
        Flaky((LOG, False)),
        Flaky((LOG[:-8], True), (LOG, False)),
        Flaky((LOG[:20], True), (LOG[:-3], True), (LOG, False)),
        Flaky((LOG[:-8], True), ended=True),
    ],
)
def test_a_broken_connection_is_taken_up_where_it_broke(client, monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    written = []
    submit._shown(client, "x", submit._Output(written.append))
    assert "".join(written) == "one\ntwo\nthree\n"


def test_a_connection_that_stays_broken_is_given_up(monkeypatch):
    monkeypatch.setattr(time, "sleep", lambda _: None)
    with pytest.raises(RuntimeError):
        submit._shown(Flaky(*[("", True)] * 20), "x", submit._Output(lambda _: None))
