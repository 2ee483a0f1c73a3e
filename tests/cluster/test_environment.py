"""What Ray's processes are told, and that nothing of it stays behind."""

from __future__ import annotations

import os
import subprocess
import sys
from textwrap import dedent

from cluster import environment, reach


def test_variables_say_what_was_decided(tmp_path):
    values = environment.variables({"AWS_REGION": "eu"}, loopback=True, auth="token", token_file=tmp_path / "token")
    assert values["RAY_AUTH_MODE"] == "token"
    assert values["RAY_AUTH_TOKEN_PATH"] == str(tmp_path / "token")
    assert values["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"
    assert values["AWS_REGION"] == "eu"
    assert "RAY_AUTH_TOKEN_PATH" not in environment.variables({}, loopback=True, auth="disabled", token_file=tmp_path)


def test_an_attached_ray_is_met_as_the_environment_says():
    values = environment.variables({}, loopback=False)
    assert not {"RAY_AUTH_MODE", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"} & set(values)


def test_ours_wins_over_defaults_but_not_over_safety():
    values = environment.variables(
        {"RAY_DATA_LOG_LEVEL": "DEBUG", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1"}, loopback=True
    )
    assert values["RAY_DATA_LOG_LEVEL"] == "DEBUG"
    assert values["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] == "0"


def test_afterwards_everything_is_as_before(monkeypatch):
    monkeypatch.setenv("SWATHE_A", "old")
    before = dict(os.environ)
    with environment.applied({"SWATHE_A": "new", "SWATHE_B": "new"}):
        assert os.environ["SWATHE_A"] == os.environ["SWATHE_B"] == "new"
    assert dict(os.environ) == before


def test_a_ray_that_is_loaded_already_follows():
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER, ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
    with environment.applied(environment.variables({}, loopback=True)):
        assert not ray_constants.ENABLE_RAY_CLUSTER
        assert not ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV
    assert before == (ray_constants.ENABLE_RAY_CLUSTER, ray_constants.RAY_ENABLE_UV_RUN_RUNTIME_ENV)


def test_hushed_keeps_native_noise_and_lets_python_speak(tmp_path):
    program = f"""
        import os, subprocess, sys
        from pathlib import Path
        from cluster.environment import hushed

        with hushed(Path({str(tmp_path / "log")!r})):
            os.write(2, b"native noise\\n")
            sys.stderr.write("python speaks\\n")
            level = subprocess.run(["sh", "-c", "echo ${{RAY_BACKEND_LOG_LEVEL-unset}}"],
                                   env=os.environ, capture_output=True, text=True).stdout.strip()
        os.write(2, b"native again\\n")
        sys.stderr.write(f"children: {{level}}\\n")
    """
    answer = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, check=True)
    assert answer.stderr.splitlines() == ["python speaks", "native again", "children: unset"]
    assert (tmp_path / "log").read_text() == "native noise\n"


def test_addresses():
    assert reach.split("10.0.0.5:6379") == ("10.0.0.5", 6379)
    assert reach.split("nonsense") is None
    assert reach.split(":6379") is None
    assert reach.split("host:99999") is None
    assert reach.same("localhost:1", "127.0.0.1:1")
    assert not reach.same("10.0.0.5:1", "127.0.0.1:1")
    assert reach.is_loopback("localhost:6379")
    assert not reach.is_loopback("10.0.0.5:6379")


def test_ports(tmp_path):
    port = reach.free_port()
    assert not reach.answers(f"127.0.0.1:{port}", timeout=1)
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not reach.answers(f"127.0.0.1:{port}", timeout=1):
            assert server.poll() is None
        assert reach.free_port(preferred=port) != port
        (tmp_path / "a.json").write_text('{"a": 1}')
        assert reach.get_json(f"http://127.0.0.1:{port}/a.json") == (200, {"a": 1})
        assert reach.get_json(f"http://127.0.0.1:{port}/") == (200, None)
        assert reach.get_json(f"http://127.0.0.1:{port}/missing") == (404, None)
    finally:
        server.terminate()
        server.wait()
    assert reach.get_json(f"http://127.0.0.1:{port}/a.json") == (0, None)
