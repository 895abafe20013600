"""Each of the five triggers, from the outside event to a retrained, gated model or a non-event.

The example DAGs run under a real scheduler, triggerer and API. The tests follow each other: each
begins where the one before left the registry, those that ask for ``anew`` with an empty ledger.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.records import RetrainingDecision, RetrainingOutcome
from airflow_mlops_provider.stack.client import FINISHED
from airflow_mlops_provider.stack.local import USER, LocalStack
from airflow_mlops_provider.steps.retrain.ledger import Ledger
from flights.columns import FEATURES, TARGET
from flights.landing import flights_of, land_month
from flights.settings import ENDPOINT, MODEL
from flights.traffic import rows_of
from tests.prediction_logs import record, write_segment

pytestmark = pytest.mark.slow  # a training of flights takes a minute, and there are six

DAGS = Path(__file__).resolve().parents[2] / "dags"
TRAINING, MONITORING, ALERTS = "level1_continuous_training", "level1_monitoring", "level1_alerts"
MINUTES = 20
SETTLE_SECONDS = 6
"""Airflow 3.3.2 takes a question that is answered sooner for one whose process died."""
N_LIVE = 2_000
GATED = {"promoted", "registered", "not_better", "refused"}


class World:
    """Airflow's API, the workspace, and what people and upstream systems do to them."""

    def __init__(self, stack: LocalStack) -> None:
        self.workspace = stack.workspace
        self.client = stack.client()
        login = {"username": USER, "password": stack.password}
        token = httpx.post(f"{stack.airflow_url}/auth/token", json=login).json()["access_token"]
        self._http = httpx.Client(
            base_url=f"{stack.airflow_url}/api/v2",
            headers={"Authorization": f"Bearer {token}"},
            timeout=120,
        )
        self.seen: set[str] = set()
        self.first = ""
        """The scheduled run of the month before, whose flights never landed."""
        self.mlflow_url = stack.mlflow_url

    def forget(self) -> None:
        """Empty the ledger."""
        shutil.rmtree(self.workspace / "retraining", ignore_errors=True)

    def told_events(self) -> list[str]:
        """Return the names of the events that the ledger knows."""
        return [file.name for file in (self.workspace / "retraining").glob("*/events/*.json")]

    @property
    def ledger(self) -> Ledger:
        return Ledger(str(self.workspace), MODEL)

    def started(self, dag_id: str = TRAINING) -> str:
        """Wait for a run that no test has seen yet."""
        new = until(lambda: [run for run in self.client.runs(dag_id) if run not in self.seen])
        self.seen.add(new[0])
        return str(new[0])

    def ended(self, run: str, dag_id: str = TRAINING) -> tuple[RetrainingDecision, Any]:
        """Wait until a training run has ended well; return its decision and its outcome."""
        ended = until(lambda: self.finished(dag_id, run), 60 * MINUTES)
        states = self.client.task_states(dag_id, run)
        failed = [task for task, state in states.items() if state == "failed"]
        tails = {task: self.client.log_tail(dag_id, run, task) for task in failed}
        assert ended == "success", tails
        decision = RetrainingDecision.from_xcom(self.client.xcom(dag_id, run, "decide"))
        told = self.client.xcom(dag_id, run, "record")
        return decision, RetrainingOutcome.from_xcom(told) if told else None

    def finished(self, dag_id: str, run: str) -> str | None:
        """Return the state of a run that has ended."""
        state = self.client.runs(dag_id)[run]
        return state if state in FINISHED else None

    def emit(self, uri: str, extra: dict[str, Any]) -> None:
        (asset,) = self.call("GET", "/assets", params={"uri_pattern": uri})["assets"]
        self.call("POST", "/assets/events", json={"asset_id": asset["id"], "extra": extra})

    def remembered(self, name: str) -> dict[str, Any]:
        """Return what a watcher keeps with an asset."""
        (asset,) = self.call("GET", "/assets", params={"name_pattern": name})["assets"]
        kept = self.call("GET", f"/assets/{asset['id']}/state-store")["asset_state_store"]
        return {each["key"]: each["value"] for each in kept}

    def run_tags(self, run: str) -> dict[str, str]:
        """Return the tags of the MLflow run of a DAG run."""
        query = f"tags.`airflow.run_id` = '{run}' and tags.`mlops.kind` = 'pipeline'"
        names = httpx.get(
            f"{self.mlflow_url}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": TRAINING},
        ).json()
        body = {"experiment_ids": [names["experiment"]["experiment_id"]], "filter": query}
        answer = httpx.post(f"{self.mlflow_url}/api/2.0/mlflow/runs/search", json=body).json()
        (found,) = answer["runs"]
        return {tag["key"]: tag["value"] for tag in found["data"]["tags"]}

    def serve(self, name: str, *, quality: float, shift: float) -> None:
        """Leave a log of live predictions of the champion, and nothing of what was before."""
        folder = self.workspace / "serving" / "logs" / ENDPOINT
        shutil.rmtree(folder, ignore_errors=True)
        write_segment(folder, name, live_records(self, quality=quality, shift=shift))

    def page(self, path: str) -> str:
        """Return a page of the provider as a logged-in user sees it."""
        answer = self._http.get(httpx.URL(self._http.base_url).copy_with(raw_path=path.encode()))
        assert answer.is_success, answer.text
        return answer.text

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        answer = self._http.request(method, path, **options)
        assert answer.is_success, answer.text
        return dict(answer.json())


