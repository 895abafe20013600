from __future__ import annotations

import json
from dataclasses import replace

import pytest

from airflow_mlops_provider.exceptions import ParameterError, RegistryConflictError
from airflow_mlops_provider.serving import state as states
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.state import Deployment, EndpointState, Lease

V1, V2 = Deployment(model_uri="models:/m/1"), Deployment(model_uri="models:/m/2")
STATE = EndpointState(deployments={"v1": V1, "v2": V2}, traffic={"v1": 100}, generation=3)


def test_stored_state_reads_back(tmp_path):
    path = tmp_path / "state.json"
    assert states.load(path) == {}
    lease = Lease(seconds=2.0, rollback_traffic={"v1": 100})
    endpoints = {"e": replace(STATE, rollout={"state": "STEP"}, lease=lease)}
    states.save(path, endpoints)
    assert states.load(path) == endpoints


@pytest.mark.parametrize(
    "endpoints",
    [
        "[]",
        '{"e": {"traffic": {"v9": 100}}}',
        '{"e": {"deployments": {"v1": {"model_uri": "m"}}, "traffic": {"v1": 50}}}',
        '{"e": {"deployments": {"v1": {}}}}',
        "{",
    ],
)
def test_state_that_was_edited_into_nonsense_is_named(tmp_path, endpoints):
    path = tmp_path / "state.json"
    path.write_text(f'{{"endpoints": {endpoints}}}')
    with pytest.raises(ParameterError, match=f"(?s){path}.*remove the file"):
        states.load(path)


@pytest.mark.parametrize("name", ["", "a/b", "../a", "-a", "a.b", "a" * 64, "a b"])
def test_name_that_would_break_out_of_a_path_is_refused(name):
    with pytest.raises(ParameterError, match="deployment"):
        states.with_deployment(EndpointState(), name, V1)


def test_deployment_is_added_once():
    added = states.with_deployment(EndpointState(), "v1", V1)
    assert added.traffic == {}
    assert states.with_deployment(added, "v1", Deployment(model_uri="models:/m/1")) is added
    with pytest.raises(RegistryConflictError, match=r"models:/m/1 .*not models:/m/2"):
        states.with_deployment(added, "v1", V2)


def test_deployment_keeps_its_options(tmp_path):
    two = replace(V1, options=DeploymentOptions.of({"workers": 2, "log_drop_columns": ["x"]}))
    added = states.with_deployment(EndpointState(), "v1", two)
    states.save(tmp_path / "state.json", {"e": added})
    read = states.load(tmp_path / "state.json")["e"]
    assert read == added
    assert states.with_deployment(read, "v1", two) is read
    with pytest.raises(RegistryConflictError, match="workers=2"):
        states.with_deployment(read, "v1", V1)


def test_state_of_an_older_host_is_read(tmp_path):
    stored = {"endpoints": {"e": {"deployments": {"v1": {"model_uri": "models:/m/1"}}}}}
    (tmp_path / "state.json").write_text(json.dumps(stored))
    assert states.load(tmp_path / "state.json") == {"e": EndpointState(deployments={"v1": V1})}


def test_deployment_with_traffic_stays():
    with pytest.raises(ParameterError, match="'v1' still carries traffic"):
        states.without_deployment(STATE, "v1")
    with pytest.raises(ParameterError, match="still carries"):
        states.without_deployment(replace(STATE, mirror_traffic={"v2": 5}), "v2")
    assert list(states.without_deployment(STATE, "v2").deployments) == ["v1"]


@pytest.mark.parametrize(
    ("traffic", "mirror", "problem"),
    [
        ({"v1": 90}, None, "sum to 100"),
        ({"v1": 60, "v2": 60}, None, "sum to 100"),
        ({"v9": 100}, None, "known deployments .v1, v2."),
        ({"v1": 101, "v2": -1}, None, "from 0 to 100"),
        ({"v1": 99.5, "v2": 0.5}, None, "whole percentages"),
        ({"v1": True, "v2": 99}, None, "whole percentages"),
        ({"v1": 100}, {"v2": 101}, "mirror_traffic"),
        ({"v1": 100}, {"v9": 5}, "mirror_traffic"),
        ([], None, "by deployment"),
        ({"v1": 100}, [], "by deployment"),
    ],
)
def test_impossible_traffic_is_refused(traffic, mirror, problem):
    for state in (STATE, replace(STATE, shield=True)):
        with pytest.raises(ParameterError, match=problem):
            states.with_traffic(state, traffic, generation=3, mirror_traffic=mirror)


def test_traffic_moves_only_from_the_generation_it_was_decided_on():
    moved = states.with_traffic(STATE, {"v1": 95, "v2": 5}, generation=3, sticky=True, shield=True)
    assert (moved.traffic, moved.generation, moved.sticky) == ({"v1": 95, "v2": 5}, 4, True)
    with pytest.raises(RegistryConflictError, match="at 4"):
        states.with_traffic(moved, {"v1": 100}, generation=3)
    kept = states.with_traffic(moved, {"v1": 50, "v2": 50}, generation=4)
    assert (kept.sticky, kept.shield) == (True, True)


