"""Rays that we start, keep and attach to; every program that connects is a process of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from textwrap import dedent

import psutil
import pytest

from cluster import head, reach, scratch
from swathe.errors import ClusterError

pytestmark = pytest.mark.timeout(400)


def heard_on(processes):
    """Addresses that some processes listen on."""
    found = set()
    for process in processes:
        try:
            found |= {c.laddr.ip for c in process.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    return found


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_that_was_slow_to_come_is_waited_for_once_more(drive, tmp_path):
    """Ray gives its own node 30 s; on a busy machine that may be too little."""
    found, _ = drive(
        f"""
        import json
        from pathlib import Path

        import psutil
        import ray
        from cluster.local import ClusterSpec, connect

        calls, init = [], ray.init

        def late(**arguments):
            calls.append(arguments["address"])
            init(**arguments)
            if len(calls) == 1:
                raise Exception("The current node timed out during startup. This could happen because ...")

        ray.init = late
        with connect(ClusterSpec(Path({str(tmp_path)!r}), cpus=1, object_store_mb=96, dashboard=False)) as session:
            answer = ray.get(ray.remote(lambda: 5).remote())
            raylets = [p for p in psutil.Process().children(recursive=True) if p.name() == "raylet"]
        print(json.dumps(dict(calls=calls, answer=answer, raylets=len(raylets), started=session.started)))
        """
    )
    assert found == {"calls": ["local", "local"], "answer": 5, "raylets": 1, "started": True}


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_for_one_program(drive, tmp_path):
    found, stderr = drive(
        f"""
        import json, os, signal, sys
        from pathlib import Path

        import psutil
        from cluster.local import ClusterSpec, connect

        handler = lambda *_: None
        signal.signal(signal.SIGTERM, handler)
        spec = ClusterSpec(Path({str(tmp_path)!r}), cpus=3, object_store_mb=96, dashboard=False)
        with connect(spec) as session:
            import ray

            family = psutil.Process().children(recursive=True)
            heard = {{c.laddr.ip for p in family for c in p.net_connections("tcp") if c.status == "LISTEN"}}
            with connect(spec) as nested:
                again = nested.started, nested.address == session.address
            found = dict(
                started=session.started, address=session.address, dashboard=session.dashboard, cpus=session.cpus,
                gpus=session.gpus, folder=str(session.logs.parent.parent), heard=list(heard),
                answer=ray.get(ray.remote(lambda: os.environ["RAY_AUTH_MODE"]).remote()), again=again,
                handler=signal.getsignal(signal.SIGTERM) is handler, connected=ray.is_initialized(),
            )
        left = [p.pid for p in family if p.is_running() and p.status() != "zombie"]
        token = (Path.home() / ".ray").exists()
        mode = os.environ.get("RAY_AUTH_MODE")
        print(json.dumps(found | dict(left=left, token=token, after=ray.is_initialized(), mode=mode)))
        """
    )
    assert found["started"]
    assert found["address"].startswith("127.0.0.1:")
    assert found["dashboard"] == ""
    assert (found["cpus"], found["gpus"]) == (3, 0)
    assert found["answer"] == "disabled"
    assert found["again"] == [False, True]
    # Nobody else on the network can reach it.
    assert {ip.removeprefix("::ffff:") for ip in found["heard"]} == {"127.0.0.1"}
    assert found["handler"]
    assert found["connected"]
    # On leaving: no process, no folder, no token in the home folder, no variable, and not a word on the terminal.
    assert found["left"] == []
    assert not Path(found["folder"]).exists()
    assert not found["token"]
    assert not found["after"]
    assert found["mode"] is None
    assert stderr == ""


@pytest.mark.ray
def test_a_kept_ray_is_found_and_left_running(drive, kept):
    data_dir, running = kept
    by_name = running.address.replace("127.0.0.1", "localhost")
    found, stderr = drive(
        f"""
        import json
        from pathlib import Path
        from cluster.local import ClusterSpec, connect

        found = []
        for address in (None, {by_name!r}):
            with connect(ClusterSpec(Path({str(data_dir)!r}), address=address)) as session:
                import ray

                answer = ray.get(ray.remote(lambda: 6 * 7).remote())
            found.append([session.started, session.address, session.dashboard, session.cpus, answer])
        print(json.dumps(found))
        """
    )
    assert found == [[False, running.address, running.dashboard, 2, 42]] * 2
    assert stderr == ""
    assert running.alive
    assert head.living(data_dir) == running


@pytest.mark.ray
def test_without_the_token_nobody_gets_in(drive, kept, tmp_path):
    _, running = kept
    found, _ = drive(
        f"""
        import json
        from pathlib import Path
        from cluster.local import ClusterSpec, connect
        from swathe.errors import ClusterError

        try:
            with connect(ClusterSpec(Path({str(tmp_path)!r}), address={running.address!r})):
                print(json.dumps("in"))
        except ClusterError as refused:
            print(json.dumps(refused.problem.as_dict()))
        """,
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN="guessed",
    )
    assert found["code"] == "cluster.auth"
    assert "RAY_AUTH_TOKEN" in found["hint"]
    assert reach.get_json(f"{running.dashboard}/api/jobs/")[0] == 401
    assert reach.get_json(f"{running.dashboard}/api/jobs/", running.token)[0] == 200


@pytest.mark.ray
def test_a_kept_ray_is_heard_on_this_machine_alone(kept):
    data_dir, running = kept
    leader = psutil.Process(running.pid)
    heard = heard_on([leader, *leader.children(recursive=True)])
    assert {ip.removeprefix("::ffff:") for ip in heard} == {"127.0.0.1"}
    assert (running.token_file.stat().st_mode & 0o777) == 0o600
    assert running.token not in (head.home(data_dir) / "head.json").read_text()


@pytest.mark.ray
def test_starting_what_runs_gives_back_what_runs(kept):
    data_dir, running = kept
    assert head.start(head.HeadSpec(data_dir, cpus=1)) == running


@pytest.mark.ray
@pytest.mark.slow
def test_a_port_lost_on_the_way_is_replaced(tmp_path, monkeypatch):
    """Between the look and Ray's own start lie 10 seconds, in which somebody else may take the port."""
    free_port = reach.free_port
    asked = []

    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()

        def late(host=reach.LOOPBACK, preferred=0):
            asked.append(preferred)
            return thief.getsockname()[1] if asked == [8265] else free_port(host, preferred)

        monkeypatch.setattr(reach, "free_port", late)
        try:
            running = head.start(head.HeadSpec(tmp_path, cpus=1, gpus=0))
            assert str(thief.getsockname()[1]) not in running.dashboard
            assert head.living(tmp_path) == running
        finally:
            head.stop(tmp_path)


