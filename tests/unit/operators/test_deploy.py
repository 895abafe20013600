from __future__ import annotations

from contextlib import contextmanager
from unittest.mock import MagicMock

import pytest

from airflow_mlops_provider.operators import deploy
from airflow_mlops_provider.operators.deploy import DeployModelOperator, UndeployModelOperator
from tests.serving_fake import version, with_champion


@pytest.fixture
def target(monkeypatch):
    fake = with_champion()
    hook = MagicMock()
    hook.return_value.get_conn.return_value = fake
    monkeypatch.setattr(deploy, "ServingHook", hook)
    return fake


@pytest.fixture
def run(monkeypatch):
    """The MLflow run that operators log to."""
    opened = MagicMock()

    @contextmanager
    def tracked_run(operator, context):
        yield opened

    monkeypatch.setattr(deploy.MlopsOperator, "tracked_run", tracked_run)
    return opened


def test_deploy_casts_what_templates_gave(target, run):
    operator = DeployModelOperator(
        task_id="t",
        model_version=version("2").to_xcom(),
        endpoint="e",
        traffic="100",
        keep="1",
        options={"workers": 2},
    )
    assert operator.execute({"ti": MagicMock()})["traffic"] == {"v2": 100}
    assert sorted(target.deployments) == ["v2"]
    assert target.options["v2"] == {"workers": 2}
    run.log_record.assert_called_once()


def test_undeploy_gives_the_endpoint(target, run):
    target.create_deployment("e", "v2", "models:/m/2")
    operator = UndeployModelOperator(task_id="t", endpoint="e", deployment="v2")
    assert list(operator.execute({"ti": MagicMock()})["deployments"]) == ["v1"]
    run.log_record.assert_called_once()


@pytest.mark.parametrize(
    "operator",
    [
        DeployModelOperator(task_id="a", model_version="{{ x }}", endpoint="{{ x }}"),
        UndeployModelOperator(task_id="b", endpoint="{{ x }}", deployment="{{ x }}"),
    ],
)
def test_arguments_are_templates(operator):
    operator.render_template_fields({"x": "rendered", "dag": MagicMock()})
    assert operator.endpoint == "rendered"
