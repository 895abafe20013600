import json

import httpx
import pytest

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.stack import client as module
from airflow_mlops_provider.stack.client import AirflowClient


class FakeAirflow:
    """Answers each path with the next of its prepared answers; the last one stays."""

    def __init__(self):
        self.answers = {"/auth/token": [{"access_token": "abc"}]}
        self.requests = []

    def __call__(self, request):
        self.requests.append(request)
        prepared = self.answers[request.url.path]
        answer = prepared.pop(0) if len(prepared) > 1 else prepared[0]
        if isinstance(answer, int):
            return httpx.Response(answer, text="no luck")
        return httpx.Response(200, json=answer)

    def client(self):
        return AirflowClient("http://airflow", "admin", "x", httpx.MockTransport(self))


@pytest.fixture
def airflow(monkeypatch):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0)
    return FakeAirflow()


def tasks(**states):
    instances = [
        {"task_id": task, "map_index": -1, "state": state} for task, state in states.items()
    ]
    return {"task_instances": instances, "total_entries": len(instances)}


def mapped(*indices, total):
    instances = [{"task_id": "t", "map_index": index, "state": "success"} for index in indices]
    return {"task_instances": instances, "total_entries": total}


def test_a_run_is_triggered_with_its_params(airflow):
    airflow.answers["/api/v2/dags/d/dagRuns"] = [{"dag_run_id": "r1"}]
    assert airflow.client().trigger("d", {"month": "2013-02"}) == "r1"
    request = airflow.requests[-1]
    assert json.loads(request.content) == {"logical_date": None, "conf": {"month": "2013-02"}}
    assert request.headers["authorization"] == "Bearer abc"


def test_waiting_tells_each_change_of_state_once(airflow):
    airflow.answers |= {
        "/api/v2/dags/d/dagRuns/r": [{"state": "running"}] * 3 + [{"state": "success"}],
        "/api/v2/dags/d/dagRuns/r/taskInstances": [
            tasks(a=None),
            tasks(a="running", b=None),
            tasks(a="running", b=None),
            tasks(a="success", b="success"),
        ],
    }
    seen = []
    assert airflow.client().wait("d", "r", 60, lambda *each: seen.append(each)) == "success"
    assert seen == [
        ("a", "none"),
        ("a", "running"),
        ("b", "none"),
        ("a", "success"),
        ("b", "success"),
    ]


def test_a_run_that_does_not_end_is_told_with_its_tasks(airflow):
    airflow.answers |= {
        "/api/v2/dags/d/dagRuns/r": [{"state": "running"}],
        "/api/v2/dags/d/dagRuns/r/taskInstances": [tasks(stuck="deferred")],
    }
    with pytest.raises(StackUnavailableError, match=r"running after 0 s.*'stuck': 'deferred'"):
        airflow.client().wait("d", "r", 0)


def test_asset_events_are_asked_again_after_a_server_error(airflow):
    airflow.answers["/api/v2/assets/events"] = [
        500,
        500,
        {"asset_events": [{"id": 1}], "total_entries": 1},
    ]
    assert airflow.client().asset_events() == [{"id": 1}]


def test_a_dag_that_never_comes_is_told_with_the_import_errors(airflow):
    airflow.answers |= {
        "/api/v2/dags/d": [404],
        "/api/v2/importErrors": [
            {"import_errors": [{"filename": "d.py", "stack_trace": "SyntaxError"}]}
        ],
    }
    with pytest.raises(StackUnavailableError, match=r"'d' after 0 s.*d\.py.*SyntaxError"):
        airflow.client().wait_for_dag("d", seconds=0)


def test_a_missing_xcom_is_none(airflow):
    airflow.answers["/api/v2/dags/d/dagRuns/r/taskInstances/t/xcomEntries/k"] = [404]
    assert airflow.client().xcom("d", "r", "t", "k") is None


def test_mapped_tasks_are_named_with_their_index(airflow):
    airflow.answers["/api/v2/dags/d/dagRuns/r/taskInstances"] = [mapped(2, total=1)]
    assert airflow.client().task_states("d", "r") == {"t[2]": "success"}


def test_a_list_is_read_to_its_last_page(airflow):
    path = "/api/v2/dags/d/dagRuns/r/taskInstances"
    airflow.answers[path] = [mapped(0, 1, total=3), mapped(2, total=3)]
    assert len(airflow.client().task_states("d", "r")) == 3
    asked = [request.url.params["offset"] for request in airflow.requests[1:]]
    assert asked == ["0", "2"]