def until(true: Callable[[], Any], seconds: float = 600) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := answered(true)):
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(1)
    return found


def answered(ask: Callable[[], Any]) -> Any:
    """Ask Airflow, which on a busy machine does not always answer in time."""
    try:
        return ask()
    except (StackUnavailableError, httpx.TransportError):
        return None


def live_records(world: World, *, quality: float, shift: float) -> list[dict[str, Any]]:
    """Predictions of the first model's version; ``quality`` is how much they owe to the truth."""
    registered = {
        run: version
        for run in world.client.runs(TRAINING)
        if (version := world.client.xcom(TRAINING, run, "register"))
    }
    run, version = next(iter(registered.items()))
    rows = list(rows_of(world.client.xcom(TRAINING, run, "join_features")["uri"]))[:N_LIVE]
    truth = flights_of("2013-01").set_index("flight_id")[TARGET].astype(float)
    rng = np.random.default_rng(0)
    records = []
    for number, (entity, features) in enumerate(rows):
        late = truth.get(entity, 0.5)
        score = quality * np.nan_to_num(late, nan=0.5) + (1 - quality) * rng.uniform()
        moved = {name: features[name] for name in FEATURES}
        if shift:
            moved |= {
                name: value + shift * 100
                for name, value in moved.items()
                if isinstance(value, int | float) and not isinstance(value, bool)
            }
        records.append(
            record(
                number,
                endpoint=ENDPOINT,
                model_uri=version["model_uri"],
                entity_id=entity,
                inputs=moved,
                outputs=float(score),
            )
        )
    return records


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[World]:
    with LocalStack(tmp_path_factory.mktemp("retraining"), DAGS) as stack:
        land_month(str(stack.workspace), "2013-01")
        found = World(stack)
        found.client.wait_for_dag(TRAINING)
        found.first = found.started()  # unpausing a DAG makes the run that is due
        until(lambda: found.finished(TRAINING, found.first))
        yield found


@pytest.fixture
def anew(world):
    """The world with an empty ledger, so that nothing cools down."""
    world.forget()


def test_on_demand_a_person_fills_in_the_form(world, anew):
    run = world.client.trigger(TRAINING, {"month": "2013-01"})
    world.seen.add(run)
    decision, outcome = world.ended(run)
    assert (decision.event.kind, decision.event.by) == ("demand", USER)
    assert decision.event.evidence == {"params": {"month": "2013-01"}}
    assert outcome.outcome == "promoted"
    tags = world.run_tags(run)
    assert tags["mlops.retraining.event"] == "demand"
    assert "2013-01" in tags["mlflow.note.content"]
    assert "2013-01" in world.client.log_tail(TRAINING, run, "decide", lines=60)
    assert "2013-01" in world.page(world.client.xcom(TRAINING, run, "decide", "retraining_url"))


def test_new_data_lands_in_the_folder(world, anew):
    until(lambda: world.remembered("new_flights"))
    land_month(str(world.workspace), "2013-02")
    run = world.started()
    decision, outcome = world.ended(run)
    assert decision.event.kind == "new_data"
    (file,) = decision.event.evidence["files"]
    assert file.endswith("landing/flights/2013-02.parquet")
    assert outcome.outcome in GATED
    assert world.client.xcom(TRAINING, run, "gate")["reasons"]


def test_a_schedule_without_data_ends_well_as_nothing(world):
    decision, outcome = world.ended(world.first)
    assert (decision.event.kind, decision.decision) == ("schedule", "train")
    assert decision.event.evidence["data_interval_end"]
    assert outcome.outcome == "stopped"


