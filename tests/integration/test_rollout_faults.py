"""Rollouts whose driver is killed at each edge, or meddled with, against the real host.

What holds in each: the champion's users see no failure, nothing is promoted without evidence, and
the endpoint is as the record says.
"""

from __future__ import annotations

import time

import pytest

from airflow_mlops_provider.steps.rollout.drive import approve
from tests.rollout_drivers import edges, join, start_driver
from tests.rollout_hosts import ENDPOINT, FAILS, ROWS, rollout_host, statuses
from tests.serving_hosts import put, until

pytestmark = pytest.mark.slow  # some 80 rollouts

BEGUN = ("put PENDING 0", "put SMOKE 0")
STEPS = ("put STEP 20", "move 20/0", "put STEP 60", "move 60/0")
SWITCH = ("put PROMOTING 100", "move 100/0", "put BAKING 100")
BACK = ("put ROLLING_BACK 0", "move 0/0", "put ROLLED_BACK 0")
MIRROR = ("put SHADOW 0", "move 0/100")
WRITES = {
    ("canary", "v2"): (*BEGUN, *STEPS, *SWITCH, "put SUCCEEDED 100"),
    ("canary", "v3"): (*BEGUN, *STEPS[:2], *BACK),
    ("blue_green", "v2"): (*BEGUN, *SWITCH, "put SUCCEEDED 100"),
    ("blue_green", "v3"): (*BEGUN, *SWITCH, *BACK),
    ("shadow", "v2"): (*BEGUN, *MIRROR, "put CLOSING 0", "move 0/0", "put SUCCEEDED 0"),
    ("shadow", "v3"): (*BEGUN, *MIRROR, *BACK),
}
"""What each rollout writes, in order: v2 is sound, v3 fails what it is asked."""


def around(writes):
    return [f"{moment} {write}" for write in writes for moment in ("before", "after")]


EDGES = [(*rollout, edge) for rollout, writes in WRITES.items() for edge in around(writes)]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with rollout_host(tmp_path_factory.mktemp) as started:
        yield started


@pytest.fixture
def host(running):
    running.reset()
    return running


def plan_of(host, kind, candidate):
    knobs = {"shield": True} if kind == "canary" else {}
    return host.quick(kind, candidate, max_consecutive_errors=4, **knobs)


def rows_of(candidate):
    return [FAILS] if candidate == "v3" else ROWS


def check(host, plan, seen, answered):
    """Check how a rollout ended: on what evidence, and what users saw of it."""
    state = host.ended(plan)
    assert state.state == ("SUCCEEDED" if plan.candidate == "v2" else "ROLLED_BACK")
    if state.traffic == {"v2": 100}:
        steps = [step for step in state.steps if step["state"] == "STEP"]
        assert [step["weight"] for step in steps] == list(plan.weights[:-1])
        for step in steps:
            assert min(step["champion_requests"], step["candidate_requests"]) >= plan.min_requests
    counted = sum(step["candidate_requests"] for step in state.steps if "pairs" not in step)
    assert counted <= host.counted(plan.candidate) - answered  # no request is evidence twice
    assert {name for status, name in seen if status != 200} <= {"v3"}
    if plan.kind != "blue_green":
        assert statuses(seen) == {200}
    return state


@pytest.mark.parametrize(("kind", "candidate", "edge"), EDGES)
def test_another_driver_takes_up_what_one_that_was_killed_left(
    host, tmp_path, kind, candidate, edge
):
    plan, answered = plan_of(host, kind, candidate), host.counted(candidate)
    with host.traffic(rows=rows_of(candidate)) as seen:
        assert join(start_driver(host.host.workspace, ENDPOINT, plan, tmp_path / "met", edge))
        host.drive(plan)
    check(host, plan, seen, answered)


@pytest.mark.parametrize(("kind", "candidate"), WRITES)
def test_a_rollout_survives_being_killed_at_every_edge_in_turn(host, tmp_path, kind, candidate):
    plan, met, answered = plan_of(host, kind, candidate), tmp_path / "met", host.counted(candidate)
    with host.traffic(rows=rows_of(candidate)) as seen:
        while join(start_driver(host.host.workspace, ENDPOINT, plan, met)):
            pass
    expected = around(WRITES[kind, candidate])
    if candidate == "v3" and "after put BAKING 100" not in edges(met):  # it failed before a look
        expected = [edge for edge in expected if "BAKING" not in edge]
    assert edges(met) == expected
    check(host, plan, seen, answered)


