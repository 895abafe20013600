"""``python -m flights.demo``: levels 0, 1 and 2 on real flights, from nothing, on this machine.

Everything it keeps lies in ``.demo``; each run begins anew. What runs is the table ``PHASES``.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlops_provider.exceptions import MlopsError, StackUnavailableError
from airflow_mlops_provider.records import DatasetRef, EndpointRef, Record
from airflow_mlops_provider.stack.local import LocalStack
from airflow_mlops_provider.stack.standalone import end_with_parent, ending_on_signals, pages, say
from flights.columns import ENTITY, FEATURES
from flights.landing import land_month
from flights.report import lines_of, record_of
from flights.traffic import Answers, Traffic, rows_of

if TYPE_CHECKING:
    from airflow_mlops_provider.stack.client import AirflowClient

DAGS = Path(__file__).resolve().parents[1]
HOME = DAGS.parent / ".demo"
MONTHS = ["2013-01", "2013-02", "2013-03", "2013-04"]
_ASSET_SECONDS = 60.0


@dataclass(frozen=True)
class Phase:
    """One DAG run of the demo."""

    title: str
    dag_id: str
    params: dict[str, Any] = field(default_factory=dict)
    traffic: bool = False
    """Whether flights are asked about at the endpoint while it runs."""
    by_asset: bool = False
    """Whether an asset that the phase before updates starts it, and not the demo."""
    minutes: float = 10
    ends: str = "success"
    """The state that the run has to end in."""


PHASES = [
    Phase("Level 0: each step by hand", "level0_manual_process", {"month": "2013-01"}),
    Phase("Level 1: February arrives", "level1_continuous_training", {"month": "2013-02"}),
    Phase("Level 1: March arrives", "level1_continuous_training", {"month": "2013-03"}),
    Phase("Level 2: delivery under live traffic", "level2_model_delivery", {}, True, True),
    Phase("Level 2: somebody registers a faulty challenger", "level2_rollback_drill"),
    Phase(
        "Level 2: its delivery is rolled back",
        "level2_model_delivery",
        traffic=True,
        by_asset=True,
        ends="failed",
    ),
    Phase("Level 1: April comes to the gate", "level1_data_gate", {"month": "2013-04"}),
    Phase("Level 1: monitoring", "level1_monitoring"),
]


@dataclass
class Outcome:
    """How a phase went."""

    phase: Phase
    state: str
    seconds: float = 0
    results: dict[str, Any] = field(default_factory=dict)
    """What its tasks returned, by task."""
    states: set[str] = field(default_factory=set)
    """Every state that any of its tasks was seen in."""
    run_id: str = ""
    answers: Answers | None = None

    @property
    def ok(self) -> bool:
        """Whether the run ended as it should and no live request failed."""
        served = self.answers is None or (self.answers.sent > 0 and not self.answers.failed)
        return self.state == self.phase.ends and served


def main() -> int:
    """Run the demo; return 0 if all of it went well."""
    stay = not os.environ.get("DEMO_EXIT")
    if "MAKELEVEL" in os.environ:
        end_with_parent()  # a killed make tells nobody
    try:
        with ending_on_signals():
            return run(PHASES, stay=stay)
    except KeyboardInterrupt:
        say("Interrupted; everything was stopped.")
        return 130
    except MlopsError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def run(phases: list[Phase], *, stay: bool) -> int:
    """Start the stack, run ``phases`` until one fails, report, and perhaps stay."""
    start = time.monotonic()
    with LocalStack(HOME, DAGS, say, fresh=True) as stack:
        for month in MONTHS:
            land_month(str(stack.workspace), month)
            say(f"Landed {month}")
        set_up = time.monotonic() - start
        outcomes = list(run_phases(stack.client(), phases))
        ok = len(outcomes) == len(phases) and all(outcome.ok for outcome in outcomes)
        say("\n".join(report(stack, outcomes, set_up)))
        say("All parts went well." if ok else "A part failed; see above.")
        if stay:
            say(pages(stack))
            with live_traffic(records_of(*outcomes)) if ok else nullcontext():
                wait_for_interrupt()
    return 0 if ok else 1


def records_of(*outcomes: Outcome) -> list[Record]:
    """Return the records that the tasks of some phases handed over."""
    found = (record_of(value) for each in outcomes for value in each.results.values())
    return [record for record in found if record is not None]


def run_phases(client: AirflowClient, phases: list[Phase]) -> Iterator[Outcome]:
    """Run one phase after the other, up to the first that fails."""
    records: list[Record] = []
    known: set[str] = set()
    for phase, following in itertools.zip_longest(phases, phases[1:]):
        say(f"\n--- {phase.title} ({phase.dag_id})")
        if following is not None and following.by_asset:
            client.wait_for_dag(following.dag_id)  # a paused DAG would miss the event
        outcome = run_phase(client, phase, records, known)
        yield outcome
        known.add(outcome.run_id)
        records += records_of(outcome)
        if not outcome.ok:
            return


def run_phase(
    client: AirflowClient, phase: Phase, records: list[Record], known: Collection[str]
) -> Outcome:
    """Run one DAG, with live traffic if the phase asks for it, and say what happens."""
    start = time.monotonic()
    outcome = Outcome(phase, "did not finish")

    def show(task: str, state: str) -> None:
        outcome.states.add(state)
        if state != "none":
            say(f"{time.monotonic() - start:6.1f} s  {task:40} {state}")

    try:
        with live_traffic(records) if phase.traffic else nullcontext() as traffic:
            outcome.run_id = run_id = start_run(client, phase, known)
            outcome.state = client.wait(phase.dag_id, run_id, 60 * phase.minutes, show)
        show_failures(client, phase.dag_id, run_id)
        outcome.results = client.results(phase.dag_id, run_id)
        outcome.answers = traffic.answers if traffic else None
    except StackUnavailableError as error:
        say(str(error))
    outcome.seconds = time.monotonic() - start
    return outcome


def start_run(client: AirflowClient, phase: Phase, known: Collection[str]) -> str:
    """Start the run of a phase, or find the one, not yet known, that an asset started."""
    client.wait_for_dag(phase.dag_id)
    if not phase.by_asset:
        return client.trigger(phase.dag_id, phase.params)
    deadline = time.monotonic() + _ASSET_SECONDS
    while not (runs := [run for run in client.runs(phase.dag_id) if run not in known]):
        if time.monotonic() > deadline:
            raise StackUnavailableError(
                f"No asset event started {phase.dag_id} within {_ASSET_SECONDS:.0f} s. Did the "
                "phase before register anything?"
            )
        time.sleep(1)
    return runs[0]


def show_failures(client: AirflowClient, dag_id: str, run_id: str) -> None:
    """Show the end of the log of each failed task."""
    for task, state in client.task_states(dag_id, run_id).items():
        if state == "failed":
            task_id = task.partition("[")[0]
            say(f"The log of {task} ends:\n{client.log_tail(dag_id, run_id, task_id)}")


@contextmanager
def live_traffic(records: list[Record]) -> Iterator[Traffic]:
    """Ask about the flights of the newest complete dataset at the newest endpoint.

    Raises:
        StackUnavailableError: no earlier phase made an endpoint or such a dataset.
    """
    endpoints = [record.url for record in records if isinstance(record, EndpointRef)]
    datasets = [
        record.uri
        for record in records
        if isinstance(record, DatasetRef) and {ENTITY, *FEATURES} <= set(record.columns)
    ]
    if not endpoints or not datasets:
        raise StackUnavailableError(
            "There is nothing to ask or nobody to answer: the phases before returned "
            f"{len(endpoints)} endpoints and {len(datasets)} datasets with all features."
        )
    with Traffic(endpoints[-1], rows_of(datasets[-1])) as traffic:
        say(f"Flights of {datasets[-1]} are asked about at {endpoints[-1]}")
        yield traffic


def report(stack: LocalStack, outcomes: list[Outcome], set_up: float) -> Iterator[str]:
    """Tell what happened: each phase's records, the registry, the traffic, the time."""
    yield "\n=== What happened"
    for outcome in outcomes:
        yield f"\n{outcome.phase.title}: {outcome.state}"
        for task, value in outcome.results.items():
            for line in lines_of(value):
                yield f"  {task:30} {line}"
        if outcome.answers is not None:
            yield from traffic_lines(outcome.answers)
    yield "\nModel registry"
    yield from registry_lines(stack.mlflow_url)
    yield "\nTime"
    yield f"  {set_up:6.0f} s  set-up: services and landed months"
    for outcome in outcomes:
        yield f"  {outcome.seconds:6.0f} s  {outcome.phase.title}"


def traffic_lines(answers: Answers) -> Iterator[str]:
    """Tell who answered how many requests, and how many failed."""
    yield f"  {answers.sent:,} live requests, {answers.failed} failed"
    for deployment, count in answers.by_deployment.most_common():
        yield f"    {deployment:28} {count:,}"
    yield from (f"    {failure}" for failure in answers.failures)


def registry_lines(mlflow_url: str) -> Iterator[str]:
    """Tell which models the registry has and which versions their aliases name."""
    try:
        answer = httpx.get(f"{mlflow_url}/api/2.0/mlflow/registered-models/search", timeout=30)
        models = answer.raise_for_status().json().get("registered_models", [])
    except httpx.HTTPError as error:
        yield f"  MLflow did not answer: {error}"
        return
    for model in models:
        aliases = sorted((each["alias"], each["version"]) for each in model.get("aliases", []))
        yield f"  {model['name']}: " + ", ".join(f"{alias} = v{of}" for alias, of in aliases)
    if not models:
        yield "  (empty)"


def wait_for_interrupt() -> None:
    """Sleep until Ctrl-C or SIGTERM, which end a stay that went well."""
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        say("Stopping")


if __name__ == "__main__":
    sys.exit(main())