@pytest.mark.parametrize("traffic", [{"v1": 100}, {"v1": 0, "v2": 100}, {}])
def test_shield_ends_with_the_split_it_was_for(traffic):
    split = states.with_traffic(STATE, {"v1": 95, "v2": 5}, generation=3, shield=True)
    ended = states.with_traffic(split, traffic, generation=4)
    assert ended.shield is False
    assert states.with_traffic(ended, traffic, generation=4) is ended
    assert states.with_traffic(split, traffic, generation=4, shield=True).shield is True


def test_traffic_that_was_set_already_may_be_set_again():
    moved = states.with_traffic(STATE, {"v1": 95, "v2": 5}, generation=3)
    assert states.with_traffic(moved, {"v1": 95, "v2": 5}, generation=3) is moved
    with pytest.raises(RegistryConflictError, match="at 4"):
        states.with_traffic(moved, {"v1": 95, "v2": 5}, generation=2)


@pytest.mark.parametrize("value", ["yes", [], 1])
def test_what_could_not_be_read_back_is_refused(value):
    for name in ("sticky", "shield"):
        with pytest.raises(ParameterError, match=name):
            states.with_traffic(STATE, {"v1": 100}, generation=3, **{name: value})
    with pytest.raises(ParameterError, match="document"):
        states.with_rollout(STATE, value, lease_seconds=5, rollback_traffic={"v1": 100})


def test_traffic_can_be_taken_away_altogether():
    assert states.with_traffic(STATE, {}, generation=3).traffic == {}


@pytest.mark.parametrize("state", sorted(states.RESTING))
def test_resting_rollout_needs_no_driver(state):
    lease = {"lease_seconds": 5.0, "rollback_traffic": {"v1": 100}}
    assert states.lease_runs(states.with_rollout(STATE, {"state": "STEP"}, **lease))
    assert not states.lease_runs(states.with_rollout(STATE, {"state": state}, **lease))


def test_rollout_without_a_lease_may_be_silent_for_ever():
    leased = states.with_rollout(
        STATE, {"state": "STEP"}, lease_seconds=5, rollback_traffic={"v1": 100}
    )
    free = states.with_rollout(leased, {"state": "STEP"}, lease_seconds=None, rollback_traffic={})
    assert (free.lease, free.rollout) == (None, {"state": "STEP"})
    assert not states.lease_runs(free)


def test_rollback_that_could_never_work_is_refused_at_once():
    with pytest.raises(ParameterError, match="known deployments"):
        states.with_rollout(STATE, {}, lease_seconds=5, rollback_traffic={"gone": 100})
    with pytest.raises(ParameterError, match="lease_seconds"):
        states.with_rollout(STATE, {}, lease_seconds=0, rollback_traffic={"v1": 100})


def test_expired_lease_rolls_back_and_says_why():
    running = replace(STATE, traffic={"v1": 50, "v2": 50}, mirror_traffic={"v2": 10})
    running = states.with_rollout(
        running, {"state": "STEP", "step": 2}, lease_seconds=5, rollback_traffic={"v1": 100}
    )
    after = states.with_expired_lease(running)
    assert (after.traffic, after.mirror_traffic, after.generation) == ({"v1": 100}, {}, 4)
    assert after.rollout == {
        "state": "ROLLED_BACK",
        "step": 2,
        "reason": "lease expired: no word from the rollout's driver for 5 s",
    }
    assert not states.lease_runs(after)


def test_expired_lease_of_a_rollout_that_moves_no_traffic_only_ends_its_mirror():
    running = replace(STATE, traffic={"v1": 30, "v2": 70}, mirror_traffic={"v2": 10})
    running = states.with_rollout(
        running, {"state": "SHADOW"}, lease_seconds=5, rollback_traffic=None
    )
    after = states.with_expired_lease(running)
    assert (after.traffic, after.mirror_traffic) == ({"v1": 30, "v2": 70}, {})
    assert after.rollout["state"] == "ROLLED_BACK"
    assert not states.lease_runs(after)


def test_expired_lease_ends_the_shield():
    running = replace(STATE, traffic={"v1": 50, "v2": 50}, shield=True)
    running = states.with_rollout(
        running, {"state": "STEP"}, lease_seconds=5, rollback_traffic={"v1": 100}
    )
    assert states.with_expired_lease(running).shield is False


def test_rollback_to_a_deployment_that_is_gone_fails_in_the_open():
    lease = Lease(seconds=5, rollback_traffic={"gone": 100})
    after = states.with_expired_lease(replace(STATE, rollout={"state": "STEP"}, lease=lease))
    assert after.traffic == STATE.traffic
    assert after.rollout["state"] == "ROLLBACK_FAILED"
    assert "gone" in after.rollout["reason"]


def test_unknown_endpoint_names_the_known():
    with pytest.raises(ParameterError, match=r"known: a, b"):
        states.find({"b": STATE, "a": STATE}, "c")
