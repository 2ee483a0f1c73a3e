"""What all tests share: which of them stay in one process, where the real data lies, the warm Ray."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ; what a property test proves does not depend on how long an example takes.
settings.register_profile("swathe", deadline=None)
settings.load_profile("swathe")

ROOT = Path(__file__).resolve().parent.parent
COSTLY = ("ray", "torch")


@cache
def group_of(path):
    """What the tests of a file have in common: a warm Ray, a loaded torch, else their own fixtures."""
    text = (ROOT / path).read_text(encoding="utf-8")
    return next((name for name in COSTLY if f"pytest.mark.{name}" in text), path)


def pytest_collection_modifyitems(items):
    """What takes longest begins first, so that several processes (`-n`) end together."""
    rank = {name: at for at, name in enumerate(COSTLY)}
    items.sort(key=lambda item: rank.get(group_of(item.nodeid.split("::")[0]), len(rank)))


def pytest_xdist_make_scheduler(config, log):
    """Of several processes one has the warm Ray, one has loaded torch, and a file's fixtures are made once.

    xdist's own groups (`--dist loadgroup`) have no effect on pytest 9.2, whose ids cannot be changed.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByGroup(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            return group_of(nodeid.split("::")[0])

    config.option.loadscopereorder = False  # the order is that of the collection, above
    return ByGroup(config, log)


@pytest.fixture(scope="session")
def real_data():
    """Folder of real imagery, or a skip that says how to have it."""
    folder = Path(os.environ.get("SWATHE_TEST_DATA", ROOT.parent / "shared" / "data")).resolve()
    if not folder.is_dir():
        pytest.skip(f"no real imagery at {folder}; set SWATHE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def warm_ray(tmp_path_factory):
    """One local Ray for the whole test run; gives its nodes."""
    from cluster.local import ClusterSpec, connect

    spec = ClusterSpec(tmp_path_factory.mktemp("ray"), cpus=2, gpus=0, dashboard=False)
    with connect(spec) as session:
        yield session