@pytest.mark.ray
@pytest.mark.slow
def test_a_gpu_is_shared_by_two_while_a_third_waits(drive, nodes, tmp_path):
    with nodes({"num_cpus": 2}, {"num_cpus": 2, "num_gpus": 1}) as cluster:
        found, _ = drive(
            f"""
            import json
            from pathlib import Path

            from cluster.local import ClusterSpec, connect
            from cluster.resources import layout
            from swathe.card import Resources

            with connect(ClusterSpec(Path({str(tmp_path)!r}), address={cluster.address!r})) as session:
                import ray

                pool = layout(Resources(cpu=1, gpu=0.5), session.nodes)

                @ray.remote(num_cpus=0.1, num_gpus=pool.num_gpus)
                class Worker:
                    def gpus(self):
                        return ray.get_runtime_context().get_accelerator_ids()["GPU"]

                two = [Worker.remote() for _ in range(pool.actors)]
                held = ray.get([w.gpus.remote() for w in two], timeout=120)
                third = Worker.remote()
                asked = third.gpus.remote()
                waiting = ray.wait([asked], timeout=5)[1] == [asked]
                ray.kill(two[0])
                print(json.dumps([len(session.nodes), session.cpus, pool.actors, held, waiting,
                                  ray.get(asked, timeout=120), session.started]))
            """
        )
        alive = cluster.remaining_processes_alive()
    assert found == [2, 4, 2, [["0"], ["0"]], True, ["0"], False]
    assert alive  # attaching and leaving stops nothing


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("ray://10.0.0.5:10001", "cluster.address"),
        ("http://10.0.0.5:8265", "cluster.address"),
        ("nonsense", "cluster.address"),
        (f"127.0.0.1:{reach.free_port()}", "cluster.unreachable"),
    ],
    ids=["a client's", "a dashboard's", "nonsense", "nobody's"],
)
def test_addresses_that_will_not_do(drive, tmp_path, address, code):
    (told, hint), _ = drive(
        f"""
        import json
        from pathlib import Path
        from cluster.local import ClusterSpec, connect
        from swathe.errors import ClusterError
        try:
            with connect(ClusterSpec(Path({str(tmp_path)!r}), address={address!r})):
                print(json.dumps(["connected", ""]))
        except ClusterError as refused:
            print(json.dumps([refused.problem.code, refused.hint]))
        """
    )
    assert told == code
    assert hint


def test_a_port_that_is_taken_is_refused_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ClusterError) as refused:
            head.start(head.HeadSpec(tmp_path, port=taken.getsockname()[1]))
    assert refused.value.problem.code == "cluster.port"
    assert head.recorded(tmp_path) is None


def broken_install(folder):
    (folder / "ray.py").write_text("raise ImportError('this Ray is broken')")
    return head.HeadSpec(folder, environment={"PYTHONPATH": str(folder)})


def tiny_store(folder):
    return head.HeadSpec(folder, object_store_mb=1)


