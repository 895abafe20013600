from __future__ import annotations

import pytest
from mlflow.exceptions import MlflowException

from airflow_mlops_provider.exceptions import ParameterError, ServingUnavailableError
from airflow_mlops_provider.serving.targets import plain
from airflow_mlops_provider.serving.targets.plain import PlainClient
from airflow_mlops_provider.steps.deploy import deploy_model, undeploy_model
from airflow_mlops_provider.steps.rollout.drive import begin
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from tests.serving_fake import version


class Plugin:
    """A deployments plugin in memory; ``forgetful`` ones do not tell the model of a deployment."""

    def __init__(self):
        self.deployments, self.calls = {}, []
        self.forgetful, self.error = False, None

    def _call(self, name):
        self.calls.append(name)
        if self.error:
            raise self.error

    def create_deployment(self, name, model_uri, flavor=None, config=None, endpoint=None):
        self._call("create")
        self.deployments[name] = (model_uri, flavor, config)

    def update_deployment(self, name, model_uri=None, flavor=None, config=None, endpoint=None):
        self._call("update")
        self.deployments[name] = (model_uri, flavor, config)

    def delete_deployment(self, name, config=None, endpoint=None):
        self._call("delete")
        del self.deployments[name]

    def list_deployments(self, endpoint=None):
        if self.error:
            raise self.error
        known = {} if self.forgetful else {"model_uri": 0}
        return [
            {"name": name, **{key: value[at] for key, at in known.items()}}
            for name, value in self.deployments.items()
        ]


@pytest.fixture
def plugin(monkeypatch):
    made = Plugin()
    monkeypatch.setattr(plain, "get_deploy_client", lambda uri: made)
    return made


@pytest.fixture
def client(plugin):
    return PlainClient("cloud:/eu", flavor="python_function", config={"size": "s"})


def test_a_deploy_creates_and_the_next_updates(client, plugin):
    assert deploy_model(client, "e", version("1")).traffic == {"v1": 100}
    assert plugin.deployments == {"e": ("models:/m/1", "python_function", {"size": "s"})}
    ref = deploy_model(client, "e", version("2"), 100)
    assert (ref.deployments, ref.traffic) == ({"v2": "models:/m/2"}, {"v2": 100})
    assert plugin.calls == ["create", "update"]


def test_the_same_again_changes_nothing(client, plugin):
    for _ in "12":
        deploy_model(client, "e", version("1"), 100)
    assert plugin.calls == ["create"]


@pytest.mark.parametrize("traffic", [0, None])
def test_a_dark_deploy_is_refused_before_anything_is_done(client, plugin, traffic):
    deploy_model(client, "e", version("1"), 100)
    with pytest.raises(ParameterError, match="100: this target serves one deployment"):
        deploy_model(client, "e", version("2"), traffic)
    assert plugin.calls == ["create"]


def test_undeploying_deletes(client, plugin):
    deploy_model(client, "e", version("1"), 100)
    for _ in "12":
        assert undeploy_model(client, "e", "v1").deployments == {}
    assert plugin.deployments == {}


def test_a_rollout_is_refused_with_the_words_it_lacks(client):
    deploy_model(client, "e", version("1"), 100)
    plan = CanaryPlan.of(candidate="v2", model_uri="models:/m/2")
    with pytest.raises(ParameterError, match=r"cannot do .*observe.*traffic"):
        begin(client, "e", plan, 0.0)
    with pytest.raises(ParameterError, match="The serving target cloud cannot do traffic"):
        client.set_traffic("e", {"v1": 90, "v2": 10}, generation=0)


def test_a_plugin_that_tells_no_model_is_asked_to_deploy_again(client, plugin):
    plugin.forgetful = True
    deploy_model(client, "e", version("1"))
    assert client.get_state("e").deployments == {"current": ""}


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("TEMPORARILY_UNAVAILABLE", ServingUnavailableError),
        ("INVALID_PARAMETER_VALUE", ParameterError),
    ],
)
def test_errors_of_a_plugin_are_told_apart(client, plugin, code, error):
    plugin.error = MlflowException("broken")
    plugin.error.error_code = code
    with pytest.raises(error, match="cloud:/eu refused"):
        client.get_state("e")


def test_a_plugin_that_is_not_installed_is_named():
    with pytest.raises(ParameterError, match="nowhere"):
        PlainClient("nowhere:/x")
