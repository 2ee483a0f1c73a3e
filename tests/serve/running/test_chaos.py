"""Some seeded rounds of ``chaos.py``; many more are run by hand."""

import pytest

from tests.serve.running.chaos import chaos, drawn

ROUNDS, SEED = 4, 4


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1500)
def test_every_job_comes_to_its_right_end(tmp_path):
    found = chaos(ROUNDS, SEED, tmp_path)
    assert [(outcome.seed, outcome.problem) for outcome in found if not outcome.ok] == []
    assert sum(blow.hit for outcome in found for blow in outcome.blows) >= ROUNDS


def test_a_seed_is_a_story():
    assert drawn(7) == drawn(7)
    assert len({str(drawn(seed)) for seed in range(100)}) == 100
