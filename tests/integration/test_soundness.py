"""The simulations behind the documented error rates; seeded, so they always say the same."""

from __future__ import annotations

import pytest

from benchmarks import ab_soundness, drift_soundness, rollout_soundness


@pytest.mark.slow
@pytest.mark.parametrize("simulation", [rollout_soundness, drift_soundness, ab_soundness])
def test_decisions_are_as_seldom_wrong_as_the_documentation_says(simulation):
    measures = simulation.run(quick=False)
    assert [measure.name for measure in measures if not measure.holds] == []
