"""Shared fixtures: where the real data lies, and scenes whose pixels identify themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Machines differ; what a property test proves does not depend on how long an example takes.
settings.register_profile("swathe", deadline=None)
settings.load_profile("swathe")

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Of several processes (`-n`) one has the warm Ray, one has loaded torch, and a file's fixtures are made once."""
    for item in items:
        costly = next((name for name in ("ray", "torch") if item.get_closest_marker(name)), None)
        item.add_marker(pytest.mark.xdist_group(costly or item.path.relative_to(ROOT).as_posix()))


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
