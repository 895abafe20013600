from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.steps.metrics.figures import BINARY, REGRESSION, Sample
from airflow_mlops_provider.steps.metrics.groups import by_group


@settings(max_examples=20, deadline=None)
@given(
    st.integers(2, 200),
    st.integers(1, 6),
    st.integers(0, 10_000),
    st.sampled_from(sorted({*BINARY, *REGRESSION})),
)
def test_all_groups_at_once_are_each_group_alone(n, n_groups, seed, name):
    rng = np.random.default_rng(seed)
    sample = Sample.of(rng.integers(0, 2, n), rng.random(n).round(1))
    groups = rng.integers(-1, n_groups, n)
    figure = (BINARY | REGRESSION)[name]
    found = by_group(figure, sample, groups, n_groups)
    assert len(found) == n_groups
    for group, together in enumerate(found):
        rows = np.flatnonzero(groups == group)
        if together is None:
            truth = sample.truth[rows]
            assert len(rows) == 0 or len(set(truth)) < 2 or name in ("precision", "f1")
        else:
            alone = figure.estimate(sample.take(rows))
            assert together.value == pytest.approx(alone.value)
            assert together.variance == pytest.approx(alone.variance)
            assert together.n == alone.n
