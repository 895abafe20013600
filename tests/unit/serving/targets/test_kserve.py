from __future__ import annotations

import pytest

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.serving.targets.knative import KnativeMode
from airflow_mlops_provider.serving.targets.kserve import KserveClient
from airflow_mlops_provider.serving.targets.standard import StandardMode
from airflow_mlops_provider.steps.deploy import deploy_model, undeploy_model
from tests.kserve_fake import FakeCluster, edited_by_hand
from tests.serving_fake import version

MODES = [StandardMode(), KnativeMode()]


@pytest.fixture(params=MODES, ids=lambda mode: mode.name)
def mode(request):
    return request.param


@pytest.fixture
def cluster():
    return FakeCluster()


@pytest.fixture
def make(cluster):
    def client(mode, **options):
        return KserveClient(
            cluster,
            mode,
            locate=lambda uri: "s3://bucket/" + uri.removeprefix("models:/"),
            settle_seconds=0,
            poll_seconds=0,
            **options,
        )

    return client


@pytest.fixture
def client(make, mode):
    return make(mode)


@pytest.fixture
def served(client):
    """An endpoint on which v1 serves everything and v2 is ready."""
    client.create_deployment("e", "v1", "models:/m/1")
    client.create_deployment("e", "v2", "models:/m/2")
    return client


def predictor(cluster):
    return cluster.services["e"]["spec"]["predictor"]


def test_the_first_deployment_has_all_traffic(client, cluster):
    assert client.create_endpoint("e").deployments == {}
    ref = client.create_deployment("e", "v1", "models:/m/1")
    assert (ref.deployments, ref.traffic) == ({"v1": "models:/m/1"}, {"v1": 100})
    assert ref.url == "http://e.example.com"
    assert predictor(cluster)["model"] == {
        "modelFormat": {"name": "mlflow"},
        "protocolVersion": "v2",
        "storageUri": "s3://bucket/m/1",
    }


def test_a_candidate_gets_no_traffic_until_it_is_told_to(served):
    ref = served.get_state("e")
    assert ref.deployments == {"v1": "models:/m/1", "v2": "models:/m/2"}
    assert ref.traffic == {"v1": 100}


@pytest.mark.parametrize("weights", [[10, 50, 100], [25, 0], [100, 0], [50, 100, 0]])
def test_traffic_goes_where_it_is_sent(served, weights):
    for weight in weights:
        before = served.get_state("e").generation
        traffic = {"v1": 100 - weight, "v2": weight}
        ref = served.set_traffic("e", traffic, generation=before)
        assert ref.traffic == {name: percent for name, percent in traffic.items() if percent}
        assert ref.generation == before + 1


def test_repeating_a_call_writes_nothing(served, cluster):
    ref = served.set_traffic("e", {"v1": 90, "v2": 10}, generation=2)
    writes = cluster.writes
    assert served.create_deployment("e", "v2", "models:/m/2") == ref
    assert served.set_traffic("e", {"v1": 90, "v2": 10}, generation=ref.generation) == ref
    assert cluster.writes == writes


def test_a_stale_generation_is_a_conflict(served):
    with pytest.raises(RegistryConflictError, match="at generation 2, not at 1"):
        served.set_traffic("e", {"v1": 90, "v2": 10}, generation=1)
    assert served.get_state("e").traffic == {"v1": 100}


@pytest.mark.parametrize(
    "traffic", [{"v1": 90}, {"v1": 110, "v2": -10}, {"v3": 100}, {"v1": 50, "v3": 50}, {}]
)
def test_traffic_that_is_none_is_refused(served, traffic):
    with pytest.raises(ParameterError, match="The traffic parameter of a KServe target"):
        served.set_traffic("e", traffic, generation=2)


@pytest.mark.parametrize(
    ("word", "options"),
    [
        ("mirror", {"mirror_traffic": {"v2": 10}}),
        ("sticky", {"sticky": True}),
        ("shield", {"shield": True}),
    ],
)
def test_words_that_kserve_lacks_are_refused_by_name(served, word, options):
    with pytest.raises(ParameterError, match=f"KServe cannot do {word}"):
        served.set_traffic("e", {"v1": 100}, generation=2, **options)


def test_empty_words_ask_for_nothing(served):
    served.set_traffic("e", {"v1": 100}, generation=2, mirror_traffic={}, sticky=False)


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.predict("e", {}),
        lambda client: client.rotate_logs("e"),
        lambda client: client.send_feedback("e", {}),
        lambda client: client.pairs("e"),
        lambda client: client.put_rollout("e", {}, lease_seconds=120, rollback_traffic={}),
        lambda client: client.observe("e"),
        lambda client: client.create_deployment("e", "v3", "models:/m/3", options={"workers": 2}),
    ],
)
def test_what_it_cannot_do_is_refused(served, call):
    with pytest.raises(ParameterError):
        call(served)


