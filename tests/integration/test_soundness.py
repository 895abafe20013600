"""The simulations behind the documented error rates; seeded, so they always say the same."""

from __future__ import annotations

import pytest

from benchmarks import rollout_soundness


@pytest.mark.slow
def test_a_rollout_is_as_seldom_wrong_as_the_documentation_says():
    measures = rollout_soundness.run(quick=False)
    assert [measure.name for measure in measures if not measure.holds] == []
