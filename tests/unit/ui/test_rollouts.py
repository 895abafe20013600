from __future__ import annotations

import re
from unittest.mock import MagicMock
from xml.etree import ElementTree

import pytest
from airflow.api_fastapi.core_api.security import get_user
from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi.testclient import TestClient

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.steps.rollout.drive import begin, tick
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from airflow_mlops_provider.ui import rollouts, services
from airflow_mlops_provider.ui.charts import Chart, Line, svg
from airflow_mlops_provider.ui.evidence import charts_of, entries_of
from tests.serving_fake import with_champion

BAD = "<script>alert('x')</script>"
PLAN = CanaryPlan.of(
    candidate="v2", model_uri="models:/m/2", steps="10,100", step_min_seconds=30, min_requests=10
)


class Host:
    """Stands for the hook and gives the target."""

    default_conn_name, conn_type = ServingHook.default_conn_name, ServingHook.conn_type

    def __init__(self, target):
        self.target, self.asked = target, []
        self.kinds = {"serving_eu": "mlops_serving", "warehouse": "postgres"}

    def __call__(self, connection):
        self.asked.append(connection)
        return self

    def get_conn(self):
        return self.target

    def get_connection(self, name):
        if name not in self.kinds:
            raise AirflowNotFoundException(f"The conn_id `{name}` isn't defined")
        return MagicMock(conn_type=self.kinds[name])


@pytest.fixture
def target():
    made = with_champion()
    made.list_endpoints = lambda: [made.get_state("e")]
    return made


@pytest.fixture
def host(target, monkeypatch):
    made = Host(target)
    monkeypatch.setattr(rollouts, "ServingHook", made)
    return made


@pytest.fixture
def http(host):
    services.app.dependency_overrides[get_user] = lambda: "somebody"
    yield TestClient(services.app)
    services.app.dependency_overrides.clear()


def roll_out(target, ticks, start=1000.0):
    begin(target, "e", PLAN, start)
    for i in range(ticks):
        target.serve(500, {"v1": 0.01, "v2": 0.02})
        tick(target, "e", PLAN, start + 15 * (i + 1))


def body(answer):
    """What is shown, without the style and the script."""
    return re.search(r"<main.*</main>", answer.text, re.DOTALL)[0]


def test_a_running_rollout_shows_its_state_weights_and_evidence(http, target):
    roll_out(target, 3)
    page = body(http.get("/rollouts/e"))
    assert 'data-refresh="5"' in page
    assert "STEP" in page
    assert "canary of v2 against v1" in page
    assert "v1 90 %" in page
    assert "v2 10 %" in page
    titles = ["Traffic", "Error rate in the current step", "Latency, candidate over champion"]
    assert [title in page for title in titles] == [True] * 3
    for drawn in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawn)  # noqa: S314 - our own
    assert page.count("<svg") == 4


def test_an_ended_rollout_shows_its_steps_and_rests(http, target):
    roll_out(target, 60)
    page = body(http.get("/rollouts/e"))
    assert 'data-refresh="0"' in page
    assert "SUCCEEDED" in page
    assert "all steps passed" in page
    assert "candidate: errors of requests" in page
    assert re.search(r"<td>\d+ of [\d,]+</td>", page)


def test_an_endpoint_without_a_rollout_says_so(http):
    page = body(http.get("/rollouts/e"))
    assert "No rollout was started" in page
    assert "v1 100 %" in page
    assert "<svg" not in page


def test_the_list_leads_to_each_endpoint(http, target):
    roll_out(target, 3)
    page = body(http.get("/rollouts"))
    assert 'href="rollouts/e"' in page
    assert "STEP" in page
    assert "v2 10 %" in page


def test_a_host_that_is_down_shows_as_down_and_is_asked_again(http, target):
    target.down = True
    for path in ("/rollouts", "/rollouts/e"):
        answer = http.get(path)
        assert answer.status_code == 503
        assert "▼ down" in answer.text
        assert "does not answer" in answer.text
        assert 'data-refresh="0"' not in answer.text


def test_an_unknown_endpoint_is_not_found_and_not_asked_again(http, target):
    def unknown(endpoint):
        raise ParameterError(f"no endpoint {endpoint}")

    target.get_state = unknown
    answer = http.get("/rollouts/none")
    assert answer.status_code == 404
    assert 'data-refresh="0"' in answer.text


def test_another_host_may_be_named_but_no_other_kind_of_connection(http, host):
    assert "?connection=serving_eu" in http.get("/rollouts?connection=serving_eu").text
    for name in ("warehouse", "unknown"):
        answer = http.get("/rollouts/e", params={"connection": name})
        assert answer.status_code == 404
        assert name in answer.text


def test_whatever_the_document_says_is_text(http, target):
    roll_out(target, 3)
    target.rollout |= {"reason": BAD, "candidate": BAD, "champion": BAD, "kind": BAD, "state": BAD}
    target.rollout["steps"] = [{BAD: BAD, "weight": BAD}]
    target.rollout["history"][-1] |= {BAD: BAD, "weights": {BAD: 1}, "probabilities": {BAD: 1.0}}
    target.traffic = {BAD: 100}
    for path in ("/rollouts", "/rollouts/e", f"/rollouts/{BAD.replace('/', '')}"):
        answer = http.get(path)
        assert "<script>alert" not in answer.text
        assert answer.text.count("<script>") == 1
    assert "&lt;script&gt;" in http.get("/rollouts/e").text


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"state": "STEP"},
        {"state": None, "since": "yesterday", "history": "none", "steps": "none"},
        {
            "state": "STEP",
            "since": 1e300,
            "history": [None, {}, {"t": "x"}, {"t": 1}],
            "steps": [1],
        },
        {"state": "STEP", "history": [{"t": 1, "weight": "x", "error_e_value": -1, "low": 1}]},
        {"state": "STEP", "history": [{"t": i, "error_e_value": 10.0**i} for i in range(300)]},
        {"state": "STEP", "history": [{"t": 1, "latency_ratio": 1e308}, {"t": 2, "difference": 0}]},
        {"state": "STEP", "history": [{"t": 5, "weights": {"a": None}, "probabilities": 3}]},
    ],
)
def test_a_document_of_another_version_breaks_nothing(http, target, document):
    target.rollout = document
    assert http.get("/rollouts/e").status_code == 200
    assert http.get("/rollouts").status_code == 200


def test_the_pages_need_nothing_from_elsewhere(http, target):
    roll_out(target, 3)
    for path in ("/rollouts", "/rollouts/e"):
        page = http.get(path).text
        assert "://" not in page
        assert "prefers-color-scheme" in page or "light-dark(" in page
        assert 'name="viewport"' in page


def test_lines_lie_where_their_values_are():
    line = Line(name="a", times=[0, 50, 100], values=[0, None, 100], low=[0, 1, 2], high=[1, 2, 3])
    drawn = svg(Chart(title="t", lines=[line], bounds=(0, 100)))
    points = re.search(r'<polyline class="line0" points="([^"]+)"', drawn)[1].split()
    (x0, y0), (x1, y1) = (tuple(map(float, point.split(","))) for point in points)
    assert x0 < x1
    assert y0 > y1
    assert "polygon" in drawn


def test_entries_are_read_in_the_order_of_time():
    document = {"history": [{"t": 3.0, "weight": 5}, {"t": 1, "weight": 0}, {"weight": 9}]}
    assert [entry["t"] for entry in entries_of(document)] == [1, 3.0]
    assert charts_of([], {}) == []
