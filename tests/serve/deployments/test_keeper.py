"""What the keeper decides before and beside Ray: ports, folders, one service per folder, the record."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import psutil
import pytest

from cluster import scratch
from serve.deployments import record
from serve.deployments.keeper import KeepSpec, config_of, expect_free
from serve.deployments.record import Up
from swathe.errors import ClusterError, ConflictError


def test_the_config_is_the_repositorys_at_this_port(tmp_path):
    config = config_of(KeepSpec(tmp_path, "0.0.0.0", 8123))
    assert config["http_options"]["host"] == "0.0.0.0"
    assert config["http_options"]["port"] == 8123
    assert [app["import_path"] for app in config["applications"]] == ["serve.deployments.app:service"]


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:8000"), ("0.0.0.0", "http://127.0.0.1:8000"), ("::1", "http://[::1]:8000")],
)
def test_the_url_is_one_that_can_be_asked_from_here(tmp_path, host, url):
    assert KeepSpec(tmp_path, host).url == url


def test_a_spec_survives_the_way_to_another_process(tmp_path):
    spec = KeepSpec(tmp_path, port=8123, cpus=2, gpus=0, auth="token", environment={"SWATHE_PORT": "8123"})
    assert KeepSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


def test_a_taken_port_is_said(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ClusterError) as caught:
            expect_free(KeepSpec(tmp_path, port=port))
    assert caught.value.problem.code == "up.port"
    assert str(port) in caught.value.detail
    expect_free(KeepSpec(tmp_path, port=port))


def test_its_ray_is_another_one_than_that_of_runs(tmp_path):
    from cluster import head

    spec = KeepSpec(tmp_path).head
    assert head.home(spec.data_dir) != head.home(tmp_path)


def test_one_keeper_per_folder(tmp_path):
    up = Up.of_this_process("http://127.0.0.1:8123")
    with record.alone(tmp_path):
        record.write(tmp_path, up)
        with pytest.raises(ConflictError, match="8123") as caught, record.alone(tmp_path):
            pytest.fail("two of them")
    assert caught.value.problem.code == "up.already"
    with record.alone(tmp_path):
        pass


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ClusterError) as caught, record.alone(tmp_path / "file"):
        pytest.fail("in a file")
    assert caught.value.problem.code == "up.data_dir"


def test_a_record_outlives_its_keeper_and_says_so(tmp_path):
    up = record.write(tmp_path, Up.of_this_process("http://127.0.0.1:1"))
    assert record.living(tmp_path) == up
    dead = record.write(tmp_path, replace(up, pid=_gone(), state=record.READY))
    assert record.read(tmp_path) == dead
    assert record.living(tmp_path) is None
    record.forget(tmp_path)
    assert record.read(tmp_path) is None


def test_a_killed_keeper_that_nobody_collected_is_dead(tmp_path):
    """Where process 1 collects no orphans, as in many containers, it stays in the list of processes for good."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    up = record.write(tmp_path, Up(child.pid, scratch.birth(child.pid), "http://127.0.0.1:1"))
    assert record.living(tmp_path) == up
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE
    assert record.living(tmp_path) is None
    child.communicate()


def test_another_process_with_the_same_number_is_no_keeper(tmp_path):
    up = Up.of_this_process("http://127.0.0.1:1")
    record.write(tmp_path, Up(up.pid, up.born - 100, up.url))
    assert record.living(tmp_path) is None


def test_a_torn_record_is_none(tmp_path):
    record.folder_of(tmp_path).mkdir()
    (record.folder_of(tmp_path) / "up.json").write_text('{"pid": 1')
    assert record.read(tmp_path) is None


def test_the_keeper_loads_no_ray():
    """It is there all the time: 30 MB instead of 150."""
    program = (
        "import sys, serve.deployments.keeper; print(sorted({'ray', 'rasterio', 'numpy', 'torch'} & {*sys.modules}))"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


def test_down_where_nothing_runs_says_so_and_is_no_error(tmp_path):
    env = os.environ | {"SWATHE_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "swathe.command", "down", "--json"]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert json.loads(said) == {"stopped": False, "data_dir": str(tmp_path)}


def _gone():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid
