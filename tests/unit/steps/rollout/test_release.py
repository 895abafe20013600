"""Shadow, blue-green, and what all releases have in common beside the canary's steps."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import ParameterError, RegistryConflictError
from airflow_mlops_provider.steps.rollout.drive import approve, begin, tick
from airflow_mlops_provider.steps.rollout.kinds import MAX_HISTORY, read_plan, read_state
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, ShadowPlan
from tests.serving_fake import CrashError, with_champion

COMMON = {
    "candidate": "v2",
    "model_uri": "models:/m/2",
    "interval_seconds": 10,
    "outage_seconds": 60,
    "rollback_timeout_seconds": 60,
    "lease_seconds": 60,
}


def shadow(**knobs):
    defaults = {"mirror_percent": 50, "min_pairs": 200, "min_seconds": 30, "max_seconds": 300}
    return ShadowPlan.of(**COMMON | defaults | knobs)


def blue_green(**knobs):
    defaults = {"min_requests": 100, "bake_seconds": 30, "bake_max_seconds": 300}
    return BlueGreenPlan.of(**COMMON | defaults | knobs)


def canary(**knobs):
    defaults = {"steps": (10, 50, 100), "step_min_seconds": 30, "step_max_seconds": 300}
    defaults |= {"min_requests": 50, "bake_seconds": 20}
    defaults |= {"shadow_min_seconds": 30, "shadow_max_seconds": 300}
    return CanaryPlan.of(**COMMON | defaults | knobs)


def drive(target, plan, *, now=0.0, requests=1000, ticks=100, between=None, mirror=None, **serving):
    """Tick with traffic in between until the rollout ends; return its state and its path."""
    path = []
    for _ in range(ticks):
        state = tick(target, "e", plan, now)
        if not path or path[-1] != (state.state, state.weight):
            path.append((state.state, state.weight))
        if state.ended:
            return state, path
        if between:
            between(state)
        target.serve(requests, **serving)
        if target.mirror.get("v2"):
            target.mirror_requests("v2", requests // 2, **(mirror or {}))
        now += plan.interval_seconds
    raise AssertionError(f"no end after {ticks} ticks: {path}")


def until(target, plan, wanted, *, now=0.0, **serving):
    for _ in range(60):
        if tick(target, "e", plan, now).state == wanted:
            return now
        target.serve(1000, **serving)
        if target.mirror.get("v2"):
            target.mirror_requests("v2", 500)
        now += 10
    raise AssertionError(f"never {wanted}")


def test_a_shadow_that_agrees_succeeds_without_any_traffic():
    target = with_champion()
    state, path = drive(target, shadow(), mirror={"disagreements": 5})
    assert [name for name, _ in path] == ["SMOKE", "SHADOW", "SUCCEEDED"]
    assert (target.traffic, target.mirror, target.history) == ({"v1": 100}, {}, [])
    verdict = state.verdict("e")
    assert (verdict.kind, verdict.state) == ("shadow", "SUCCEEDED")
    assert verdict.steps[0]["pairs"] >= 200


def test_mirrored_requests_go_to_the_candidate_at_the_percent_asked_for():
    target = with_champion()
    until(target, shadow(mirror_percent=30), "SHADOW")
    assert (target.traffic, target.mirror) == ({"v1": 100}, {"v2": 30})


@pytest.mark.parametrize(
    ("mirror", "reason"),
    [
        ({"disagreements": 150}, "disagrees"),
        ({"failed": 40}, "that the champion answers"),
        ({"slower": 0.7}, "slower"),
        ({"shift": 0.3}, "shifted by +0.3"),
    ],
)
def test_a_shadow_that_is_worse_is_rolled_back_and_its_mirror_taken_away(mirror, reason):
    target = with_champion()
    state, _ = drive(target, shadow(), mirror=mirror)
    assert state.state == "ROLLED_BACK"
    assert reason in state.reason
    assert (target.traffic, target.mirror) == ({"v1": 100}, {})


@pytest.mark.parametrize(
    ("test", "mirror"),
    [
        ("disagreement", {"disagreements": 150}),
        ("errors", {"failed": 40}),
        ("latency", {"slower": 0.7}),
        ("shift", {"shift": 0.3}),
    ],
)
def test_a_shadow_passes_over_what_is_dry_run(test, mirror):
    state, _ = drive(with_champion(), shadow(dry_run_metrics=[test]), mirror=mirror)
    assert (state.state, set(state.dry_run)) == ("SUCCEEDED", {test})


def test_a_shadow_that_breaks_its_schema_is_rolled_back():
    target = with_champion()
    now = until(target, shadow(), "SHADOW")
    target.counters["v2"]["schema_violations"] += 1
    state, _ = drive(target, shadow(), now=now + 10)
    assert "output schema" in state.reason


@pytest.mark.parametrize("requests", [0, 4])
def test_a_shadow_without_traffic_is_inconclusive_and_never_passes(requests):
    target = with_champion()
    state, _ = drive(target, shadow(), requests=requests)
    assert state.state == "ROLLED_BACK"
    assert "inconclusive" in state.reason
    assert target.mirror == {}


def test_disagreement_on_the_bound_is_inconclusive_rather_than_passed():
    target = with_champion()
    state, _ = drive(target, shadow(), requests=100, mirror={"disagreements": 5})
    assert state.state == "ROLLED_BACK"
    assert "inconclusive" in state.reason


def test_pairs_that_cannot_be_read_hold_the_shadow_then_roll_it_back():
    target = with_champion()
    now = until(target, shadow(), "SHADOW")
    target.paired = {"v2": {"pairs": float("nan")}}
    target.pairs = lambda endpoint, tolerance: target.paired
    assert tick(target, "e", shadow(), now + 10).state == "SHADOW"
    assert tick(target, "e", shadow(), now + 100).state == "ROLLED_BACK"


@pytest.mark.parametrize("crash", range(6))
def test_a_pause_that_was_cut_short_leaves_no_mirror(crash):
    target = with_champion()
    now = until(target, shadow(), "SHADOW")
    target.create_deployment("e", "v7", "models:/m/7")
    target.traffic, target.crash_in = {"v7": 100}, crash
    with suppress(CrashError):
        tick(target, "e", shadow(), now + 10)
    target.crash_in = None
    assert tick(target, "e", shadow(), now + 20).state == "PAUSED"
    assert (target.traffic, target.mirror) == ({"v7": 100}, {})


def test_the_candidate_is_deployed_with_its_options():
    target, given = with_champion(), []
    created = target.create_deployment
    target.create_deployment = lambda *args, **more: given.append(more) or created(*args, **more)
    tick(target, "e", canary(options={"workers": 2}), 0)
    tick(with_champion(), "e", canary(), 0)
    assert given == [{"timeout": 180, "options": {"workers": 2}}]


def test_a_shadow_whose_traffic_somebody_moved_pauses_without_its_mirror():
    target = with_champion()
    now = until(target, shadow(), "SHADOW")
    target.create_deployment("e", "v7", "models:/m/7")
    target.traffic = {"v7": 100}
    state = tick(target, "e", shadow(), now + 10)
    assert state.state == "PAUSED"
    assert (target.traffic, target.mirror) == ({"v7": 100}, {})


@pytest.mark.parametrize(("plan", "fallback"), [(shadow(), None), (canary(), {"v1": 100})])
def test_only_a_rollout_that_moves_traffic_has_traffic_to_fall_back_to(plan, fallback):
    target = with_champion()
    begin(target, "e", plan, 0)
    assert target.rollback_traffic == fallback


def test_a_shadow_that_lost_its_driver_leaves_the_traffic_to_whoever_set_it():
    target = with_champion()
    now = until(target, shadow(), "SHADOW")
    target.create_deployment("e", "v7", "models:/m/7")
    target.traffic = {"v1": 40, "v7": 60}
    target.expire_lease()
    assert (target.traffic, target.mirror) == ({"v1": 40, "v7": 60}, {})
    state = tick(target, "e", shadow(), now + 500)
    assert (state.state, target.traffic) == ("ROLLED_BACK", {"v1": 40, "v7": 60})


@pytest.mark.parametrize("missing", ["mirror", "pairs", "lease"])
def test_a_shadow_names_the_capability_that_a_target_lacks(missing):
    abilities = with_champion().abilities - {missing}
    with pytest.raises(ParameterError, match=missing):
        begin(with_champion(abilities=abilities), "e", shadow(), 0)


def test_a_canary_without_a_shadow_phase_needs_no_mirror():
    abilities = frozenset({"traffic", "observe"})
    assert begin(with_champion(abilities=abilities), "e", canary(lease_seconds=None), 0)


def test_a_rollout_without_a_lease_asks_for_none():
    target = with_champion()
    begin(target, "e", canary(lease_seconds=None), 0)
    assert target.lease_seconds is None


def test_blue_green_switches_in_one_step_and_keeps_the_old_colour():
    target = with_champion()
    state, path = drive(target, blue_green())
    assert path == [("SMOKE", 0), ("BAKING", 100), ("SUCCEEDED", 100)]
    assert target.history == [{"v2": 100}]
    assert set(target.deployments) == {"v1", "v2"}
    assert state.steps[0]["candidate_requests"] >= 100


def test_blue_green_keeps_the_old_colour_as_long_as_told_then_undeploys_it():
    target = with_champion()
    now = until(target, blue_green(keep_seconds=50), "KEEPING")
    assert set(target.deployments) == {"v1", "v2"}
    state, path = drive(target, blue_green(keep_seconds=50), now=now)
    assert [name for name, _ in path] == ["KEEPING", "SUCCEEDED"]
    assert set(target.deployments) == {"v2"}
    assert target.rollback_traffic == {"v2": 100}
    assert state.reason == "all steps passed"


@pytest.mark.parametrize("wanted", ["BAKING", "KEEPING"])
def test_blue_green_goes_back_at_once(wanted):
    target, plan = with_champion(), blue_green(keep_seconds=100)
    now = until(target, plan, wanted)
    state, _ = drive(target, plan, now=now, error_rates={"v2": 0.5})
    assert state.state == "ROLLED_BACK"
    assert target.traffic == {"v1": 100}


@pytest.mark.parametrize(
    ("serving", "reason"),
    [({"error_rates": {"v2": 0.1}}, "more than"), ({"latency_ms": {"v2": 80.0}}, "slower")],
)
def test_blue_green_is_held_to_the_old_colours_earlier_figures(serving, reason):
    target = with_champion()
    target.serve(5000, error_rates={"v1": 0.01})
    state, _ = drive(target, blue_green(), **serving)
    assert state.state == "ROLLED_BACK"
    assert reason in state.reason


def test_blue_green_bears_what_the_time_of_day_may_bring():
    target = with_champion()
    target.serve(5000, error_rates={"v1": 0.01})
    state, _ = drive(target, blue_green(), error_rates={"v2": 0.015}, latency_ms={"v2": 12.0})
    assert state.state == "SUCCEEDED"


@pytest.mark.parametrize(
    ("policy", "end", "traffic"),
    [("pause", "PAUSED", {"v2": 100}), ("rollback", "ROLLED_BACK", {"v1": 100})],
)
def test_blue_green_without_traffic_never_succeeds(policy, end, traffic):
    target = with_champion()
    state, _ = drive(target, blue_green(on_inconclusive=policy), requests=0)
    assert (state.state, target.traffic) == (end, traffic)


def test_a_paused_blue_green_goes_on_baking():
    target = with_champion()
    drive(target, blue_green(), requests=0)
    assert begin(target, "e", blue_green(), 1000).state == "BAKING"
    assert drive(target, blue_green(), now=1000)[0].state == "SUCCEEDED"


def test_a_paused_blue_green_knows_no_shares():
    target = with_champion()
    drive(target, blue_green(), requests=0)
    target.traffic = {"v1": 50, "v2": 50}
    with pytest.raises(ParameterError, match="knows no shares"):
        begin(target, "e", blue_green(), 1000)


@pytest.mark.parametrize("plan", [canary(shadow_percent=20), blue_green(shadow_percent=20)])
def test_a_shadow_phase_comes_before_any_traffic(plan):
    target = with_champion()
    state, path = drive(target, plan)
    assert path[1] == ("SHADOW", 0)
    assert state.state == "SUCCEEDED"
    assert target.mirror == {}
    assert state.steps[0]["state"] == "SHADOW"


def test_live_requests_are_not_judged_by_mirrored_ones():
    target, plan = with_champion(), canary(shadow_percent=20)
    state, _ = drive(target, plan, mirror={"failed": 1})
    assert state.state == "SUCCEEDED"
    assert state.steps[1]["candidate_errors"] == 0


def test_one_candidate_may_be_tried_in_the_shadow_and_then_rolled_out():
    target = with_champion()
    assert drive(target, shadow())[0].state == "SUCCEEDED"
    assert drive(target, canary())[0].state == "SUCCEEDED"


def test_one_endpoint_takes_one_rollout_at_a_time_of_whatever_kind():
    target = with_champion()
    until(target, shadow(), "SHADOW")
    for plan in (canary(), blue_green()):
        with pytest.raises(RegistryConflictError, match="SHADOW"):
            begin(target, "e", plan, 100)


@pytest.mark.parametrize(
    ("knob", "plan", "asked_at"),
    [
        ("before_promotion", canary, [50]),
        ("between_steps", canary, [10, 50]),
        ("before_promotion", blue_green, [0]),
        ("none", canary, []),
    ],
)
def test_the_traffic_holds_until_somebody_approves(knob, plan, asked_at):
    target, asked = with_champion(), []

    def answer(state):
        if state.state == "AWAIT_APPROVAL" and state.weight not in asked:
            asked.append(state.weight)
            assert approve(target, "e", "Ada")

    state, _ = drive(target, plan(approval=knob), between=answer)
    assert (state.state, asked) == ("SUCCEEDED", asked_at)
    approvals = [step for step in state.steps if step["state"] == "AWAIT_APPROVAL"]
    assert [step["approved_by"] for step in approvals] == ["Ada"] * len(asked_at)
    assert approve(target, "e", "Ada") is False


def test_without_an_approval_the_traffic_stays_and_the_rollout_pauses():
    target = with_champion()
    state, path = drive(target, canary(approval="before_promotion", approval_seconds=100))
    assert (state.state, target.traffic) == ("PAUSED", {"v1": 50, "v2": 50})
    assert "nobody approved" in state.reason
    assert ("AWAIT_APPROVAL", 50) in path


def test_a_candidate_that_fails_while_it_waits_for_approval_is_rolled_back():
    target, plan = with_champion(), canary(approval="before_promotion")
    now = until(target, plan, "AWAIT_APPROVAL")
    approve(target, "e", "Ada")
    target.count("v2", 100, errors=90)
    assert tick(target, "e", plan, now + 10).state == "ROLLED_BACK"


def test_an_approval_during_a_tick_is_not_lost():
    target, plan = with_champion(), canary(approval="before_promotion")
    now, observe = until(target, plan, "AWAIT_APPROVAL"), target.observe

    def observed_late(endpoint):
        approve(target, "e", "Ada")
        return observe(endpoint)

    target.observe = observed_late
    assert tick(target, "e", plan, now + 10).state == "AWAIT_APPROVAL"
    target.observe = observe
    assert tick(target, "e", plan, now + 20).state == "BAKING"


SLOW = {"name": "slow", "kind": "rate"}
SCORE = {"name": "score", "kind": "mean", "margin": 0.05, "direction": "both"}


def with_scores():
    target = with_champion()
    serve = target.serve

    def scored(requests, *args, candidate_score=0.5, slow=0.04, **serving):
        for name in target.traffic:
            before = target.counters[name]["requests"]
            target.counters[name].setdefault("scored", 0)
            target.counters[name]["_before"] = before
        serve(requests, *args, **serving)
        for name in target.traffic:
            counters = target.counters[name]
            n = counters["requests"] - counters.pop("_before")
            score = candidate_score if name == "v2" else 0.5
            counters["scored"] += n
            counters["score_sum"] = counters.get("score_sum", 0) + n * score
            counters["score_sq_sum"] = counters.get("score_sq_sum", 0) + n * (score**2 + 0.04)
            slower = round(n * (slow if name == "v2" else 0.04))
            buckets = counters["latency_buckets"]
            buckets["100"] = buckets.get("100", 0) + n - slower

    target.serve = scored
    created = target.create_deployment

    def create(endpoint, name, model_uri, **more):
        ref = created(endpoint, name, model_uri, **more)
        zero = {"scored": 0, "score_sum": 0.0, "score_sq_sum": 0.0}
        target.counters[name].update(zero | target.counters[name])
        target.counters[name]["latency_buckets"].setdefault("100", 0)
        return ref

    target.create_deployment = create
    create("e", "v1", "models:/m/1")
    target.serve(1000)
    return target


@pytest.mark.parametrize(
    ("serving", "end"),
    [
        ({}, "SUCCEEDED"),
        ({"candidate_score": 0.7}, "ROLLED_BACK"),
        ({"candidate_score": 0.3}, "ROLLED_BACK"),
        ({"candidate_score": 0.52}, "SUCCEEDED"),
        ({"slow": 0.3}, "ROLLED_BACK"),
    ],
)
def test_metrics_of_ones_own_are_judged(serving, end):
    state, _ = drive(with_scores(), canary(metrics=[SLOW, SCORE]), **serving)
    assert state.state == end, state.reason


def test_what_is_dry_run_is_reported_and_never_acts():
    plan = canary(metrics=[SLOW, SCORE], dry_run_metrics="score, slow")
    state, _ = drive(with_scores(), plan, candidate_score=0.9, slow=0.3)
    assert state.state == "SUCCEEDED"
    assert set(state.verdict("e").dry_run) == {"score", "slow"}


@pytest.mark.parametrize("test", ["errors", "latency"])
def test_built_in_tests_may_be_dry_run_as_well(test):
    serving = {"errors": {"error_rates": {"v2": 0.05}}, "latency": {"latency_ms": {"v2": 40.0}}}
    state, _ = drive(with_champion(), canary(dry_run_metrics=[test]), **serving[test])
    assert state.state == "SUCCEEDED"
    assert set(state.dry_run) == {test}


@pytest.mark.parametrize("name", ["accuracy", "scores", "shadow"])
def test_a_misnamed_metric_is_refused_before_anything_moves(name):
    target = with_champion()
    with pytest.raises(ParameterError, match="schema_violations"):
        begin(target, "e", canary(metrics=[{"name": name, "kind": "rate"}]), 0)
    assert target.rollout is None


def test_a_metric_that_turns_nan_holds_the_rollout():
    target, plan = with_scores(), canary(metrics=[SCORE])
    now = until(target, plan, "STEP")
    target.observe = lambda endpoint: {
        **target.counters,
        "v2": {**target.counters["v2"], "score_sum": float("nan")},
    }
    held = [tick(target, "e", plan, now + 10 * n) for n in range(1, 6)]
    assert {state.state for state in held} == {"STEP"}
    assert tick(target, "e", plan, now + 80).state == "ROLLED_BACK"


def test_an_outage_of_the_counters_may_pause_instead():
    target, plan = with_champion(), canary(on_metric_outage="pause")
    now = until(target, plan, "STEP")
    target.metrics_down = True
    tick(target, "e", plan, now + 10)
    assert tick(target, "e", plan, now + 80).state == "PAUSED"
    assert target.traffic == {"v1": 90, "v2": 10}


def test_traffic_that_stops_mid_step_holds_it_there():
    target, plan = with_champion(), canary(min_requests=500)
    now = until(target, plan, "STEP")
    state, path = drive(target, plan, now=now, requests=0)
    assert (state.state, path) == ("PAUSED", [("STEP", 10), ("PAUSED", 10)])


def test_a_replaced_candidate_is_rolled_back():
    target = with_champion()
    now = until(target, canary(), "STEP")
    target.deployments["v2"] = "models:/m/3"
    assert tick(target, "e", canary(), now + 10).state == "ROLLED_BACK"


def test_plans_of_all_kinds_read_back_from_json():
    for plan in (canary(metrics=[SLOW]), shadow(), blue_green(keep_seconds=5)):
        assert read_plan(json.loads(json.dumps(plan.to_xcom()))) == plan
    with pytest.raises(ParameterError, match="canary"):
        read_plan({"kind": "big_bang"})


def test_the_history_is_bounded_and_ordered():
    target, plan = with_champion(), canary(step_max_seconds=1e6, min_requests=10**9)
    for n in range(3 * MAX_HISTORY):
        tick(target, "e", plan, 10.0 * n)
        target.serve(10)
    history = target.rollout["history"]
    assert len(history) <= MAX_HISTORY
    times = [moment["t"] for moment in history]
    assert times == sorted(times)
    assert history[-1].items() >= {"t": 10.0 * (3 * MAX_HISTORY - 1), "weight": 10}.items()


PLANS = [
    canary(),
    canary(shadow_percent=20, approval="between_steps", approval_seconds=200),
    blue_green(on_inconclusive="rollback"),
    blue_green(
        shadow_percent=20,
        shadow_min_seconds=30,
        shadow_max_seconds=300,
        keep_seconds=30,
        approval="before_promotion",
        approval_seconds=200,
    ),
    shadow(),
]
look = st.tuples(
    st.integers(0, 400),  # requests
    st.sampled_from([0.0, 0.0, 0.01, 0.3]),  # error rate of the candidate
    st.one_of(st.none(), st.integers(0, 8)),  # where the driver is killed
    st.sampled_from(["well", "well", "well", "blind", "approved", "restarted", "by hand", "gone"]),
)


def happen(target, event):
    """Let something happen to the endpoint behind the driver's back."""
    target.metrics_down = event == "blind"
    if event == "approved":
        approve(target, "e", "Ada")
    elif event == "restarted" and "v2" in target.counters:
        target.restart("v2")
    elif event == "by hand" and "v2" in target.deployments:
        target.traffic = {"v1": 37, "v2": 63} if "v1" in target.deployments else {"v2": 100}
        target.generation += 1
    elif (
        event == "gone"
        and target.rollout
        and target.rollout["state"] not in ("PENDING", "RETIRING")
    ):
        target.expire_lease()


def test_a_shadow_that_rolls_back_leaves_traffic_that_somebody_moved():
    target, plan = with_champion(), next(each for each in PLANS if each.kind == "shadow")
    for now in (0.0, 10.0):
        tick(target, "e", plan, now)
    assert target.mirror
    target.mirror_requests("v2", 100, failed=100)
    target.crash_in = 1  # once the roll-back is written down, and before it is done
    with pytest.raises(CrashError):
        drive(target, plan, now=20.0)
    target.crash_in = None
    happen(target, "by hand")
    final, _ = drive(target, plan, now=40.0)
    assert final.state in ("ROLLED_BACK", "PAUSED")
    assert target.mirror == {}
    assert target.traffic == {"v1": 37, "v2": 63}


@settings(deadline=None, max_examples=100)
@given(st.sampled_from(PLANS), st.lists(look, min_size=5, max_size=60))
def test_whatever_happens_nothing_is_promoted_without_evidence_and_it_ends(plan, looks):
    target, now, foreign = with_champion(), 0.0, False
    for requests, rate, crash, event in looks:
        target.crash_in = crash
        try:
            happen(target, event)
            foreign = foreign or event in ("by hand", "gone")
            if tick(target, "e", plan, now).ended:
                break
        except CrashError:
            pass
        target.crash_in = None
        target.serve(requests, error_rates={"v2": rate})
        if target.mirror.get("v2"):
            target.mirror_requests("v2", requests, failed=round(requests * rate))
        now += plan.interval_seconds
    target.crash_in, target.metrics_down = None, False
    final, _ = drive(target, plan, now=now, ticks=400)

    assert target.mirror == {}
    if plan.kind == "shadow":
        assert target.history == []
    if final.state == "ROLLED_BACK" and not foreign:
        assert target.traffic == {"v1": 100}
    if {"v2": 100} in target.history:
        steps = [step for step in read_state(target.rollout).steps if step["state"] == "STEP"]
        assert [step["weight"] for step in steps] == list(plan.weights[:-1])
        for step in steps:
            assert min(step["champion_requests"], step["candidate_requests"]) >= plan.min_requests
    if final.state == "SUCCEEDED" and plan.kind == "blue_green":
        assert sum(s["candidate_requests"] for s in final.steps if s["state"] == "BAKING") >= 100


@pytest.mark.parametrize("plan", PLANS[:1] + PLANS[2:3])
def test_two_drivers_at_once_move_each_weight_once(plan):
    target, now = with_champion(), 0.0
    for _ in range(100):
        state = tick(target, "e", plan, now)
        tick(target, "e", plan, now + 1)
        if state.ended:
            break
        target.serve(1000)
        now += plan.interval_seconds
    assert state.state == "SUCCEEDED"
    assert [traffic.get("v2") for traffic in target.history] == list(plan.weights)


def test_a_slower_driver_that_writes_an_older_state_can_only_pause():
    target, plan = with_champion(), canary()
    now = until(target, plan, "STEP")
    stale = target.get_rollout("e")
    while target.traffic == {"v1": 90, "v2": 10}:
        now += 10
        target.serve(1000)
        tick(target, "e", plan, now)
    target.rollout = stale
    assert tick(target, "e", plan, now + 10).state == "PAUSED"
    assert begin(target, "e", plan, now + 20).weight == 50
    assert drive(target, plan, now=now + 20)[0].state == "SUCCEEDED"
