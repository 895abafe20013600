"""KServe endpoints on a real kube-apiserver, with the test in the place of KServe's controller."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator

import pytest
from kubernetes import client as kubernetes
from kubernetes import config

from airflow_mlops_provider.exceptions import (
    ParameterError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.hooks import kserve
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.serving.targets.documents import GROUP, PLURAL, VERSION
from airflow_mlops_provider.steps.deploy import deploy_model, undeploy_model
from airflow_mlops_provider.steps.rollout.drive import begin, tick
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from tests.kserve_fake import Controller
from tests.kube_apiserver import ApiServer, kube_apiserver
from tests.prometheus_fake import FakePrometheus, fake_prometheus
from tests.serving_fake import version

pytestmark = pytest.mark.slow
NAMESPACE = "models"
OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
LATEST_WEIGHTS = (10, 50, 100)


def definition(spec):
    """KServe's minimal custom resource definition, with a schema of ``spec``."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "schema": {
            "openAPIV3Schema": {"type": "object", "properties": {"spec": spec, "status": OPEN}}
        },
    }
    names = {"kind": "InferenceService", "plural": PLURAL, "singular": "inferenceservice"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


class Cluster:
    """The API server with KServe's definition, and its controller while it is not paused."""

    def __init__(self, server: ApiServer) -> None:
        self.server, self.controller = server, Controller()
        self.api = config.new_client_from_config(str(server.kubeconfig))
        self.objects = kubernetes.CustomObjectsApi(self.api)
        self.core = kubernetes.CoreV1Api(self.api)
        self.paused, self.looks = threading.Event(), 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._control, daemon=True)

    def __enter__(self) -> Cluster:
        self.core.create_namespace({"metadata": {"name": NAMESPACE}})
        self.define(OPEN)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()
        self.api.close()

    def define(self, spec) -> None:
        definitions = kubernetes.ApiextensionsV1Api(self.api)
        body = definition(spec)
        name = body["metadata"]["name"]
        known = {each.metadata.name for each in definitions.list_custom_resource_definition().items}
        if name in known:
            patch = [{"op": "replace", "path": "/spec", "value": body["spec"]}]
            definitions.patch_custom_resource_definition(name, patch)
        else:
            definitions.create_custom_resource_definition(body)
        self.wait(lambda: self.items() is not None)

    def items(self):
        with contextlib.suppress(kubernetes.ApiException):
            found = self.objects.list_namespaced_custom_object(GROUP, VERSION, NAMESPACE, PLURAL)
            return found["items"]
        return None

    def read(self, endpoint):
        return self.objects.get_namespaced_custom_object(
            GROUP, VERSION, NAMESPACE, PLURAL, endpoint
        )

    def wait(self, done) -> None:
        for _ in range(200):
            if done():
                return
            self._ended.wait(0.05)
        raise AssertionError("it did not come true within 10 s")

    def settled(self, look) -> None:
        """Wait until the controller has looked twice more."""
        seen = self.looks
        self.wait(lambda: self.looks > seen + look)

    def _control(self) -> None:
        while not self._ended.wait(0.02):
            self.looks += 1
            if self.paused.is_set():
                continue
            for service in self.items() or []:
                # A number that always changes: there is a status write between any two calls.
                status = {**self.controller.status(service), "looks": self.looks}
                service["status"] = status
                with contextlib.suppress(kubernetes.ApiException):
                    self.objects.replace_namespaced_custom_object_status(
                        GROUP, VERSION, NAMESPACE, PLURAL, service["metadata"]["name"], service
                    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with kube_apiserver() as server, Cluster(server) as running:
        yield running


@pytest.fixture
def prometheus() -> Iterator[FakePrometheus]:
    with fake_prometheus() as running:
        yield running


@pytest.fixture(params=["Standard", "Knative"])
def mode(request):
    return request.param


@pytest.fixture
def endpoint(request):
    """A name that no other test uses."""
    return "e" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]


@pytest.fixture
def connect(cluster, monkeypatch):
    """Return clients as the hook makes them of a Connection."""
    clients = []
    monkeypatch.setattr(kserve, "_located", lambda extra, uri: "s3://b/" + uri.partition(":/")[2])

    def make(mode, context="admin", **extra):
        words = {
            "kube_config_path": str(cluster.server.kubeconfig),
            "cluster_context": context,
            "mlops_target": "kserve",
            "namespace": NAMESPACE,
            "mode": mode,
            **extra,
        }
        connection = json.dumps({"conn_type": "kubernetes", "extra": json.dumps(words)})
        monkeypatch.setenv("AIRFLOW_CONN_CLUSTER", connection)
        clients.append(ServingHook("cluster").get_conn())
        clients[-1]._poll_seconds = 0.02
        return clients[-1]

    yield make
    for each in clients:
        each.close()


