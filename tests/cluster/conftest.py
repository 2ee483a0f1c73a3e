"""Real Rays for the tests: one that is kept running, several nodes on one machine, and programs that use them.

Ray is one per process, so that what connects runs in a process of its own: the tests here may share a pytest
process with others that hold a connection.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from cluster import environment, head, scratch

PATIENCE_S = 240
STAND_IN = """\
#!/bin/sh
# Stands in for the command of an image: it says what it was given and does what it is told.
echo "arguments $*"
case "$1" in
    fail) exit 3 ;;
    wait) trap 'sleep 4; echo "receipt written"; exit 130' TERM; echo "waiting"; while :; do sleep 0.2; done ;;
esac
"""


@pytest.fixture(scope="session")
def drive(tmp_path_factory):
    """Run a program in a Python of its own; gives back what it printed last, as JSON, and all it wrote to stderr."""
    elsewhere = tmp_path_factory.mktemp("home")

    def run(program, **variables):
        given = {"HOME": str(elsewhere), "RAY_ADDRESS": ""} | variables
        env = {k: v for k, v in (os.environ | given).items() if v and not k.startswith("PYTEST")}
        answer = subprocess.run(
            [sys.executable, "-c", dedent(program)],
            env=env,
            cwd=elsewhere,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout.splitlines()[-1]), answer.stderr

    return run


@pytest.fixture(scope="session")
def kept(tmp_path_factory):
    """(data folder, head) of one Ray that is kept running for all tests, guarded by a token."""
    data_dir = tmp_path_factory.mktemp("kept")
    programs = data_dir / "bin"
    programs.mkdir()
    (programs / "swathe").write_text(STAND_IN)
    (programs / "swathe").chmod(0o755)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    running = head.start(head.HeadSpec(data_dir, cpus=2, gpus=0, auth="token", environment=path))
    yield data_dir, running
    head.stop(data_dir)


@pytest.fixture
def nodes():
    """Bring up a Ray of several nodes on this machine: ``with nodes({"num_cpus": 1}, …) as cluster``.

    The first is the head; ``cluster.remove_node(node, allow_graceful=False)`` kills one. Nothing is connected:
    programs do that by ``cluster.address``.
    """
    return several_nodes


@contextmanager
def several_nodes(*options):
    values = environment.variables({}, loopback=True, auth="disabled")
    folder = scratch.make()
    with environment.applied(values):
        from ray._common.utils import get_ray_address_file, reset_ray_address
        from ray.cluster_utils import Cluster

        # Ray's test cluster leaves its address in the default folder, wherever its own lies, and expects that to exist.
        Path(get_ray_address_file(None)).parent.mkdir(parents=True, exist_ok=True)
        cluster = Cluster()
        try:
            for number, given in enumerate(options):
                first = {"temp_dir": str(folder), "include_dashboard": False} if number == 0 else {}
                cluster.add_node(**first, **given)
            yield cluster
        finally:
            cluster.shutdown()
            reset_ray_address()
            scratch.remove(folder)
