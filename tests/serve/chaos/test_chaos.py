"""Some seeded rounds of kills; many more are run by hand (docs/chaos.md)."""

import pytest

from tests.serve.chaos.rounds import chaos, drawn
from tests.serve.chaos.stage import WEIGHTS

ROUNDS, SEED = 2, 11


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_every_job_comes_to_its_right_end(tmp_path):
    found = chaos(ROUNDS, SEED, tmp_path)
    assert [(outcome.seed, outcome.problem) for outcome in found if not outcome.ok] == []
    assert all(outcome.predictions["answered"] for outcome in found)
    assert sum(blow.hit for outcome in found for blow in outcome.blows) >= ROUNDS


def test_a_seed_is_a_story():
    assert drawn(7) == drawn(7)
    assert len({str(drawn(seed)) for seed in range(100)}) > 95


def test_a_hundred_rounds_try_everything():
    assert {blow.kind for seed in range(1, 101) for blow in drawn(seed)} == set(WEIGHTS)