def test_an_endpoint_lives_from_its_first_model_to_its_end(connect, cluster, mode, endpoint):
    client = connect(mode)
    assert client.capabilities() == {"traffic"}
    assert client.create_endpoint(endpoint).deployments == {}
    assert deploy_model(client, endpoint, version("1")).traffic == {"v1": 100}
    ref = deploy_model(client, endpoint, version("2"), 0)
    assert ref.deployments == {"v1": "models:/m/1", "v2": "models:/m/2"}
    for weight in (*LATEST_WEIGHTS, 0, 25, 0):
        traffic = {"v1": 100 - weight, "v2": weight}
        ref = client.set_traffic(endpoint, traffic, generation=ref.generation)
        assert ref.traffic == {name: percent for name, percent in traffic.items() if percent}
    with pytest.raises(RegistryConflictError, match=f"at generation {ref.generation}, not at 1"):
        client.set_traffic(endpoint, {"v2": 100}, generation=1)
    assert undeploy_model(client, endpoint, "v2").deployments == {"v1": "models:/m/1"}
    assert client.get_state(endpoint).traffic == {"v1": 100}
    client.delete_endpoint(endpoint)
    client.delete_endpoint(endpoint)
    assert client.create_endpoint(endpoint).deployments == {}
    assert endpoint not in {each.endpoint for each in client.list_endpoints()}


def test_status_writes_in_between_are_no_conflict_but_changes_are(connect, cluster, mode, endpoint):
    client = connect(mode)
    client.create_deployment(endpoint, "v1", "models:/m/1")
    ref = client.create_deployment(endpoint, "v2", "models:/m/2")
    versions = set()
    for weight in range(1, 11):
        versions.add(cluster.read(endpoint)["metadata"]["resourceVersion"])
        traffic = {"v1": 100 - weight, "v2": weight}
        ref = client.set_traffic(endpoint, traffic, generation=ref.generation)
    assert len(versions) == 10
    stale = client.get_state(endpoint).generation
    connect(mode).set_traffic(endpoint, {"v1": 60, "v2": 40}, generation=stale)
    with pytest.raises(RegistryConflictError):
        client.set_traffic(endpoint, {"v1": 1, "v2": 99}, generation=stale)
    assert client.get_state(endpoint).traffic == {"v1": 60, "v2": 40}


def test_two_who_write_at_once_do_not_both_win(connect, cluster, mode, endpoint):
    clients = [connect(mode) for _ in range(4)]
    clients[0].create_deployment(endpoint, "v1", "models:/m/1")
    ref = clients[0].create_deployment(endpoint, "v2", "models:/m/2")
    won, lost = [], []

    def write(client, weight):
        try:
            traffic = {"v1": 100 - weight, "v2": weight}
            won.append(client.set_traffic(endpoint, traffic, generation=ref.generation))
        except RegistryConflictError as error:
            lost.append(error)

    threads = [
        threading.Thread(target=write, args=(client, 10 * number))
        for number, client in enumerate(clients, 1)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(lost)) == (1, 3)
    assert clients[0].get_state(endpoint).traffic == won[0].traffic


def test_traffic_is_in_force_only_once_the_controller_did_it(connect, cluster, mode, endpoint):
    client = connect(mode, settle_seconds=0.2)
    client.create_deployment(endpoint, "v1", "models:/m/1")
    ref = client.create_deployment(endpoint, "v2", "models:/m/2")
    cluster.paused.set()
    cluster.settled(2)
    try:
        with pytest.raises(ServingUnavailableError, match="Expected the traffic"):
            client.set_traffic(endpoint, {"v1": 90, "v2": 10}, generation=ref.generation)
        ref = client.get_state(endpoint)
        assert ref.traffic == {"v1": 100}
    finally:
        cluster.paused.clear()
    cluster.wait(lambda: client.get_state(endpoint).traffic == {"v1": 90, "v2": 10})
    assert (
        client.set_traffic(endpoint, {"v1": 90, "v2": 10}, generation=ref.generation).generation
        == ref.generation
    )


def test_a_rollouts_document_makes_no_revision_and_goes_with_its_endpoint(
    connect, cluster, mode, endpoint
):
    client = connect(mode)
    client.create_deployment(endpoint, "v1", "models:/m/1")
    before = cluster.read(endpoint)
    assert client.get_rollout(endpoint) is None
    for number in range(3):
        document = {"state": "STEP", "n": number, "history": [{"t": 0.5}] * 200}
        client.put_rollout(endpoint, document, lease_seconds=None, rollback_traffic={})
    assert client.get_rollout(endpoint)["n"] == 2
    after = cluster.read(endpoint)
    assert after["spec"] == before["spec"]
    assert after["metadata"]["annotations"] == before["metadata"]["annotations"]
    kept = cluster.core.read_namespaced_config_map(f"{endpoint}-mlops-rollout", NAMESPACE)
    assert kept.metadata.owner_references[0].uid == after["metadata"]["uid"]
    client.clear_rollout(endpoint)
    client.clear_rollout(endpoint)
    assert client.get_rollout(endpoint) is None


