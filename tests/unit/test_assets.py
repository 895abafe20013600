import pytest
from airflow.sdk import Asset

from airflow_mlops_provider import assets
from airflow_mlops_provider.exceptions import ParameterError


@pytest.mark.parametrize(
    ("make", "uri"),
    [
        (assets.dataset_asset, "mlops-dataset://flights"),
        (assets.model_asset, "mlflow-model://flights"),
        (assets.drift_asset, "mlops-drift://flights"),
        (assets.performance_asset, "mlops-performance://flights"),
        (assets.alert_asset, "mlops-alert://flights"),
        (assets.pipeline_asset, "mlops-pipeline://flights"),
    ],
)
def test_an_asset_is_named_by_scheme_and_name(make, uri):
    assert make("flights") == Asset(uri)
    assert make("flights").name == uri


@pytest.mark.parametrize("name", ["", "a/b", "../a", "a b", "a?b", ".a", "x" * 129, None])
def test_a_name_that_would_be_another_uri_is_refused(name):
    with pytest.raises(ParameterError, match="name parameter of drift asset"):
        assets.drift_asset(name)