def test_the_schedule_is_due(world, anew):
    """A backfill of February, which is over on the first of March."""
    body = {
        "dag_id": TRAINING,
        "from_date": "2013-03-01T00:00:00Z",
        "to_date": "2013-03-02T00:00:00Z",
        "max_active_runs": 1,
    }
    world.call("POST", "/backfills", json=body)
    decision, outcome = world.ended(world.started())
    assert decision.event.kind == "schedule"
    assert decision.event.evidence["data_interval_start"].startswith("2013-02-01")
    assert outcome.outcome in GATED


def monitored(world, signal):
    """Let the real monitoring run on the log, and return the training run that it starts."""
    world.client.wait_for_dag(MONITORING)
    world.client.trigger(MONITORING)
    run = world.started()
    decision, outcome = world.ended(run)
    assert decision.event.kind == signal
    assert f"mlops-{signal}://{ENDPOINT}" in decision.event.source
    assert MONITORING in decision.event.source
    assert decision.event.evidence["reasons"]
    assert outcome.outcome in GATED
    assert world.client.xcom(TRAINING, run, "gate")["reasons"]


def test_the_champion_degraded(world, anew):
    world.serve("worse", quality=0.0, shift=0)
    monitored(world, "performance")


def test_two_more_alerts_at_once_cool_down_and_neither_is_lost(world):
    known = set(world.told_events())
    for reason in ("still worse", "even worse"):
        world.emit(f"mlops-performance://{ENDPOINT}", {"reasons": [reason]})
    run = world.started()
    decision, outcome = world.ended(run)
    assert decision.decision == "skip"
    assert decision.reason.startswith(("debounce", "cool-down"))
    assert outcome is None
    states = world.client.task_states(TRAINING, run)
    assert states["tune_and_train"] == "skipped"
    assert states["decide"] == states["finish_run"] == "success"
    until(lambda: len(set(world.told_events()) - known) == 2)
    for other in set(world.client.runs(TRAINING)) - world.seen:  # Airflow may have made one each
        world.seen.add(other)
        assert world.ended(other)[0].decision == "skip"


def test_the_inputs_drifted(world, anew):
    world.serve("moved", quality=0.9, shift=1)
    monitored(world, "drift")


def test_a_person_judges_an_alert_and_asks_for_a_training(world, anew):
    world.client.wait_for_dag(ALERTS)
    world.emit(f"mlops-alert://{ENDPOINT}", {"reasons": ["Flights from EWR are judged unfairly."]})
    asked = world.started(ALERTS)
    path = f"/dags/{ALERTS}/dagRuns/{asked}/taskInstances/judge/-1/hitlDetails"
    until(lambda: world.client.task_states(ALERTS, asked).get("judge") == "awaiting_input")
    time.sleep(SETTLE_SECONDS)
    assert "judged unfairly" in world.call("GET", path)["body"]
    answer = {"chosen_options": ["Retrain"], "params_input": {"reason": "a new terminal"}}
    world.call("PATCH", path, json=answer)
    decision, outcome = world.ended(world.started())
    assert until(lambda: world.finished(ALERTS, asked)) == "success"
    assert (decision.event.kind, decision.event.by) == ("demand", USER)
    assert decision.event.evidence["reason"] == "a new terminal"
    assert outcome.outcome in GATED
    (kept,) = world.ledger.answers()
    assert (kept.answer, kept.by, kept.reason) == ("Retrain", USER, "a new terminal")


def test_a_retraining_that_is_not_better_ends_well_as_a_non_event(world, anew):
    """March lands with labels that mean nothing, so nothing learned from it can be better."""
    path = world.workspace / "landing" / "flights" / "2013-03.parquet"
    land_month(str(world.workspace / "aside"), "2013-03")
    aside = world.workspace / "aside" / "landing"
    shutil.copy(aside / "weather" / "2013-03.parquet", world.workspace / "landing" / "weather")
    frame = pd.read_parquet(aside / "flights" / "2013-03.parquet")
    shuffled = frame[TARGET].sample(frac=1, random_state=0).to_numpy()
    frame.assign(**{TARGET: shuffled}).to_parquet(path, index=False, coerce_timestamps="us")
    run = world.started()
    decision, outcome = world.ended(run)
    assert (decision.event.kind, decision.decision) == ("new_data", "train")
    assert outcome.outcome in {"not_better", "refused"}
    assert world.client.task_states(TRAINING, run)["register"] == "skipped"
    (kept,) = world.ledger.outcomes()
    assert kept == outcome
    assert datetime.fromisoformat(kept.recorded_at) <= datetime.now(UTC)
