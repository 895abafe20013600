from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.stats import false_discovery_control, ks_2samp, wasserstein_distance

from airflow_mlops_provider.steps.drift.compare import compare
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.drift.statistics import (
    adjusted,
    jensen_shannon,
    null_of_bins,
    psi,
)
from airflow_mlops_provider.steps.snapshot import write_dataset


def test_psi_is_that_of_the_textbook():
    reference, current = np.array([5000, 5000]), np.array([2500, 7500])
    assert psi(reference, current) == pytest.approx(
        0.25 * np.log(0.5 / 0.25) + 0.25 * np.log(1.5), rel=1e-3
    )
    assert psi(current, reference) == pytest.approx(psi(reference, current))


def test_distances_and_adjusted_p_values_are_those_of_scipy():
    rng = np.random.default_rng(0)
    for size in (1, 2, 50):
        p_values = rng.random(size) ** 4
        assert adjusted(p_values) == pytest.approx(false_discovery_control(p_values))
    assert adjusted([]) == []
    for _ in range(10):
        first, second = rng.integers(0, 5, (2, 8)) + np.eye(8, dtype=int)[0]
        assert jensen_shannon(first, second) == pytest.approx(
            jensenshannon(first, second, base=2), abs=1e-12
        )


@pytest.mark.parametrize(
    "current",
    [
        lambda rng: rng.normal(0.5, 1, 5_000),
        lambda rng: rng.normal(0, 2, 5_000),
        lambda rng: rng.normal(0, 0.1, 5_000),
        lambda rng: rng.exponential(size=5_000),
        lambda rng: np.round(rng.normal(size=5_000)),
        lambda rng: rng.normal(20, 1, 5_000),
    ],
)
def test_distances_need_no_raw_reference(tmp_path, current):
    rng = np.random.default_rng(1)
    reference, values = rng.normal(size=20_000), current(rng)
    ref = write_dataset(pd.DataFrame({"x": reference}), "d", str(tmp_path), "test")
    profile = profile_dataset(ref, None, str(tmp_path))
    (found,) = compare(pd.DataFrame({"x": values}), profile).report.features
    assert found.ks == pytest.approx(ks_2samp(reference, values).statistic, abs=0.004)
    exact = wasserstein_distance(reference, values) / reference.std()
    # far away the cells are wide
    assert found.wasserstein == pytest.approx(exact, rel=0.02 if exact < 10 else 0.5)


@pytest.mark.parametrize(
    ("reference", "n_current"), [([100] * 10, 1_000), ([2_000] * 10, 500), ([900, 90, 10], 1_000)]
)
def test_the_tail_of_the_null_goes_on_beyond_its_draws(reference, n_current):
    rng = np.random.default_rng(1)
    p = np.array(reference) / sum(reference)
    samples = (rng.multinomial(n, p, 300_000) for n in (sum(reference), n_current))
    effects = np.sort(psi(*samples))
    null = null_of_bins(tuple(reference), None, n_current)
    for p_value in (0.01, 1e-3, 1e-4):
        found = null.p_value(effects[-int(p_value * len(effects))])
        assert p_value / 3 < found < p_value * 3
        assert null.quantile(p_value) == pytest.approx(null.quantile(found), rel=0.2)
    assert null.p_value(null.quantile(1e-6)) == pytest.approx(1e-6)
    assert null.p_value(0.0) == 1.0


def test_new_levels_are_expected_as_often_as_levels_seen_once():
    reference = (600, 300, 100, 0, 0)
    usual, rare = (null_of_bins(reference, rate, 1_000).quantile(0.001) for rate in (0.0, 0.1))
    assert usual < 0.05 < rare