def test_traffic_that_the_controller_does_not_put_in_force_is_no_success(served, cluster):
    served.get_state("e")
    cluster.paused = True
    with pytest.raises(ServingUnavailableError, match=r"Expected the traffic .* a retry"):
        served.set_traffic("e", {"v1": 90, "v2": 10}, generation=2)
    ref = served.get_state("e")
    assert ref.traffic == {"v1": 100}
    cluster.paused = False
    again = served.set_traffic("e", {"v1": 90, "v2": 10}, generation=ref.generation)
    assert again.traffic == {"v1": 90, "v2": 10}


def test_a_candidate_that_is_not_ready_yet_is_waited_for(client, cluster):
    client.create_deployment("e", "v1", "models:/m/1")
    cluster.controller.slow = {"s3://bucket/m/2"}
    with pytest.raises(ServingUnavailableError, match="Expected v2 to be ready"):
        client.create_deployment("e", "v2", "models:/m/2", timeout=0)
    assert client.get_state("e").deployments == {"v1": "models:/m/1"}
    assert client.get_state("e").traffic == {"v1": 100}
    cluster.controller.slow = set()
    assert "v2" in client.create_deployment("e", "v2", "models:/m/2", timeout=0).deployments


def test_a_first_model_that_cannot_be_loaded_is_told_with_its_reason(client, cluster):
    cluster.controller.broken = {"s3://bucket/m/1"}
    with pytest.raises(ModelError, match="ModelLoadFailed: no such file"):
        client.create_deployment("e", "v1", "models:/m/1")


def test_knative_tells_of_a_candidate_that_cannot_be_loaded(make, cluster):
    client = make(KnativeMode())
    client.create_deployment("e", "v1", "models:/m/1")
    cluster.controller.broken = {"s3://bucket/m/2"}
    with pytest.raises(ModelError, match="ModelLoadFailed"):
        client.create_deployment("e", "v2", "models:/m/2", timeout=0)
    assert client.get_state("e").traffic == {"v1": 100}
    client.create_deployment("e", "v3", "models:/m/3")  # which takes its place
    assert client.get_state("e").deployments == {"v1": "models:/m/1", "v3": "models:/m/3"}


def test_a_name_serves_one_model_for_life(served):
    with pytest.raises(RegistryConflictError, match="already serves models:/m/2"):
        served.create_deployment("e", "v2", "models:/m/9")


def test_a_candidate_can_be_deleted_once_it_has_no_traffic(served):
    ref = served.set_traffic("e", {"v1": 50, "v2": 50}, generation=2)
    with pytest.raises(ParameterError, match="still carries 50 %"):
        served.delete_deployment("e", "v2")
    served.set_traffic("e", {"v1": 100}, generation=ref.generation)
    served.delete_deployment("e", "v2")
    served.delete_deployment("e", "v2")
    assert served.get_state("e").deployments == {"v1": "models:/m/1"}
    assert served.get_state("e").traffic == {"v1": 100}


def test_knative_refuses_to_delete_what_it_keeps_to_go_back_to(make):
    client = make(KnativeMode())
    client.create_deployment("e", "v1", "models:/m/1")
    client.create_deployment("e", "v2", "models:/m/2")
    client.set_traffic("e", {"v2": 100}, generation=2)
    with pytest.raises(ParameterError, match="Knative keeps the revision of 'v1'"):
        client.delete_deployment("e", "v1")


def test_knative_has_no_third_deployment_while_traffic_is_split(make):
    client = make(KnativeMode())
    client.create_deployment("e", "v1", "models:/m/1")
    client.create_deployment("e", "v2", "models:/m/2")
    client.set_traffic("e", {"v1": 90, "v2": 10}, generation=2)
    with pytest.raises(RegistryConflictError, match="Knative keeps two revisions"):
        client.create_deployment("e", "v3", "models:/m/3")


def test_standard_shares_traffic_among_three(make):
    client = make(StandardMode())
    for number in "123":
        client.create_deployment("e", f"v{number}", f"models:/m/{number}")
    split = {"v1": 50, "v2": 30, "v3": 20}
    assert client.set_traffic("e", split, generation=3).traffic == split
    assert client.set_traffic("e", {"v3": 100}, generation=4).traffic == {"v3": 100}


def test_a_promotion_keeps_each_predictor_as_it_is(make, cluster):
    client = make(StandardMode())
    client.create_deployment("e", "v1", "models:/m/1")
    client.create_deployment("e", "v2", "models:/m/2")
    (canary,) = cluster.services["e"]["spec"]["canary"]
    stable = predictor(cluster)
    client.set_traffic("e", {"v2": 100}, generation=2)
    assert predictor(cluster) == canary["predictor"]
    assert cluster.services["e"]["spec"]["canary"] == [{"trafficPercent": 0, "predictor": stable}]