def test_a_canary_with_all_phases_survives_being_killed_at_every_edge(host, tmp_path):
    met = tmp_path / "met"
    plan = host.quick(
        "canary",
        "v4",
        approval="before_promotion",
        shadow_percent=100,
        shadow_min_pairs=50,
        shadow_min_seconds=0,
        keep_seconds=0.3,
    )
    killed = True
    with host.traffic() as seen:
        while killed:
            driver = start_driver(host.host.workspace, ENDPOINT, plan, met)
            while driver.is_alive():
                approve(host.client, ENDPOINT, "Ada")
                time.sleep(0.05)
            killed = join(driver)
    writes = (
        *("put PENDING 0", "create v4", "put SMOKE 0", *MIRROR),
        *("put STEP 20", "move 20/0", "put STEP 60", "move 60/0", "put AWAIT_APPROVAL 60"),
        *(*SWITCH, "put KEEPING 100", "put RETIRING 100", "delete v1", "put SUCCEEDED 100"),
    )
    assert edges(met) == around(writes)
    state = host.ended(plan)
    assert (state.state, state.reason) == ("SUCCEEDED", "all steps passed")
    (approval,) = (step for step in state.steps if step["state"] == "AWAIT_APPROVAL")
    assert approval["approved_by"] == "Ada"
    assert host.client.get_state(ENDPOINT).deployments.keys() == {"v2", "v3", "v4"}
    assert statuses(seen) == {200}


@pytest.mark.parametrize(("kind", "candidate"), WRITES)
def test_two_drivers_at_once_do_no_harm(host, tmp_path, kind, candidate):
    plan, answered = plan_of(host, kind, candidate), host.counted(candidate)
    with host.traffic(rows=rows_of(candidate)) as seen:
        drivers = [
            start_driver(host.host.workspace, ENDPOINT, plan, tmp_path / name, "never")
            for name in ("one", "other")
        ]
        assert [join(driver) for driver in drivers] == [False, False]
    check(host, plan, seen, answered)


@pytest.mark.parametrize("kind", ["canary", "blue_green", "shadow"])
def test_a_driver_that_never_comes_back_is_rolled_back_by_the_host(host, tmp_path, kind):
    plan = host.quick(kind, lease_seconds=5)
    edge = {"canary": "after move 60/0", "blue_green": "after move 100/0"}
    with host.traffic() as seen:
        met = tmp_path / "met"
        edge = edge.get(kind, "after move 0/100")
        assert join(start_driver(host.host.workspace, ENDPOINT, plan, met, edge))
        left = host.client.get_state(ENDPOINT)
        assert left.traffic != {"v1": 100} or left.mirror_traffic
        until(lambda: host.client.get_rollout(ENDPOINT)["state"] == "ROLLED_BACK")
        state = host.drive(plan)  # who comes back later finds it ended
    assert (state.state, state.reason[:13]) == ("ROLLED_BACK", "lease expired")
    ref = host.client.get_state(ENDPOINT)
    assert (ref.traffic, ref.mirror_traffic, ref.shield) == ({"v1": 100}, {}, False)
    assert statuses(seen) == {200}


def test_a_shadow_that_nobody_drives_leaves_the_split_that_a_person_made(host, tmp_path):
    plan = host.quick("shadow", lease_seconds=5)
    with host.traffic() as seen:
        met = tmp_path / "met"
        assert join(start_driver(host.host.workspace, ENDPOINT, plan, met, "after move 0/100"))
        put(host.client, ENDPOINT, {"v1": 30, "v2": 70})
        until(lambda: host.client.get_rollout(ENDPOINT)["state"] == "ROLLED_BACK")
    ref = host.client.get_state(ENDPOINT)
    assert (ref.traffic, ref.mirror_traffic) == ({"v1": 30, "v2": 70}, {})
    assert statuses(seen) == {200}


@pytest.mark.parametrize("traffic", [{"v1": 100}, {"v2": 100}, {"v1": 70, "v2": 30}])
def test_weights_set_by_hand_pause_a_canary_and_stay(host, traffic):
    plan = host.quick("canary", shield=True, min_requests=10_000)
    with host.traffic() as seen:
        host.drive(plan, lambda state: state.weight == 20)
        put(host.client, ENDPOINT, traffic)
        state = host.drive(plan)
    assert (state.state, state.reason[:13]) == ("PAUSED", "somebody else")
    ref = host.client.get_state(ENDPOINT)
    assert (ref.traffic, ref.shield) == (traffic, len(traffic) > 1)
    assert statuses(seen) == {200}
