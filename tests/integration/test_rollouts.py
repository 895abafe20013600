"""Rollouts against the real host: Envoy, scorers of real models, and live traffic."""

from __future__ import annotations

import math
import time

import pytest

from airflow_mlops_provider.exceptions import ParameterError, RegistryConflictError
from airflow_mlops_provider.serving.counters import Counters, counters_path
from airflow_mlops_provider.steps.rollout.drive import begin
from tests.rollout_drivers import edges, join, start_driver
from tests.rollout_hosts import ENDPOINT, rollout_host, statuses
from tests.serving_hosts import put


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with rollout_host(tmp_path_factory.mktemp) as started:
        yield started


@pytest.fixture
def host(running):
    """The host of this module; v1 serves everything, v2 is the same model, v3 fails at times."""
    running.reset()
    return running


def test_shadow_finds_the_same_model_to_agree_and_leaves_no_mirror(host):
    with host.traffic() as seen:
        state = host.drive(host.shadow(dry_run_metrics=["latency"]))
    assert (state.state, state.reason) == ("SUCCEEDED", "it agrees with the champion")
    (step,) = state.steps
    assert (step["disagreements"], step["shadow_failed"]) == (0, 0)
    assert step["pairs"] >= 100
    ref = host.client.get_state(ENDPOINT)
    assert (ref.traffic, ref.mirror_traffic) == ({"v1": 100}, {})
    assert statuses(seen) == {200}


def test_shadow_rolls_a_failing_candidate_back_and_no_user_notices(host):
    with host.traffic() as seen:
        state = host.drive(host.shadow("v3", dry_run_metrics=["latency"]))
    assert state.state == "ROLLED_BACK"
    assert host.client.get_state(ENDPOINT).mirror_traffic == {}
    assert statuses(seen) == {200}


def test_blue_green_switches_at_once_and_keeps_the_old_colour(host):
    with host.traffic() as seen:
        state = host.drive(host.blue_green())
    assert state.state == "SUCCEEDED"
    ref = host.client.get_state(ENDPOINT)
    assert ref.traffic == {"v2": 100}
    assert "v1" in ref.deployments
    assert statuses(seen) == {200}


def test_blue_green_goes_back_at_once_when_the_new_colour_fails(host):
    with host.traffic():
        state = host.drive(host.blue_green("v3"))
    assert state.state == "ROLLED_BACK"
    assert host.client.get_state(ENDPOINT).traffic == {"v1": 100}


@pytest.mark.parametrize(
    ("kind", "knobs", "end", "traffic"),
    [
        ("canary", {"on_inconclusive": "pause"}, "PAUSED", {"v1": 80, "v2": 20}),
        ("canary", {"on_inconclusive": "rollback"}, "ROLLED_BACK", {"v1": 100}),
        ("blue_green", {"on_inconclusive": "rollback"}, "ROLLED_BACK", {"v1": 100}),
        ("shadow", {}, "ROLLED_BACK", {"v1": 100}),
    ],
)
def test_nothing_passes_without_traffic(host, kind, knobs, end, traffic):
    state = host.drive(host.quick(kind, patience=0.5, **knobs))
    assert (state.state, state.reason[:12]) == (end, "inconclusive")
    assert all(step["candidate_requests"] == 0 for step in state.steps)
    ref = host.client.get_state(ENDPOINT)
    assert (ref.traffic, ref.mirror_traffic) == (traffic, {})


def test_traffic_that_stops_in_a_later_step_promotes_nothing(host):
    plan = host.quick("canary", patience=4, step_min_seconds=2, min_requests=5)
    with host.traffic():
        host.drive(plan, lambda state: state.evidence.step.candidate.requests >= 5)
    state = host.drive(plan)
    assert (state.state, state.weight) == ("PAUSED", 60)
    assert "each side has to answer 5 requests" in state.reason
    passed, stopped = (step["candidate_requests"] for step in state.steps)
    assert passed >= 5 > stopped
    assert host.client.get_state(ENDPOINT).traffic == {"v1": 40, "v2": 60}


def test_a_second_rollout_is_refused_and_the_first_goes_on(host):
    plan = host.quick("canary")
    with host.traffic() as seen:
        host.drive(plan, lambda state: state.state == "STEP")
        for kind in ("canary", "blue_green", "shadow"):
            with pytest.raises(RegistryConflictError, match="in a rollout of 'v2'"):
                begin(host.client, ENDPOINT, host.quick(kind, "v3"), time.time())
        state = host.drive(plan)
    assert (state.state, state.candidate) == ("SUCCEEDED", "v2")
    assert {name for _, name in seen} == {"v1", "v2"}
    assert statuses(seen) == {200}


def test_a_metric_that_the_host_does_not_count_is_refused_before_anything_moves(host):
    before = host.client.get_state(ENDPOINT)
    plan = host.quick("canary", metrics=[{"name": "eror", "kind": "rate"}])
    with pytest.raises(ParameterError, match=r"counters \(client_errors, errors, .*'eror'"):
        begin(host.client, ENDPOINT, plan, time.time())
    assert host.client.get_rollout(ENDPOINT) is None
    assert host.client.get_state(ENDPOINT) == before


@pytest.mark.slow
def test_a_metric_that_becomes_nan_holds_and_never_passes(host):
    metrics = [{"name": "score", "kind": "mean", "margin": 0.02, "direction": "both"}]
    plan = host.quick("canary", "v4", metrics=metrics, min_requests=200, outage_seconds=1)
    with host.traffic() as seen:
        host.drive(plan, lambda state: state.state == "STEP")
        path = counters_path(host.host.workspace / "serving", ENDPOINT, "v4")
        Counters(path).add("score_sum", math.nan)
        state = host.drive(plan)
    assert (state.state, state.reason[:11]) == ("ROLLED_BACK", "no counters")
    assert [step["weight"] for step in state.steps] == [20]
    assert statuses(seen) == {200}


def test_a_canary_survives_its_driver_being_killed_at_every_edge(host, tmp_path):
    plan, met = host.quick("canary"), tmp_path / "met"
    answered = host.counted("v2")
    with host.traffic() as seen:
        while join(start_driver(host.host.workspace, ENDPOINT, plan, met)):
            pass
    assert edges(met) == [
        f"{moment} {write}"
        for write in (
            *("put PENDING 0", "put SMOKE 0"),
            *("put STEP 20", "move 20/0", "put STEP 60", "move 60/0"),
            *("put PROMOTING 100", "move 100/0", "put BAKING 100", "put SUCCEEDED 100"),
        )
        for moment in ("before", "after")
    ]
    state = host.ended(plan)
    assert state.state == "SUCCEEDED"
    assert sum(step["candidate_requests"] for step in state.steps) <= host.counted("v2") - answered
    assert statuses(seen) == {200}


@pytest.mark.slow
def test_two_deployments_of_one_model_are_seldom_told_apart(host):
    """50 short canaries with the shipped knobs of judgement; 6 of 50 is beyond a rate of 5 %."""
    ends = []
    with host.traffic(rate=80) as seen:
        for number in range(50):
            plan = host.canary(("v2", "v1")[number % 2])
            state = host.drive(plan)
            ends.append((state.state, state.reason, state.evidence.latency.difference))
            if state.state != "SUCCEEDED":
                host.client.clear_rollout(ENDPOINT)
                put(host.client, ENDPOINT, {plan.candidate: 100})
    assert statuses(seen) == {200}
    rolled_back = [end for end in ends if end[0] == "ROLLED_BACK"]
    assert len(rolled_back) <= 6, rolled_back