def test_the_rollout_is_not_kept_where_kserve_would_copy_it_into_pods(served, cluster):
    before = cluster.services["e"]
    served.put_rollout("e", {"state": "STEP"}, lease_seconds=None, rollback_traffic={"v1": 100})
    assert served.get_rollout("e") == {"state": "STEP"}
    assert cluster.services["e"] == before
    served.clear_rollout("e")
    assert served.get_rollout("e") is None


def test_moving_traffic_changes_no_annotation_of_a_predictor(served, cluster):
    def annotations():
        spec = cluster.services["e"]["spec"]
        every = [spec["predictor"], *(each["predictor"] for each in spec.get("canary", []))]
        return {each["annotations"]["airflow-provider-mlops/deployment"]: each for each in every}

    told = {name: each["annotations"] for name, each in annotations().items()}
    served.set_traffic("e", {"v1": 50, "v2": 50}, generation=2)
    served.set_traffic("e", {"v2": 100}, generation=3)
    assert {name: each["annotations"] for name, each in annotations().items()} == told


def test_a_revision_that_somebody_else_made_is_not_taken_for_ours(make, cluster):
    client = make(KnativeMode())
    client.create_deployment("e", "v1", "models:/m/1")
    client.create_deployment("e", "v2", "models:/m/2")
    client.set_traffic("e", {"v2": 100}, generation=2)
    client.get_state("e")
    made = cluster.services["e"]["status"]["components"]["predictor"]
    made["traffic"] = [{"revisionName": "e-predictor-00077", "percent": 100}]
    cluster.paused = True
    assert client.get_state("e").traffic == {"e-predictor-00077": 100}


def test_an_edit_by_hand_shows_in_state_and_generation(make, cluster):
    client = make(KnativeMode())
    client.create_deployment("e", "v1", "models:/m/1")
    client.create_deployment("e", "v2", "models:/m/2")
    edited_by_hand(cluster, "e", canaryTrafficPercent=40)
    ref = client.get_state("e")
    assert (ref.traffic, ref.generation) == ({"v1": 60, "v2": 40}, 3)


def test_an_object_of_others_is_not_touched(client, cluster):
    cluster.create(
        {
            "metadata": {
                "name": "e",
                "annotations": {"serving.kserve.io/deploymentMode": client._mode.name},
            },
            "spec": {"predictor": {"model": {"storageUri": "s3://theirs"}}},
        }
    )
    assert client.list_endpoints() == []
    with pytest.raises(ParameterError, match="to be made by this provider"):
        client.get_state("e")


def test_the_other_mode_is_named(make, cluster):
    make(StandardMode()).create_deployment("e", "v1", "models:/m/1")
    with pytest.raises(ParameterError, match=r"in the mode Knative, got .* mode Standard"):
        make(KnativeMode()).get_state("e")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (None, {"traffic"}),
        ({"x-kubernetes-preserve-unknown-fields": True}, {"traffic"}),
        ({"properties": {"predictor": {}, "canary": {}}}, {"traffic"}),
        ({"properties": {"predictor": {}}}, set()),
    ],
)
def test_a_kserve_without_canaries_is_known_at_plan_time(make, cluster, fields, found):
    cluster.fields = fields
    assert make(StandardMode()).capabilities() == found
    assert make(KnativeMode()).capabilities() == {"traffic"}


def test_autoscaling_is_refused_where_canaries_cannot_have_it(make):
    client = make(StandardMode(), template={"maxReplicas": 3})
    with pytest.raises(ParameterError, match="free of autoscaling"):
        client.create_deployment("e", "v1", "models:/m/1")


def test_what_runs_a_model_comes_from_the_connection(make, cluster):
    template = {"serviceAccountName": "s3", "model": {"runtime": "mine"}, "minReplicas": 3}
    make(KnativeMode(), template=template).create_deployment("e", "v1", "models:/m/1")
    assert predictor(cluster)["serviceAccountName"] == "s3"
    assert predictor(cluster)["model"]["runtime"] == "mine"
    assert predictor(cluster)["minReplicas"] == 3


@pytest.mark.parametrize("name", ["E", "a_b", "1st", "", "x" * 31])
def test_names_that_kubernetes_does_not_take_are_refused(client, name):
    with pytest.raises(ParameterError, match="lower-case"):
        client.create_endpoint(name)


def test_operators_deploy_and_undeploy(client):
    assert deploy_model(client, "e", version("1")).traffic == {"v1": 100}
    assert deploy_model(client, "e", version("2"), 0).traffic == {"v1": 100}
    assert deploy_model(client, "e", version("2"), 100).traffic == {"v2": 100}
    assert deploy_model(client, "e", version("1"), 100).traffic == {"v1": 100}
    assert undeploy_model(client, "e", "v2").deployments == {"v1": "models:/m/1"}
    client.delete_endpoint("e")
    assert client.list_endpoints() == []
