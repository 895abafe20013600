from collections import Counter

import pytest

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.records import EndpointRef, GateReason, GateVerdict, RolloutVerdict
from flights import demo
from flights.demo import Outcome, Phase, run_phases
from flights.report import lines_of, record_of
from flights.traffic import Answers

VERDICT = GateVerdict(
    outcome="promote",
    challenger_uri="models:/m-1",
    champion_uri=None,
    reasons=[GateReason(check="floor auc", passed=True, detail="0.71 >= 0.6", n=12345)],
)
ROLLOUT = RolloutVerdict(
    endpoint="e",
    champion="v1",
    candidate="v2",
    state="SUCCEEDED",
    reason="all steps held",
    steps=[{"weight": 10, "seconds": 5.25, "candidate_requests": 100}],
)
ENDPOINT = EndpointRef(
    endpoint="e",
    url="http://host/endpoints/e",
    deployments={"v1": "models:/m/1"},
    traffic={"v1": 100},
    mirror_traffic={},
    generation=1,
)


class FakeClient:
    """An Airflow in which each DAG ends as told."""

    def __init__(self, **states):
        self.states, self.calls = states, []

    def wait_for_dag(self, dag_id):
        self.calls.append(("unpause", dag_id))

    def trigger(self, dag_id, params):
        self.calls.append(("trigger", dag_id, params))
        return "run"

    def runs(self, dag_id):
        return {"asset__run": "queued"}

    def wait(self, dag_id, run_id, seconds, on_change):
        if self.states[dag_id] == "stuck":
            raise StackUnavailableError("it hangs")
        on_change("task", "deferred")
        on_change("task", self.states[dag_id])
        return self.states[dag_id]

    def task_states(self, dag_id, run_id):
        return {"task": self.states[dag_id]}

    def log_tail(self, dag_id, run_id, task_id):
        return "the reason"

    def results(self, dag_id, run_id):
        return {"gate": VERDICT.to_xcom(), "note": "no record"}


def test_phases_run_in_order_until_one_fails(capsys):
    client = FakeClient(a="success", b="failed", c="success")
    phases = [Phase("A", "a", {"month": "2013-01"}), Phase("B", "b"), Phase("C", "c")]
    outcomes = list(run_phases(client, phases))
    assert [each.ok for each in outcomes] == [True, False]
    assert outcomes[0].states == {"deferred", "success"}
    assert ("trigger", "a", {"month": "2013-01"}) in client.calls
    assert ("unpause", "c") not in client.calls
    assert "the reason" in capsys.readouterr().out


def test_a_dag_that_an_asset_starts_is_unpaused_before_the_asset_can_be_updated():
    client = FakeClient(a="success", b="success")
    assert all(
        each.ok for each in run_phases(client, [Phase("A", "a"), Phase("B", "b", by_asset=True)])
    )
    assert client.calls.index(("unpause", "b")) < client.calls.index(("trigger", "a", {}))
    assert ("trigger", "b", {}) not in client.calls


def test_a_run_that_an_asset_started_is_taken_once():
    client = FakeClient(a="success")
    outcomes = run_phases(client, [Phase("A", "a", by_asset=True)])
    assert [each.run_id for each in outcomes] == ["asset__run"]
    client.runs = lambda dag_id: {"asset__run": "success", "asset__second": "queued"}
    phase = Phase("A", "a", by_asset=True)
    assert demo.start_run(client, phase, {"asset__run"}) == "asset__second"


@pytest.mark.parametrize(("state", "ok"), [("failed", True), ("success", False)])
def test_a_phase_may_have_to_fail(state, ok):
    assert Outcome(Phase("A", "a", ends="failed"), state).ok is ok


@pytest.mark.parametrize(
    ("phase", "told"),
    [(Phase("A", "a"), "it hangs"), (Phase("A", "a", traffic=True), "nothing to ask")],
)
def test_what_does_not_finish_is_told(capsys, phase, told):
    (outcome,) = run_phases(FakeClient(a="stuck"), [phase])
    assert outcome.state == "did not finish"
    assert not outcome.ok
    assert told in capsys.readouterr().out


@pytest.mark.parametrize(
    ("answers", "ok"),
    [
        (None, True),
        (Answers(Counter(v1=10)), True),
        (Answers(Counter(v1=10), failed=1), False),
        (Answers(), False),
    ],
)
def test_a_phase_is_only_well_if_no_live_request_failed(answers, ok):
    assert Outcome(Phase("A", "a"), "success", answers=answers).ok is ok


@pytest.mark.parametrize("record", [VERDICT, ROLLOUT, ENDPOINT])
def test_records_are_told_from_what_tasks_returned(record):
    assert record_of(record.to_xcom()) == record


@pytest.mark.parametrize("value", [None, 3, {"a": 1}, {**ENDPOINT.to_xcom(), "generation": "x"}])
def test_other_values_are_no_records(value):
    assert list(lines_of(value)) == []


def test_the_report_shows_the_evidence():
    gate, rollout = list(lines_of(VERDICT.to_xcom())), list(lines_of(ROLLOUT.to_xcom()))
    assert gate == ["gate: promote", "  ok   floor auc: 0.71 >= 0.6 (n=12,345)"]
    assert rollout[-1] == "  weight 10, seconds 5.25, candidate_requests 100"


def test_the_traffic_is_told_by_deployment():
    lines = list(demo.traffic_lines(Answers(Counter(v1=90, v2=10), 1, ["503: no"])))
    assert lines[0] == "  101 live requests, 1 failed"
    assert [line.split() for line in lines[1:]] == [["v1", "90"], ["v2", "10"], ["503:", "no"]]
