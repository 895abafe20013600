from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import (
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.steps.rollout.drive import Driver, abort, begin, tick
from airflow_mlops_provider.steps.rollout.kinds import Observation
from airflow_mlops_provider.steps.rollout.machine import decide
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from airflow_mlops_provider.steps.rollout.state import RolloutState
from tests.serving_fake import CrashError, with_champion


def plan(**knobs):
    defaults = {
        "candidate": "v2",
        "model_uri": "models:/m/2",
        "steps": (10, 50, 100),
        "step_min_seconds": 30,
        "step_max_seconds": 300,
        "min_requests": 50,
        "interval_seconds": 10,
        "bake_seconds": 20,
        "outage_seconds": 60,
        "rollback_timeout_seconds": 60,
        "lease_seconds": 60,
    }
    return CanaryPlan.of(**defaults | knobs)


def drive(target, chosen=None, *, requests=1000, ticks=200, now=0.0, before_tick=None, **traffic):
    """Tick with traffic in between until the rollout ends; return its state and its path."""
    chosen = chosen or plan()
    path = []
    for round_ in range(ticks):
        if before_tick:
            before_tick(round_)
        state = tick(target, "e", chosen, now)
        if not path or path[-1] != (state.state, state.weight):
            path.append((state.state, state.weight))
        if state.ended:
            return state, path
        target.serve(requests, **traffic)
        now += chosen.interval_seconds
    raise AssertionError(f"no end after {ticks} ticks: {path}")


def until(target, wanted, chosen=None, *, now=0.0, ticks=60):
    """Tick with good traffic until the rollout is in ``wanted``; return the time."""
    for _ in range(ticks):
        state = tick(target, "e", chosen or plan(), now)
        if state.state == wanted:
            return now
        target.serve(1000)
        now += 10
    raise AssertionError(f"never {wanted}")


@pytest.mark.parametrize("rate", [0.01, 1.0])
def test_users_are_shielded_while_both_have_traffic_and_no_longer(rate):
    target, seen = with_champion(), {}
    drive(
        target,
        plan(shield=True),
        error_rates={"v1": 0.01, "v2": rate},
        before_tick=lambda _: seen.update({target.traffic.get("v2", 0): target.shield}),
    )
    assert seen[0] is False
    assert seen[10] is True
    assert target.shield is False


def test_a_person_who_ends_a_canary_ends_its_shield():
    target, chosen = with_champion(), plan(shield=True)
    now = until(target, "STEP", chosen)
    assert target.shield is True
    target.set_traffic("e", {"v1": 100}, generation=target.generation)
    assert tick(target, "e", chosen, now + 10).state == "PAUSED"
    assert (target.traffic, target.shield) == ({"v1": 100}, False)


def test_traffic_that_was_set_back_to_the_weight_before_is_somebody_elses():
    target = with_champion()
    now = until(target, "STEP")
    target.traffic = {"v1": 100}
    state = tick(target, "e", plan(), now + 10)
    assert (state.state, target.traffic) == ("PAUSED", {"v1": 100})


def test_a_target_that_cannot_shield_is_refused_at_once():
    target = with_champion()
    target.abilities -= {"shield"}
    with pytest.raises(ParameterError, match="shield"):
        begin(target, "e", plan(shield=True), 0.0)
    assert target.rollout is None


def test_a_good_candidate_goes_through_all_weights():
    target = with_champion()
    state, path = drive(target, error_rates={"v1": 0.01, "v2": 0.01})
    assert path == [
        ("SMOKE", 0),
        ("STEP", 10),
        ("STEP", 50),
        ("BAKING", 100),
        ("SUCCEEDED", 100),
    ]
    assert target.traffic == {"v2": 100}
    assert [step["weight"] for step in state.steps] == [10, 50, 100]
    assert all(step["candidate_requests"] >= 50 for step in state.steps)
    assert state.verdict("e").state == "SUCCEEDED"


@pytest.mark.parametrize(
    ("traffic", "reason"),
    [
        ({"error_rates": {"v1": 0.01, "v2": 0.08}}, "error rate exceeds"),
        ({"error_rates": {"v1": 0.0, "v2": 0.5}}, "failed"),
        ({"error_rates": {"v1": 0.0, "v2": 1.0}}, "all failed"),
        ({"latency_ms": {"v1": 10, "v2": 40}}, "slower"),
    ],
)
def test_a_bad_candidate_is_rolled_back(traffic, reason):
    target = with_champion()
    state, path = drive(target, **traffic)
    assert state.state == "ROLLED_BACK"
    assert reason in state.reason
    assert target.traffic == {"v1": 100}
    assert ("BAKING", 100) not in path


def test_one_schema_violation_is_one_too_many():
    target = with_champion()
    until(target, "STEP")
    target.count("v2", 60, schema_violations=1)
    state, _ = drive(target, now=60)
    assert state.state == "ROLLED_BACK"
    assert "output schema" in state.reason


def test_a_candidate_that_breaks_while_baking_is_rolled_back():
    target = with_champion()
    now = until(target, "BAKING")
    state, path = drive(target, now=now, error_rates={"v2": 0.6})
    assert path[0] == ("BAKING", 100)
    assert state.state == "ROLLED_BACK"
    assert target.traffic == {"v1": 100}


@pytest.mark.parametrize(("slack", "end"), [(10, "SUCCEEDED"), (1, "ROLLED_BACK")])
def test_slower_by_less_than_the_slack_is_not_blamed(slack, end):
    target = with_champion()
    chosen = plan(latency_slack_ms=slack)
    state, _ = drive(target, chosen, latency_ms={"v1": 2.0, "v2": 5.0})
    assert state.state == end


def test_a_step_lasts_its_minimum():
    state, _ = drive(with_champion(), plan(step_min_seconds=70))
    assert all(step["seconds"] >= 70 for step in state.steps if step["state"] == "STEP")


def test_a_latency_spike_of_everybody_is_not_held_against_the_candidate():
    target = with_champion()

    def slow_down(round_):
        for name in target.traffic:
            target.count(name, 200, latency_ms=10.0 * (1 + round_))

    state, _ = drive(target, requests=0, before_tick=slow_down)
    assert state.state == "SUCCEEDED"


@pytest.mark.parametrize(
    ("policy", "end", "traffic"),
    [("pause", "PAUSED", {"v1": 90, "v2": 10}), ("rollback", "ROLLED_BACK", {"v1": 100})],
)
@pytest.mark.parametrize("requests", [0, 20])
def test_too_little_traffic_never_passes(policy, end, traffic, requests):
    target = with_champion()
    state, path = drive(target, plan(on_inconclusive=policy, min_requests=100), requests=requests)
    assert state.state == end
    assert "inconclusive" in state.reason
    assert target.traffic == traffic
    assert max(weight for _, weight in path) == 10


def test_evidence_that_leans_against_the_candidate_holds_it():
    target = with_champion()
    until(target, "STEP")
    target.count("v1", 5000, errors=0)
    target.count("v2", 600, errors=2)
    state = tick(target, "e", plan(), 100)
    assert (state.state, state.weight) == ("STEP", 10)


def test_counters_that_restart_are_not_negative_traffic():
    target = with_champion()
    state, _ = drive(target, before_tick=lambda n: target.restart("v2") if n == 2 else None)
    assert state.state == "SUCCEEDED"
    assert all(step["candidate_requests"] >= 0 for step in state.steps)


def test_missing_counters_hold_then_roll_back():
    target = with_champion()
    now = until(target, "STEP")
    target.metrics_down = True
    held = [tick(target, "e", plan(), now + 10 * n) for n in range(1, 7)]
    assert {(state.state, state.weight) for state in held} == {("STEP", 10)}
    state = tick(target, "e", plan(), now + 70)
    assert state.state == "ROLLED_BACK"
    assert "no counters" in state.reason


def test_a_short_gap_of_counters_does_no_harm():
    target = with_champion()

    def flicker(round_):
        target.metrics_down = round_ in (3, 4)

    assert drive(target, before_tick=flicker)[0].state == "SUCCEEDED"


def test_a_candidate_without_counters_counts_as_an_outage():
    target = with_champion()
    now = until(target, "STEP")
    del target.counters["v2"]
    tick(target, "e", plan(), now + 10)
    assert tick(target, "e", plan(), now + 100).state == "ROLLED_BACK"


def test_a_model_that_cannot_be_loaded_never_gets_traffic():
    target = with_champion(broken_models={"models:/m/2"})
    state, _ = drive(target)
    assert state.state == "ROLLED_BACK"
    assert "cannot be loaded" in state.reason
    assert target.history == []


def test_a_lost_lease_is_taken_as_the_end():
    target = with_champion()
    now = until(target, "STEP")
    target.expire_lease()
    state = tick(target, "e", plan(), now + 500)
    assert state.state == "ROLLED_BACK"
    assert "lease expired" in state.verdict("e").reason
    assert target.traffic == {"v1": 100}


def test_the_lease_covers_loading_the_model():
    target = with_champion()
    begin(target, "e", plan(), 0)
    assert target.lease_seconds == 60 + 180
    until(target, "STEP")
    assert target.lease_seconds == 60
    assert target.rollback_traffic == {"v1": 100}


def test_a_stale_generation_is_tried_again():
    target = with_champion()
    state_of = target.get_state

    def raced(endpoint):
        ref = state_of(endpoint)
        target.generation += not target.history  # somebody is always faster, for a while
        return ref

    target.get_state = raced
    until(target, "SMOKE")
    assert tick(target, "e", plan(), 10).state == "STEP"
    assert target.traffic == {"v1": 100}
    target.get_state = state_of
    assert tick(target, "e", plan(), 20).state == "STEP"
    assert target.traffic == {"v1": 90, "v2": 10}


def test_somebody_elses_traffic_pauses_the_rollout():
    target = with_champion()
    now = until(target, "STEP")
    target.traffic = {"v1": 30, "v2": 70}
    state = tick(target, "e", plan(), now + 10)
    assert state.state == "PAUSED"
    assert "somebody else" in state.reason
    assert target.traffic == {"v1": 30, "v2": 70}


def test_a_paused_rollout_goes_on_from_the_weight_in_force():
    target = with_champion()
    paused, _ = drive(target, plan(), requests=0)
    assert paused.state == "PAUSED"
    assert tick(target, "e", plan(), 1000) == paused
    target.traffic = {"v1": 80, "v2": 20}
    resumed = begin(target, "e", plan(), 2000)
    assert (resumed.state, resumed.weight) == ("STEP", 20)
    state, path = drive(target, now=2000)
    assert state.state == "SUCCEEDED"
    assert path[:2] == [("STEP", 20), ("STEP", 50)]


def test_a_rollout_paused_at_no_traffic_begins_again():
    target = with_champion()
    drive(target, plan(), requests=0)
    target.traffic = {"v1": 100}
    assert begin(target, "e", plan(), 2000).state == "PENDING"
    assert drive(target, now=2000)[0].state == "SUCCEEDED"


def test_a_paused_rollout_whose_traffic_went_elsewhere_needs_a_person():
    target = with_champion()
    drive(target, plan(), requests=0)
    target.traffic = {"v7": 100}
    with pytest.raises(ParameterError, match="v7"):
        begin(target, "e", plan(), 2000)


def test_another_candidate_is_refused_until_the_first_has_ended():
    target = with_champion()
    until(target, "STEP")
    other = plan(candidate="v3", model_uri="models:/m/3")
    with pytest.raises(RegistryConflictError, match="'v2'"):
        begin(target, "e", other, 50)
    with pytest.raises(RegistryConflictError, match="'v2'"):
        tick(target, "e", other, 50)
    assert drive(target)[0].state == "SUCCEEDED"
    state, _ = drive(target, other)
    assert (state.state, state.champion) == ("SUCCEEDED", "v2")


@pytest.mark.parametrize("error_rates", [{}, {"v2": 0.9}])
def test_an_ended_rollout_is_returned_as_it_is(error_rates):
    target = with_champion()
    ended, _ = drive(target, error_rates=error_rates)
    history = list(target.history)
    assert begin(target, "e", plan(), 9999) == ended
    assert tick(target, "e", plan(), 9999) == ended
    assert target.history == history


def test_a_success_that_was_undone_is_rolled_out_anew():
    target = with_champion()
    drive(target)
    target.traffic = {"v1": 100}
    assert begin(target, "e", plan(), 9999).state == "PENDING"


def test_a_candidate_that_is_the_champion_is_done():
    target = with_champion()
    state = begin(target, "e", plan(candidate="v1", model_uri="models:/m/1"), 0)
    assert state.state == "SUCCEEDED"
    assert target.rollout is None


@pytest.mark.parametrize("traffic", [{}, {"v1": 50, "v0": 50}])
def test_a_canary_needs_one_champion(traffic):
    target = with_champion()
    target.traffic = traffic
    with pytest.raises(ParameterError, match="DeployModelOperator"):
        begin(target, "e", plan(), 0)


def test_a_target_that_cannot_observe_is_refused_at_once():
    with pytest.raises(ParameterError, match="observe"):
        begin(with_champion(abilities=frozenset({"traffic", "lease"})), "e", plan(), 0)


def test_a_roll_back_that_cannot_be_written_fails_loudly_and_can_be_tried_again():
    target = with_champion()
    now = until(target, "STEP")
    target.frozen = True
    target.count("v2", 100, errors=100)
    state = tick(target, "e", plan(), now + 10)
    assert state.state == "ROLLING_BACK"
    state = tick(target, "e", plan(), now + 100)
    assert state.state == "ROLLBACK_FAILED"
    assert "could not be set back" in state.reason
    target.frozen = False
    assert begin(target, "e", plan(), now + 200).state == "ROLLING_BACK"
    assert tick(target, "e", plan(), now + 200).state == "ROLLED_BACK"


def test_abort_rolls_back_what_runs_and_nothing_else():
    target = with_champion()
    assert abort(target, "e", plan(), "why", 0) is None
    until(target, "STEP")
    other = plan(candidate="v3", model_uri="models:/m/3")
    assert abort(target, "e", other, "why", 50) is None
    assert target.traffic == {"v1": 90, "v2": 10}
    assert abort(target, "e", plan(), "why", 50).state == "ROLLED_BACK"
    assert target.traffic == {"v1": 100}
    assert abort(target, "e", plan(), "why", 60) is None


def test_a_deployment_that_vanished_is_rolled_back():
    target = with_champion()
    now = until(target, "STEP")
    del target.deployments["v2"]
    assert tick(target, "e", plan(), now + 10).state == "ROLLED_BACK"


def test_the_driver_waits_for_its_host_as_long_as_the_plan_says():
    target = with_champion()
    driver = Driver(target, "e", plan())
    assert driver.tick(0).state == "SMOKE"
    target.down = True
    assert driver.tick(10) is None
    assert driver.tick(69) is None
    target.down = False
    assert driver.tick(70) is not None
    target.down = True
    assert driver.tick(80) is None
    with pytest.raises(ServingUnavailableError):
        driver.tick(140)


def test_the_document_is_json_and_forgives_what_the_host_adds():
    target = with_champion()
    until(target, "BAKING")
    document = json.loads(json.dumps(target.rollout, allow_nan=False))
    state = RolloutState.from_document({**document, "expired_at": 1})
    assert state.to_xcom() == RolloutState.from_document(document).to_xcom()
    assert len(json.dumps(document)) < 10_000


def test_a_line_says_where_it_stands():
    target = with_champion()
    until(target, "STEP")
    target.count("v2", 20, errors=1)
    assert "v2 at 10 %: it answered 20 requests with 1 errors" in (
        tick(target, "e", plan(), 20).describe()
    )
    target.expire_lease()
    assert (
        tick(target, "e", plan(), 30).describe() == "ROLLED_BACK, v2 at 10 %: lease expired: test"
    )


@pytest.mark.parametrize("state", ["PAUSED", "SUCCEEDED", "ROLLED_BACK", "ROLLBACK_FAILED"])
def test_nothing_is_decided_after_the_end(state):
    ended = replace(begin(with_champion(), "e", plan(), 0), state=state)
    assert decide(plan(), ended, Observation(traffic={}, deployments={}), 1e9) == ended


@pytest.mark.parametrize("wanted", ["PENDING", "SMOKE", "STEP", "BAKING"])
def test_a_new_driver_goes_on_from_every_state(wanted):
    target, now = with_champion(), 0.0
    if wanted == "PENDING":
        begin(target, "e", plan(), now)
    else:
        now = until(target, wanted)
    reread = CanaryPlan.from_xcom(json.loads(json.dumps(plan().to_xcom())))
    state = begin(target, "e", reread, now)
    assert state.state == wanted
    assert drive(target, reread, now=now)[0].state == "SUCCEEDED"


@pytest.mark.parametrize("state", ["PROMOTING", "ROLLING_BACK"])
def test_a_transition_that_was_cut_short_is_finished(state):
    target = with_champion()
    until(target, "STEP")
    document = RolloutState.from_document(target.rollout)
    weight = 100 if state == "PROMOTING" else 0
    target.rollout = replace(document, state=state, weight=weight, previous_weight=10).to_xcom()
    after = tick(target, "e", plan(), 100)
    assert after.state == {"PROMOTING": "BAKING", "ROLLING_BACK": "ROLLED_BACK"}[state]


def test_a_step_begins_when_its_weight_is_in_force():
    target = with_champion()
    now = until(target, "STEP") + 10
    at_10 = RolloutState.from_document(target.rollout)
    target.rollout = replace(at_10, weight=50, previous_weight=10).to_xcom()  # and then killed
    target.serve(10_000)
    assert tick(target, "e", plan(), now + 1000).weight == 50
    assert target.traffic == {"v1": 50, "v2": 50}
    state = tick(target, "e", plan(), now + 1020)
    assert (state.state, state.weight, state.evidence.step.candidate.requests) == ("STEP", 50, 0)


look = st.tuples(
    st.integers(0, 400),  # requests
    st.sampled_from([0.0, 0.0, 0.01, 0.3]),  # error rate of the champion
    st.sampled_from([0.0, 0.0, 0.01, 0.3]),  # and of the candidate
    st.one_of(st.none(), st.integers(0, 8)),  # where the driver is killed
    st.booleans(),  # whether counters can be read
)


@settings(deadline=None, max_examples=150)
@given(st.lists(look, min_size=5, max_size=60))
def test_whatever_happens_weights_only_rise_until_a_roll_back_and_the_machine_ends(looks):
    target, now = with_champion(), 0.0
    for requests, champion, candidate, crash, visible in looks:
        target.crash_in, target.metrics_down = crash, not visible
        try:
            state = tick(target, "e", plan(), now)
            if state.ended:
                break
        except CrashError:
            pass
        target.serve(requests, error_rates={"v1": champion, "v2": candidate})
        now += 10
    target.crash_in, target.metrics_down = None, False
    final, _ = drive(target, now=now)

    weights = [traffic.get("v2", 0) for traffic in target.history]
    rising = weights[:-1] if weights and weights[-1] == 0 else weights
    assert rising == sorted(set(rising)), "each weight is set once, in order"
    expected = {"SUCCEEDED": {"v2": 100}, "ROLLED_BACK": {"v1": 100}}
    if final.state in expected:
        assert target.traffic == expected[final.state]
    if {"v2": 100} in target.history:
        steps = [step for step in final.steps if step["state"] == "STEP"]
        assert [step["weight"] for step in steps] == [10, 50]
        assert weights[:3] == [10, 50, 100]
        assert all(step["candidate_requests"] >= 50 for step in steps)
        assert all(step["champion_requests"] >= 50 for step in steps)
