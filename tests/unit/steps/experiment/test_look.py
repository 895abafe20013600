from __future__ import annotations

import json

import pytest

from airflow_mlops_provider.steps.experiment.look import judge
from airflow_mlops_provider.steps.experiment.plan import Question
from airflow_mlops_provider.steps.experiment.units import Arm, Arms


def arm(n, mean=0.0, variance=1.0, exposed=None):
    return Arm(exposed=exposed or n, mature=exposed or n, units=n, mean=mean, variance=variance)


def look(champion, candidate, elapsed=0.0, **knobs):
    asked = Question(**{"min_effect": 0.1, **knobs})
    arms = Arms(arms={"v1": champion, "v2": candidate})
    return judge(asked, arms, "v1", "v2", elapsed)


@pytest.mark.parametrize(
    ("mean", "knobs", "finding"),
    [
        (0.3, {}, "better"),
        (-0.3, {}, "worse"),
        (-0.3, {"direction": "decrease"}, "better"),
        (0.3, {"direction": "decrease"}, "worse"),
        (0.3, {"margin": 0.25}, "undecided"),
        (0.3, {"margin": 0.5}, "worse"),
        (-0.05, {"margin": -0.3}, "better"),
        (0.05, {}, "undecided"),
    ],
)
def test_the_interval_has_to_leave_the_margin(mean, knobs, finding):
    found = look(arm(2000), arm(2000, mean), **knobs)
    assert found.finding == finding
    assert found.low < mean < found.high


def test_few_units_say_nothing():
    found = look(arm(99), arm(5000, 9.0), min_units=100, split=98)
    assert (found.finding, found.difference, found.low) == ("undecided", None, None)


@pytest.mark.parametrize(
    ("events", "finding"), [(300, "better"), (215, "undecided"), (110, "worse")]
)
def test_rates_are_judged_by_the_side_of_their_events(events, finding):
    champion, candidate = (arm(2000, k / 2000, 0.09) for k in (200, events))
    found = look(champion, candidate, metric="rate", min_effect=0.03)
    assert found.finding == finding
    assert (found.e_value > 20) is (finding != "undecided")


def test_an_uneven_split_expects_uneven_arms():
    assert look(arm(8000), arm(2000), split=20).mismatch_e_value < 1
    assert look(arm(8000), arm(2000), split=50).finding == "invalid"


def test_a_mismatch_comes_before_any_winner():
    found = look(arm(2000), arm(2600, 9.0))
    assert found.finding == "invalid"
    assert "2000 units met the champion and 2600 the candidate, 50:50" in found.reason


def test_outcomes_that_are_missing_on_one_side_make_it_invalid():
    lost = look(arm(2000, exposed=3000), arm(2600, 9.0, exposed=3000))
    assert lost.finding == "invalid"
    assert "went missing unevenly" in lost.reason
    zero = look(arm(3000, exposed=3000), arm(3000, 9.0, exposed=3000), missing="zero")
    assert zero.finding == "better"


def test_it_gives_up_at_the_units_that_its_power_needs():
    needed = look(arm(500), arm(500)).needed_units
    # half_width and normal quantile at 80 %: (3.035 + 0.842)^2 * 4 * variance / effect^2
    assert needed == pytest.approx(4 * 3.877**2 / 0.01, rel=0.001)
    assert look(arm(needed // 2 - 1), arm(needed // 2)).finding == "undecided"
    assert look(arm(needed // 2 + 1), arm(needed // 2)).finding == "inconclusive"


def test_it_gives_up_in_time():
    assert look(arm(10), arm(10), elapsed=100.0, max_seconds=99).finding == "inconclusive"


def test_units_may_be_bounded_instead():
    found = look(arm(600), arm(600, 0.01), min_effect=None, max_units=1000)
    assert (found.finding, found.needed_units) == ("inconclusive", 1000)


def test_constant_outcomes_do_not_upset_it():
    same = look(arm(200, 1.0, 0.0), arm(200, 1.0, 0.0))
    assert (same.finding, same.low, same.high) == ("undecided", 0, 0)
    assert look(arm(200, 0.0, 0.0), arm(200, 0.0, 0.0), metric="rate").finding == "undecided"


def test_the_summary_is_flat_json():
    summary = look(arm(2000), arm(2000, 0.3)).summary()
    json.dumps(summary, allow_nan=False)
    assert summary["candidate_mean"] == 0.3
    assert all(not isinstance(value, dict | list) for value in summary.values())
