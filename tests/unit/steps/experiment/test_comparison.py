from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.steps.experiment.comparison import (
    decisive_variance,
    half_width,
    log_e_value,
)

ALPHA = 0.05


@given(st.floats(1e-9, 1e6), st.floats(1e-9, 1e6), st.floats(1e-6, 0.5))
def test_looking_often_costs_something_at_any_scale(variance, tuned, alpha):
    width = half_width(variance, alpha, tuned)
    assert width > math.sqrt(variance) * math.sqrt(-2 * math.log(alpha)) * 0.99
    scaled = half_width(variance * 100, alpha, tuned * 100)
    assert scaled == pytest.approx(10 * width)


def test_the_sequence_is_nearly_tightest_where_it_is_tuned():
    at = [half_width(1.0, ALPHA, tuned) for tuned in (0.01, 0.1, 1.0, 10.0, 100.0)]
    assert min(at) == at[2] == pytest.approx(3.035, abs=0.01)


def test_constants_leave_no_doubt():
    assert half_width(0.0, ALPHA, 1.0) == 0


def test_a_level_that_is_right_is_seldom_left():
    rng = np.random.default_rng(1)
    left = 0
    for _ in range(300):
        means = rng.normal(0, 1, (1000, 10)).cumsum(axis=0).sum(axis=1)
        n = np.arange(1, 1001) * 10
        widths = np.array([half_width(1 / each, ALPHA, 1 / 3000) for each in n])
        left += bool((np.abs(means / n) > widths).any())
    assert left / 300 <= ALPHA


@pytest.mark.parametrize(("power", "ratio"), [(0.5, 1.0), (0.9, 1.422)])
def test_more_power_needs_a_smaller_variance(power, ratio):
    variance = decisive_variance(0.2, ALPHA, power)
    found = half_width(variance, ALPHA, variance)
    assert 0.2 / found == pytest.approx(ratio, abs=0.005)


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.9, 0.1), (0.2, 0.3, 0.5)])
def test_the_e_value_has_mean_one_if_the_shares_are_right(shares):
    rng = np.random.default_rng(1)
    counts = rng.multinomial(60, shares, 20_000)
    values = [math.exp(log_e_value(row, shares, 100.0)) for row in counts.tolist()]
    assert np.mean(values) == pytest.approx(1, abs=0.03)


def test_nothing_counted_is_no_evidence():
    assert log_e_value((0, 0), (0.5, 0.5), 500.0) == pytest.approx(0)


def test_other_shares_are_found_and_more_so_with_more_counts():
    few, many = (log_e_value((52 * n, 48 * n), (0.5, 0.5), 500.0) for n in (50, 500))
    assert few < math.log(100) < many
