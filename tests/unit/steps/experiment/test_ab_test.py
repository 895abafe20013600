from __future__ import annotations

import pytest

from airflow_mlops_provider.exceptions import (
    DataError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.steps.experiment.ab_test import AB_TEST
from airflow_mlops_provider.steps.experiment.looking import take_look
from airflow_mlops_provider.steps.experiment.plan import ABTestPlan
from airflow_mlops_provider.steps.rollout.drive import abort, begin, tick
from tests.experiments import START, LoggingTarget

EQUAL = {"v1": 1.0, "v2": 1.0}
BETTER = {"v1": 1.0, "v2": 1.4}
WORSE = {"v1": 1.0, "v2": 0.6}


def plan(**knobs):
    defaults = {
        "candidate": "v2",
        "model_uri": "models:/m/2",
        "unit": "request",
        "min_effect": 0.3,
        "look_seconds": 60,
        "max_seconds": 1200,
        "bake_seconds": 30,
    }
    return ABTestPlan.of(**{**defaults, **knobs})


@pytest.fixture
def target(tmp_path):
    return LoggingTarget().start(tmp_path / "log")


class Run:
    """Drives a test second by second, as trigger and worker do."""

    def __init__(self, target, asked):
        self.target, self.plan, self.now = target, asked, START
        self.state = begin(target, "e", asked, self.now)
        self.looks_failed = None
        self.key, self.rate = "request_id", False

    def outcomes(self, start, end):
        if self.looks_failed:
            raise self.looks_failed
        return self.target.rows(start, end, self.key, self.rate)

    def step(self, requests=40, means=None, **playing):
        if requests:
            self.target.play(self.now, requests, means or EQUAL, **playing)
        self.now += self.plan.interval_seconds
        self.state = tick(self.target, "e", self.plan, self.now)
        if self.state.for_worker:
            self.state = self.look()
        return self.state

    def look(self):
        return take_look(
            AB_TEST,
            self.target,
            "e",
            self.plan,
            self.state,
            log=str(self.target.folder),
            outcomes=self.outcomes,
            rotate=True,
            now=self.now,
        )

    def to_the_end(self, means, **playing):
        for _ in range(400):
            if self.step(means=means, **playing).ended:
                return self.state.verdict("e")
        raise AssertionError(self.state)


def test_a_better_candidate_is_promoted_on_its_outcomes(target):
    verdict = Run(target, plan()).to_the_end(BETTER)
    assert (verdict.state, verdict.finding) == ("SUCCEEDED", "better")
    assert target.traffic == {"v2": 100}
    assert verdict.figures["low"] > 0
    assert verdict.figures["coverage"] == 1
    assert "v2 is better" in verdict.reason
    assert {"STEP", "PROMOTING", "BAKING"} <= {
        entry["state"] for entry in target.rollout["history"]
    }


def test_a_better_candidate_is_only_reported_if_so_asked(target):
    verdict = Run(target, plan(on_win="report")).to_the_end(BETTER)
    assert (verdict.state, verdict.finding) == ("ROLLED_BACK", "better")
    assert target.traffic == {"v1": 100}


def test_a_decrease_may_be_what_is_wanted(target):
    verdict = Run(target, plan(direction="decrease")).to_the_end(WORSE)
    assert (verdict.state, verdict.finding) == ("SUCCEEDED", "better")
    assert verdict.figures["high"] < 0


def test_a_worse_candidate_goes(target):
    verdict = Run(target, plan()).to_the_end(WORSE)
    assert (verdict.state, verdict.finding) == ("ROLLED_BACK", "worse")
    assert target.traffic == {"v1": 100}


def test_what_cannot_be_told_ends_where_its_power_is_used_up(target):
    verdict = Run(target, plan(min_effect=0.5, max_seconds=10**6)).to_the_end(EQUAL)
    assert (verdict.state, verdict.finding) == ("ROLLED_BACK", "inconclusive")
    figures = verdict.figures
    assert figures["champion_units"] + figures["candidate_units"] >= figures["needed_units"]


def test_the_time_is_up_at_last(target):
    run = Run(target, plan(min_effect=0.001, max_seconds=150))
    verdict = run.to_the_end(EQUAL)
    assert verdict.finding == "inconclusive"
    assert run.now - START < 150 + 8 * run.plan.interval_seconds


def test_a_broken_split_is_no_test(target):
    verdict = Run(target, plan()).to_the_end(BETTER, share=(40, 60))
    assert (verdict.state, verdict.finding) == ("ROLLED_BACK", "invalid")
    assert "sample-ratio mismatch" in verdict.reason
    assert str(verdict.figures["candidate_exposed"]) in verdict.reason


def test_outcomes_that_one_arm_loses_are_no_test(target):
    verdict = Run(target, plan()).to_the_end(BETTER, missing=("v2",))
    assert verdict.finding == "invalid"
    assert "went missing unevenly" in verdict.reason


def test_rates_are_compared_by_events(target):
    run = Run(target, plan(metric="rate", min_effect=0.1))
    run.rate = True
    verdict = run.to_the_end({"v1": -0.5, "v2": 0.1})
    assert (verdict.finding, target.traffic) == ("better", {"v2": 100})
    assert verdict.figures["e_value"] > 20


@pytest.mark.parametrize("key", ["request_id", "entity_id"])
def test_an_entity_is_one_unit_on_one_side(target, key):
    run = Run(target, plan(unit="entity"))
    run.key = key
    for _ in range(12):
        run.step(entities=150)
    assert target.sticky is True
    figures = run.state.figures_seen
    assert figures["champion_exposed"] + figures["candidate_exposed"] <= 150
    assert figures["crossovers"] == 0


@pytest.mark.parametrize("before", [True, False])
def test_assignment_sticks_as_long_as_the_traffic_is_split_and_then_as_it_did_before(
    target, before
):
    target.sticky = before
    Run(target, plan(unit="entity")).to_the_end(BETTER, entities=4000)
    assert target.traffic == {"v2": 100}
    assert target.sticky is before


def test_young_exposures_wait_for_their_outcomes(target):
    run = Run(target, plan(label_delay_seconds=100))
    while run.state.looks < 2:
        run.step()
    figures = run.state.figures_seen
    assert 0 < figures["champion_mature"] < figures["champion_exposed"]


def test_what_was_served_before_the_split_was_seen_in_force_does_not_count(target):
    run = Run(target, plan())
    target.play(START - 100, 50, EQUAL)
    while not run.state.looks:
        run.step()
    exposed = (
        run.state.figures_seen["champion_exposed"] + run.state.figures_seen["candidate_exposed"]
    )
    assert exposed < target.served - 50


def test_failing_requests_end_it_between_two_looks(target):
    run = Run(target, plan(look_seconds=10**6, max_seconds=10**7))
    for _ in range(3):
        run.step()
    target.count("v2", 100, errors=60)
    verdict = run.to_the_end(EQUAL)
    assert (verdict.finding, verdict.looks) == ("stopped", 0)
    assert "max_error_rate" in verdict.reason


def test_a_source_that_is_away_costs_looks_and_then_the_test(target):
    run = Run(target, plan())
    run.looks_failed = OSError("no route to the warehouse")
    while run.state.failed_looks < 2:
        run.step()
    assert "no route to the warehouse" in run.state.describe()
    run.looks_failed = None
    while not run.state.looks:
        run.step()
    assert (run.state.failed_looks, run.state.reason) == (0, "")
    run.looks_failed = OSError("no route to the warehouse")
    verdict = run.to_the_end(EQUAL)
    assert (verdict.finding, target.traffic) == ("stopped", {"v1": 100})
    assert "no route to the warehouse" in verdict.reason


def test_a_log_that_is_not_there_yet_costs_looks(target):
    run = Run(target, plan())
    run.target.folder = target.folder.parent / "nowhere"
    while not run.state.failed_looks:
        run.step(requests=0)
    assert "No file at" in run.state.reason
    assert run.state.state == "STEP"


def test_a_source_that_cannot_be_used_ends_the_test_at_once(target):
    run = Run(target, plan())
    run.looks_failed = DataError("there is no column value")
    verdict = run.to_the_end(EQUAL)
    assert (verdict.finding, verdict.looks) == ("stopped", 0)
    assert "no column value" in verdict.reason


def test_a_look_that_took_too_long_undoes_nothing(target):
    run = Run(target, plan())
    while not run.state.started:
        run.step()
    run.now += 61
    run.state = tick(target, "e", run.plan, run.now)
    assert run.state.for_worker
    target.expire_lease()
    assert run.look().state == "ROLLED_BACK"
    assert target.rollout["state"] == "ROLLED_BACK"


def test_a_lease_that_ran_out_after_the_answer_is_what_the_verdict_tells(target):
    run = Run(target, plan(bake_seconds=10**6))
    while run.state.state != "BAKING":
        run.step(means=BETTER)
    target.expire_lease()
    verdict = run.step(means=BETTER).verdict("e")
    assert (verdict.state, verdict.finding) == ("ROLLED_BACK", "better")
    assert "lease expired" in verdict.reason


def test_a_host_that_is_away_is_asked_again(target):
    run = Run(target, plan())
    while not run.state.started:
        run.step()
    run.now += 61
    run.state = tick(target, "e", run.plan, run.now)
    target.down = True
    with pytest.raises(ServingUnavailableError):
        run.look()
    target.down = False
    assert run.look().looks == 1


def test_a_killed_worker_leaves_the_look_to_the_next_one(target):
    run = Run(target, plan())
    while not run.state.started:
        run.step()
    run.now += 61
    assert tick(target, "e", run.plan, run.now).for_worker
    assert begin(target, "e", run.plan, run.now).for_worker
    assert tick(target, "e", run.plan, run.now).for_worker


def test_traffic_that_somebody_moved_pauses_the_test_and_its_count_begins_anew(target):
    run = Run(target, plan())
    while not run.state.looks:
        run.step()
    target.set_traffic("e", {"v1": 90, "v2": 10}, generation=target.generation)
    assert run.step().state == "PAUSED"
    with pytest.raises(ParameterError, match="50 %"):
        begin(target, "e", run.plan, run.now)
    target.set_traffic("e", {"v1": 50, "v2": 50}, generation=target.generation)
    again = begin(target, "e", run.plan, run.now)
    assert (again.state, again.started) == ("STEP", None)


def test_a_task_that_is_marked_failed_ends_the_test(target):
    run = Run(target, plan())
    while not run.state.started:
        run.step()
    assert abort(target, "e", run.plan, "the task was marked failed", run.now).finding == "stopped"
    assert target.traffic == {"v1": 100}


def test_no_other_rollout_begins_meanwhile(target):
    Run(target, plan())
    with pytest.raises(RegistryConflictError):
        begin(target, "e", plan(candidate="v3", model_uri="models:/m/3"), START)


def test_entities_need_a_target_that_can_keep_them_apart(target):
    target.abilities = target.abilities - {"sticky"}
    with pytest.raises(ParameterError, match="sticky"):
        begin(target, "e", plan(unit="entity"), START)


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        ({"split": 100}, "split"),
        ({"alpha": 0}, "alpha"),
        ({"power": "1"}, "power"),
        ({"min_effect": None}, "min_effect"),
        ({"min_effect": -1}, "min_effect"),
        ({"metric": "rate", "margin": 0.1}, "margin"),
        ({"interval_seconds": 500}, "interval_seconds"),
        ({"guard_alpha": 2}, "guard_alpha"),
        ({"unit": "session"}, "unit"),
    ],
)
def test_each_wrong_knob_is_named(knobs, named):
    with pytest.raises(ValueError, match=named):
        plan(**knobs)


def test_a_plan_survives_its_json():
    asked = plan(split="20", max_units="500", options={"workers": 2})
    assert AB_TEST.plan(asked.to_xcom()) == asked
    assert asked.guard.steps == (20, 100)
