"""Some seeded rounds of kills; many more are run by hand (docs/chaos.md)."""

import pytest

from tests.serve.chaos.rounds import chaos, drawn
from tests.serve.chaos.stage import WEIGHTS

SEED = 11


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("database", "rounds"), [("sqlite", 2), ("postgresql", 1)])
def test_every_job_comes_to_its_right_end(tmp_path, database, rounds):
    found = chaos(rounds, SEED, tmp_path, database)
    assert [(outcome.seed, outcome.problem) for outcome in found if not outcome.ok] == []
    assert sum(blow.hit for outcome in found for blow in outcome.blows) >= rounds


def test_a_seed_is_a_story():
    assert drawn(7) == drawn(7)
    assert len({str(drawn(seed)) for seed in range(100)}) > 95


def test_a_hundred_rounds_try_everything():
    assert {blow.kind for seed in range(1, 101) for blow in drawn(seed)} == set(WEIGHTS)