@pytest.mark.parametrize(("context", "status"), [("nobody", 403), ("wrong", 401)])
def test_credentials_that_do_not_suffice_are_no_outage(connect, mode, endpoint, context, status):
    client = connect(mode, context=context)
    for call in (
        lambda: client.create_endpoint(endpoint),
        lambda: client.list_endpoints(),
        lambda: client.get_rollout(endpoint),
        lambda: client.create_deployment(endpoint, "v1", "models:/m/1"),
    ):
        with pytest.raises(ParameterError, match=f"Kubernetes answered {status} on .*grant them"):
            call()
    assert "traffic" in client.capabilities()  # the schema may not be read: it is assumed


def test_an_endpoint_that_is_not_there_is_named(connect, mode, endpoint):
    with pytest.raises(ParameterError, match=f"No endpoint '{endpoint}' in namespace 'models'"):
        connect(mode).get_state(endpoint)


def test_a_server_that_does_not_answer_is_an_outage(connect, cluster, mode, endpoint, tmp_path):
    config_ = json.loads(cluster.server.kubeconfig.read_text())
    config_["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config_))
    client = connect(mode, kube_config_path=str(path))
    with pytest.raises(ServingUnavailableError, match="Kubernetes does not answer on reading"):
        client.get_state(endpoint)


def test_a_kserve_that_drops_canaries_is_refused_and_keeps_serving(connect, cluster, endpoint):
    cluster.define({"type": "object", "properties": {"predictor": OPEN}})
    try:
        client = connect("Standard")
        cluster.wait(lambda: client.capabilities() == set())
        client.create_deployment(endpoint, "v1", "models:/m/1")
        with pytest.raises(ParameterError, match=r"dropped spec\.canary"):
            client.create_deployment(endpoint, "v2", "models:/m/2")
        assert client.get_state(endpoint).traffic == {"v1": 100}
    finally:
        cluster.define(OPEN)
        cluster.wait(lambda: "traffic" in connect("Standard").capabilities())


def drive(client, prometheus, endpoint, error_rates=None, ticks=60):
    """Drive a canary of v2 with ticks a minute apart, under 1,000 requests a tick."""
    plan = CanaryPlan.of(
        candidate="v2",
        model_uri="models:/m/2",
        steps=LATEST_WEIGHTS,
        step_min_seconds=60,
        bake_seconds=120,
        min_requests=50,
        lease_seconds=None,
    )
    now, seen = 1e9, []
    state = begin(client, endpoint, plan, now)
    for _ in range(ticks):
        ref = client.get_state(endpoint)
        for name, percent in ref.traffic.items():
            workload = client._mode.workloads(client._existing(endpoint))[name]
            errors = round(10 * percent * (error_rates or {}).get(name, 0))
            prometheus.serve(workload, 10 * percent, errors)
        now += 60
        state = tick(client, endpoint, plan, now)
        seen.append((state.state, state.weight))
        if state.ended:
            break
    return state, list(dict.fromkeys(seen))


def test_a_rollout_is_driven_on_what_prometheus_counts(connect, prometheus, mode, endpoint):
    client = connect(mode, prometheus_url=prometheus.url)
    assert {"traffic", "observe"} <= client.capabilities()
    client.create_deployment(endpoint, "v1", "models:/m/1")
    state, seen = drive(client, prometheus, endpoint)
    assert state.state == "SUCCEEDED", state.reason
    assert [weight for name, weight in seen if name == "STEP"] == [10, 50]
    assert client.get_state(endpoint).traffic == {"v2": 100}


def test_a_bad_candidate_is_rolled_back(connect, prometheus, mode, endpoint):
    client = connect(mode, prometheus_url=prometheus.url)
    client.create_deployment(endpoint, "v1", "models:/m/1")
    state, _ = drive(client, prometheus, endpoint, {"v1": 0.01, "v2": 0.3})
    assert state.state == "ROLLED_BACK"
    assert client.get_state(endpoint).traffic == {"v1": 100}


@pytest.mark.parametrize("value", ["NaN", None])
def test_figures_that_go_missing_are_an_outage_and_promote_nobody(
    connect, prometheus, mode, endpoint, value
):
    client = connect(mode, prometheus_url=prometheus.url)
    client.create_deployment(endpoint, "v1", "models:/m/1")
    if value is None:
        prometheus.status = 503
    else:
        prometheus.value = value
    state, _ = drive(client, prometheus, endpoint)
    assert state.state == "ROLLED_BACK"
    assert "no counters for" in state.reason
    assert client.get_state(endpoint).traffic == {"v1": 100}
