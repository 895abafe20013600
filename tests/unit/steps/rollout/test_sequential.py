from __future__ import annotations

import math
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.steps.rollout.sequential import (
    MIN_SAMPLE,
    MeanTest,
    RateTest,
    Sample,
    ShareTest,
    paired_bounds,
    ratio_grid,
)

MARGIN, ALPHA = 0.2, 0.05


def run_rates(rng, ratio, *, looks=40, requests=600, base=0.01, drift=False):
    """Return whether a rollout of 40 looks was ever rejected."""
    test = RateTest(margin=MARGIN)
    for look in range(looks):
        weight = (0.05, 0.25, 0.5, 0.5)[look * 4 // looks]
        rate = base * (1 + math.sin(look / 3)) if drift else base
        n = rng.binomial(requests, weight)
        k_candidate = rng.binomial(n, min(rate * ratio, 1))
        k_champion = rng.binomial(requests - n, rate)
        test = test.updated(
            candidate_events=int(k_candidate),
            champion_events=int(k_champion),
            share=n / requests,
        )
        if test.log_e_value > math.log(1 / ALPHA):
            return True
    return False


def normal_sample(rng, mean, n):
    values = rng.normal(mean, 0.5, n)
    return Sample(n=n, total=float(values.sum()), squares=float((values**2).sum()))


def test_the_grid_lies_between_the_margin_and_twenty():
    grid = ratio_grid(MARGIN)
    assert list(grid) == sorted(grid)
    assert grid[0] > 1 + MARGIN
    assert grid[-1] == pytest.approx(20)


@pytest.mark.parametrize(
    ("ratio", "drift"), [(1.0, False), (1.0, True), (1.2, False), (0.3, False)]
)
def test_a_sound_candidate_is_seldom_accused(ratio, drift):
    rng = np.random.default_rng(7)
    alarms = sum(run_rates(rng, ratio, drift=drift) for _ in range(300))
    assert alarms / 300 <= ALPHA


def test_a_bad_candidate_is_found():
    rng = np.random.default_rng(7)
    assert all(run_rates(rng, 5.0) for _ in range(100))


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50), st.floats(0.01, 0.99)), max_size=20)
)
def test_an_error_of_the_candidate_never_speaks_for_it(looks):
    fewer, more = RateTest(margin=MARGIN), RateTest(margin=MARGIN)
    for candidate, champion, share in looks:
        common = {"champion_events": champion, "share": share}
        fewer = fewer.updated(candidate_events=candidate, **common)
        more = more.updated(candidate_events=candidate + 1, **common)
    assert more.log_e_value >= fewer.log_e_value
    assert math.isfinite(more.log_e_value)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_without_both_sides_nothing_is_learnt(share):
    test = RateTest(margin=MARGIN).updated(candidate_events=9, champion_events=0, share=share)
    assert test == RateTest(margin=MARGIN)
    assert test.log_e_value == 0


def test_the_state_is_json():
    test = RateTest(margin=MARGIN).updated(candidate_events=3, champion_events=1, share=0.1)
    assert RateTest(**asdict(test)).log_e_value == test.log_e_value > 0


def test_a_mean_needs_thirty_observations_a_side():
    rng = np.random.default_rng(1)
    few = MeanTest().updated(normal_sample(rng, 0, MIN_SAMPLE - 1), normal_sample(rng, 0, 999))
    assert few.difference is None
    assert few.lower_bound(ALPHA) is None


@pytest.mark.parametrize(("shift", "allowed_alarms"), [(0.0, 0.05), (-0.3, 0.0)])
def test_the_lower_bound_seldom_exceeds_the_truth(shift, allowed_alarms):
    rng = np.random.default_rng(3)
    alarms = 0
    for _ in range(200):
        test, hit = MeanTest(), False
        for look in range(40):
            level = 2 + look / 10  # which moves for both
            candidate = normal_sample(rng, level + shift, 20)
            test = test.updated(candidate, normal_sample(rng, level, 200))
            bound = test.lower_bound(ALPHA)
            hit |= bound is not None and bound > 0
        alarms += hit
    assert alarms / 200 <= allowed_alarms


def test_a_slower_candidate_is_found():
    rng = np.random.default_rng(3)
    test = MeanTest()
    for _ in range(40):
        test = test.updated(normal_sample(rng, 2.3, 100), normal_sample(rng, 2.0, 500))
    assert 0.2 < test.lower_bound(ALPHA) < test.difference == pytest.approx(0.3, abs=0.05)


def test_equal_constants_have_no_spread():
    same = Sample(n=50, total=100.0, squares=200.0)
    assert MeanTest().updated(same, same).lower_bound(ALPHA) == 0


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5])
def test_a_share_stays_within_its_bounds_at_all_looks(share):
    rng = np.random.default_rng(3)
    missed = 0
    for _ in range(200):
        events = np.cumsum(rng.random(400) < share)
        tests = [ShareTest(n=n, events=int(events[n - 1])) for n in range(20, 401, 20)]
        missed += any(not low <= share <= high for low, high in (t.bounds(ALPHA) for t in tests))
    assert missed / 200 <= ALPHA


@pytest.mark.parametrize(("n", "events"), [(0, 0), (1, 0), (1, 1), (500, 0), (500, 500), (500, 7)])
def test_bounds_of_a_share_enclose_it(n, events):
    low, high = ShareTest(n=n, events=events).bounds(ALPHA)
    assert 0 <= low <= (events / n if n else 0.5) <= high <= 1


def test_bounds_of_a_share_narrow():
    low, high = ShareTest(n=10_000, events=500).bounds(ALPHA)
    assert 0.04 < low < 0.05 < high < 0.06


def test_paired_differences_have_bounds_once_there_are_enough():
    values = np.random.default_rng(5).normal(0.2, 0.5, 2000)
    few, many = (
        Sample(n=n, total=float(values[:n].sum()), squares=float((values[:n] ** 2).sum()))
        for n in (MIN_SAMPLE - 1, 2000)
    )
    assert paired_bounds(few, ALPHA) == (None, None)
    low, high = paired_bounds(many, ALPHA)
    assert 0.1 < low < 0.2 < high < 0.3
