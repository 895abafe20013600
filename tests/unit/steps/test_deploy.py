from __future__ import annotations

import pytest

from airflow_mlops_provider.exceptions import ModelError, ParameterError, RegistryConflictError
from airflow_mlops_provider.steps.deploy import (
    deploy_model,
    endpoint_problem,
    undeploy_model,
)
from tests.serving_fake import FakeTarget, version, with_champion


def document(state, candidate="v2"):
    return {"state": state, "candidate": candidate, "champion": "v1"}


def test_the_first_deployment_takes_all_traffic():
    target = FakeTarget()
    ref = deploy_model(target, "e", version("1"), 100)
    assert (ref.deployments, ref.traffic) == ({"v1": "models:/m/1"}, {"v1": 100})


def test_doing_it_again_changes_nothing():
    target = FakeTarget()
    first = deploy_model(target, "e", version("1"), 100)
    assert deploy_model(target, "e", version("1"), 100) == first


def test_dark_leaves_the_champion_alone():
    target = with_champion()
    ref = deploy_model(target, "e", version("2"), 0)
    assert ref.traffic == {"v1": 100}
    assert sorted(ref.deployments) == ["v1", "v2"]


@pytest.mark.parametrize("traffic", [50, -1, 101])
def test_shares_are_left_to_the_canary(traffic):
    with pytest.raises(ParameterError, match="The traffic parameter of DeployModelOperator"):
        deploy_model(FakeTarget(), "e", version(), traffic)


def test_keeping_nothing_is_refused():
    with pytest.raises(ParameterError, match="keep"):
        deploy_model(FakeTarget(), "e", version(), 0, keep=0)


def test_a_broken_model_moves_nothing():
    target = with_champion(broken_models={"models:/m/2"})
    with pytest.raises(ModelError):
        deploy_model(target, "e", version("2"), 100)
    assert target.traffic == {"v1": 100}


@pytest.mark.parametrize(("rivals", "succeeds"), [(1, True), (2, False)])
def test_a_stale_generation_is_retried_once(rivals, succeeds):
    target = with_champion()
    plain, left = target.set_traffic, [rivals]

    def raced(*arguments, **knobs):
        if left[0]:
            left[0] -= 1
            raise RegistryConflictError("stale generation")
        return plain(*arguments, **knobs)

    target.set_traffic = raced
    if succeeds:
        assert deploy_model(target, "e", version("2"), 100).traffic == {"v2": 100}
    else:
        with pytest.raises(RegistryConflictError):
            deploy_model(target, "e", version("2"), 100)


@pytest.mark.parametrize(
    ("deployed", "traffic", "keep", "left"),
    [
        (["v1", "v2", "v3", "v4"], {"v4": 100}, 2, ["v4", "v5"]),
        (["v1", "v2", "v3", "v4"], {"v1": 100}, 2, ["v1", "v4", "v5"]),
        (["v8", "v9", "v10"], {"v10": 100}, 2, ["v10", "v5", "v9"]),
        (["v1", "by-hand"], {"v1": 100}, 1, ["by-hand", "v1", "v5"]),
    ],
)
def test_old_dark_deployments_go(deployed, traffic, keep, left):
    target = FakeTarget(deployments=dict.fromkeys(deployed, "models:/m/0"), traffic=traffic)
    ref = deploy_model(target, "e", version("5"), 0, keep=keep)
    assert sorted(ref.deployments) == sorted(left)


def test_a_rollout_keeps_its_deployments_and_its_traffic():
    target = FakeTarget(
        deployments=dict.fromkeys(["v1", "v2", "v3", "v4"], "models:/m/0"),
        traffic={"v4": 100},
        rollout=document("SMOKE"),
    )
    assert sorted(deploy_model(target, "e", version("5"), 0).deployments) == [
        "v1",
        "v2",
        "v4",
        "v5",
    ]
    with pytest.raises(RegistryConflictError, match="rollout of 'v2'"):
        deploy_model(target, "e", version("5"), 100)


def test_switching_all_traffic_closes_a_paused_rollout():
    target = with_champion(rollout=document("PAUSED"))
    deploy_model(target, "e", version("1"), 100)
    assert target.rollout is None


def test_undeploying_a_candidate_forgets_its_rollout():
    target = with_champion(rollout=document("ROLLED_BACK"))
    deploy_model(target, "e", version("2"), 0)
    assert sorted(undeploy_model(target, "e", "v2").deployments) == ["v1"]
    assert target.rollout is None
    assert sorted(undeploy_model(target, "e", "v2").deployments) == ["v1"]


def test_undeploying_another_keeps_the_rollout():
    target = with_champion(rollout=document("STEP"))
    undeploy_model(target, "e", "v9")
    assert target.rollout == document("STEP")


@pytest.mark.parametrize("name", ["v1", "v2"])
def test_what_serves_or_is_rolled_out_is_not_undeployed(name):
    target = with_champion(rollout=document("STEP"))
    with pytest.raises((ParameterError, RegistryConflictError)):
        undeploy_model(target, "e", name)


@pytest.mark.parametrize(
    ("traffic", "deployment", "problem"),
    [
        ({"v1": 100}, None, None),
        ({"v1": 100}, "v1", None),
        ({"v1": 100}, "v2", "'v2' has no traffic"),
        ({}, None, "no traffic"),
        ({"v9": 100}, None, "not deployed"),
    ],
)
def test_what_keeps_an_endpoint_from_serving(traffic, deployment, problem):
    target = with_champion()
    target.traffic = traffic
    found = endpoint_problem(target.get_state("e"), deployment)
    assert found is None if problem is None else problem in found
