import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from airflow_mlops_provider.serving.admin import build_app
from airflow_mlops_provider.serving.host import ServingHost

TEXT = """# HELP mlops_monitoring_error_rate Share of predictions that failed.
# TYPE mlops_monitoring_error_rate gauge
mlops_monitoring_error_rate{{endpoint="{endpoint}",model_uri=""}} {value}
"""


@pytest.fixture
def metrics(tmp_path):
    """Write what monitoring left for endpoints, and ask the host for its metrics."""

    def ask(**texts):
        for endpoint, text in texts.items():
            folder = tmp_path / "reports" / "monitoring" / endpoint
            folder.mkdir(parents=True)
            (folder / "metrics.prom").write_text(text)
        host = ServingHost(tmp_path / "serving", "uri", "127.0.0.1", 1)
        return TestClient(build_app(host, "secret", public_metrics=True)).get("/metrics").text

    return ask


def test_reports_of_all_endpoints_are_one_family(metrics):
    texts = {name: TEXT.format(endpoint=name, value=value) for name, value in (("a", 1), ("b", 2))}
    found = metrics(**texts)
    assert found.count("# TYPE mlops_monitoring_error_rate gauge") == 1
    values = {
        sample.labels["endpoint"]: sample.value
        for family in text_string_to_metric_families(found)
        for sample in family.samples
        if sample.name == "mlops_monitoring_error_rate"
    }
    assert values == {"a": 1.0, "b": 2.0}


def test_a_broken_report_hides_no_other(metrics):
    found = metrics(
        a='mlops_monitoring_error_rate{endpoint="a', b=TEXT.format(endpoint="b", value=2)
    )
    assert 'mlops_monitoring_error_rate{endpoint="b",model_uri=""} 2.0' in found
