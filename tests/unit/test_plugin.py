import subprocess
import sys

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi.testclient import TestClient

from airflow_mlops_provider import plugin
from airflow_mlops_provider.ui import services


def down():
    raise OSError("nobody there")


@pytest.fixture
def http(monkeypatch):
    monkeypatch.setattr(
        services,
        "CHECKS",
        {"Up": lambda: (True, "fine"), "Refused": lambda: (False, "no"), "Broken": down},
    )
    yield TestClient(plugin.app)
    services.app.dependency_overrides.clear()


@pytest.mark.parametrize(
    "path",
    ["/services", "/page", "/rollouts", "/rollouts/e", "/retraining?dag_id=d&run_id=r"],
)
def test_strangers_see_nothing(http, path):
    assert http.get(path).status_code == 401


def test_each_service_tells_how_it_is(http):
    services.app.dependency_overrides[get_user] = lambda: "somebody"
    assert http.get("/services").json() == [
        {"name": "Up", "up": True, "message": "fine"},
        {"name": "Refused", "up": False, "message": "no"},
        {"name": "Broken", "up": False, "message": "nobody there"},
    ]


def test_the_page_needs_nothing_from_elsewhere(http):
    services.app.dependency_overrides[get_user] = lambda: "somebody"
    page = http.get("/page").text
    assert 'fetch("services")' in page
    assert "://" not in page


def test_the_views_lead_to_the_pages():
    views = plugin.MlopsPlugin.external_views
    places = {view["href"]: view["destination"] for view in views}
    assert places == {
        "/mlops/page": "nav",
        "/mlops/rollouts": "nav",
        "/mlops/retraining?dag_id={DAG_ID}&run_id={RUN_ID}": "dag_run",
    }
    assert len({view["url_route"] for view in views}) == len(views)


def test_tasks_do_not_pay_for_the_pages():
    code = (
        "import sys, airflow_mlops_provider.plugin as p; print(p.app)\n"
        "assert 'airflow_mlops_provider.ui.services' not in sys.modules\n"
        "assert 'airflow.api_fastapi.core_api.security' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_loads_plugins_has_the_operators_before_it_forks_for_a_dag_file():
    code = (
        "import sys; from airflow.listeners.listener import get_listener_manager\n"
        "get_listener_manager()\n"
        "assert 'airflow_mlops_provider.operators' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