@pytest.mark.ray
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (broken_install, "this Ray is broken"),
        # Ray itself takes half a minute to give up.
        pytest.param(tiny_store, "object store", marks=pytest.mark.slow),
    ],
)
def test_a_start_that_fails_says_why_and_leaves_nothing(tmp_path, spec, reason):
    with pytest.raises(ClusterError) as failed:
        head.start(spec(tmp_path))
    assert failed.value.problem.code == "cluster.start"
    assert reason in failed.value.detail.lower() + failed.value.detail
    assert str(tmp_path / "cluster" / "head.log") in failed.value.hint
    assert head.recorded(tmp_path) is None
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(tmp_path) in " ".join(p.info["cmdline"] or [])]


def test_a_data_folder_that_cannot_be_written_is_an_answer(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError) as refused:
        head.start(head.HeadSpec(tmp_path / "file"))
    assert refused.value.problem.code == "cluster.data_dir"


def test_stopping_what_was_never_started_touches_nothing(tmp_path):
    assert head.stop(tmp_path) is False


def test_a_record_of_another_process_is_not_believed(tmp_path):
    """Ids are used again: the record of a head that died must not stop whoever has its number now."""
    stranger = psutil.Popen(["sleep", "60"])
    record = head.Head(
        pid=stranger.pid,
        started=stranger.create_time() - 3600,
        address="127.0.0.1:1",
        dashboard="http://127.0.0.1:1",
        folder=tmp_path / "ray",
        log=tmp_path / "log",
        auth="disabled",
        token_file=None,
        processes=((stranger.pid, stranger.create_time() - 3600),),
    )
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "head.json").write_text(json.dumps(record.as_dict()))
    try:
        assert head.recorded(tmp_path) == record
        assert head.living(tmp_path) is None
        assert head.stop(tmp_path) is False
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": 1}'])
def test_a_broken_record_is_no_record(tmp_path, text):
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "head.json").write_text(text)
    assert head.recorded(tmp_path) is None


def test_scratch_folders_are_short_and_private(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 60)))
    folder = scratch.make()
    try:
        assert len(str(folder)) <= 40
        assert (folder.stat().st_mode & 0o777) == 0o700
    finally:
        scratch.remove(folder)


def test_scratch_folders_go_with_their_process(tmp_path):
    sleeper = psutil.Popen(["sleep", "60"])
    kept, left, strange = (tmp_path / f"swathe-ray-{n}" for n in "abc")
    for folder in (kept, left, strange):
        folder.mkdir()
    scratch.give(kept, os.getpid())
    scratch.give(left, sleeper.pid)
    (strange / "owner").write_text("1 0.0 pid:[another container]")
    sleeper.kill()
    sleeper.wait()
    scratch.sweep(tmp_path)
    assert [f.exists() for f in (kept, left, strange)] == [True, False, True]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_ray_of_its_program(tmp_path, number, code):
    program = f"""
        import signal, sys, time
        from pathlib import Path
        from cluster.local import ClusterSpec, connect

        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell in the background has it ignored
        try:
            with connect(ClusterSpec(Path({str(tmp_path)!r}), dashboard=False)) as session:
                print(session.logs.parent.parent, flush=True)
                time.sleep(300)
        except KeyboardInterrupt:
            sys.exit(130)
    """
    child = psutil.Popen(
        [sys.executable, "-c", dedent(program)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    folder = Path(child.stdout.readline().strip())
    family = child.children(recursive=True)
    assert folder.is_dir()
    child.send_signal(number)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said) == (code, "")
    assert psutil.wait_procs(family, timeout=30)[1] == []
    assert not folder.exists()


@pytest.mark.ray
@pytest.mark.slow
def test_two_side_by_side_and_one_is_stopped(tmp_path):
    one = head.start(head.HeadSpec(tmp_path / "one", cpus=1, gpus=0))
    two = head.start(head.HeadSpec(tmp_path / "two", cpus=1, gpus=0))
    try:
        assert len({one.address, two.address}) == len({one.dashboard, two.dashboard}) == 2
        family = [psutil.Process(pid) for pid, _ in one.processes]
        assert head.stop(tmp_path / "one")
        assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert not one.folder.exists()
        assert head.living(tmp_path / "two") == two
        assert all(psutil.pid_exists(pid) for pid, _ in two.processes)
    finally:
        head.stop(tmp_path / "one")
        assert head.stop(tmp_path / "two")
    assert head.recorded(tmp_path / "two") is None


@pytest.mark.ray
@pytest.mark.slow
def test_after_a_crash_stop_leaves_no_process_and_start_works_again(tmp_path):
    first = head.start(head.HeadSpec(tmp_path, cpus=1, gpus=0))
    family = [psutil.Process(pid) for pid, _ in first.processes]
    try:
        os.kill(first.pid, signal.SIGKILL)
        time.sleep(1)
        assert head.living(tmp_path) is None
        second = head.start(head.HeadSpec(tmp_path, cpus=1, gpus=0))
        assert second.pid != first.pid
        assert not [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]
        assert not first.folder.exists()
    finally:
        assert head.stop(tmp_path)
