from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from airflow_mlops_provider.exceptions import (
    ModelError,
    ParameterError,
)
from airflow_mlops_provider.records import EvaluationReport, Metric
from airflow_mlops_provider.steps.register import (
    find_version,
    model_uri,
    monitoring_tags,
    register_model,
    resolve_version,
)


def test_a_model_is_registered_once(client, name, models):
    first = register_model(client, models[0], name=name, tags={"team": "ops"})
    again = register_model(client, models[0], name=name)
    assert first == again
    assert (first.version, first.aliases, first.tags) == ("1", ["champion"], {"team": "ops"})
    assert first.model_id == models[0].model_id


def test_the_same_model_twice_at_once_is_registered_once(client, name, models):
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda _: register_model(client, models[0], name=name), range(4))
    assert {version.version for version in found} == {"1"}
    assert len(client.search_model_versions(f'name = "{name}"')) == 1


def test_the_next_model_becomes_the_challenger(client, name, models):
    register_model(client, models[0], name=name)
    second = register_model(client, models[1], name=name)
    third = register_model(client, models[2], name=name)
    assert second.aliases == third.aliases == ["challenger"]
    assert find_version(client, name, "challenger").version == "3"
    assert find_version(client, name, "champion").version == "1"


def test_versions_are_resolved_by_alias_and_number(client, name, models):
    version = register_model(client, models[0], name=name)
    assert resolve_version(client, f"models:/{name}@champion") == version
    assert resolve_version(client, f"models:/{name}/1") == version
    assert resolve_version(client, f"models:/{name}/9") is None
    assert resolve_version(client, "models:/nobody@champion") is None


@pytest.mark.parametrize("wrong", ["flight_delay", "models:/a/b", "models:/a"])
def test_what_names_no_version_is_refused(client, wrong):
    with pytest.raises(ParameterError, match="models:/name@alias"):
        resolve_version(client, wrong)


def test_a_missing_version_is_an_error_unless_optional(client, models):
    assert model_uri(client, "models:/nobody@champion", optional=True) is None
    with pytest.raises(ModelError, match="nobody@champion"):
        model_uri(client, "models:/nobody@champion", optional=False)
    assert model_uri(client, models[0], optional=False) == models[0].model_uri
    assert model_uri(client, "models:/m-1", optional=False) == "models:/m-1"


def test_a_version_keeps_what_monitoring_needs():
    report = EvaluationReport(
        model_uri="m",
        dataset_uri="d",
        task="classification",
        metrics={"auc": Metric(value=0.7, low=None, high=None, n=9)},
        slices=[],
        predictions_uri="p",
    )
    assert monitoring_tags(report, "/w/profile.json", "/w/suite.yaml") == {
        "mlops.baseline.auc": "0.7",
        "mlops.profile_uri": "/w/profile.json",
        "mlops.suite_uri": "/w/suite.yaml",
        "mlops.predictions_uri": "p",
    }
    assert monitoring_tags(None, None, None) == {}


def test_a_model_or_name_that_cannot_be_registered_leaves_no_name(client, name, models):
    lost = replace(models[0], model_uri="models:/m-0", model_id="m-0")
    with pytest.raises(ModelError, match=r"no model models:/m-0.*clear it"):
        register_model(client, lost, name=name)
    with pytest.raises(ParameterError, match="The name parameter"):
        register_model(client, models[0], name="a/b")
    assert name not in {found.name for found in client.search_registered_models()}
