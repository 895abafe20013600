"""``airflow-mlops runs``: what MLflow knows of DAG runs and their tasks."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.cli.options import add_tracking_options, tracking_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from rich.table import Table

    from airflow_mlops_provider.records import (
        PipelineRunReport,
        PipelineRunSummary,
        TaskRunReport,
    )

_COLOURS = {"FINISHED": "green", "FAILED": "red", "KILLED": "magenta", "RUNNING": "cyan"}
_TELLING = ("name", "version", "outcome", "verdict", "state", "endpoint", "model_uri", "n_rows")
"""Fields of records that say most in a table; the others are in the JSON."""
_HASH_DIGITS, _METRICS = 12, 4


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("runs", help="show DAG runs as MLflow recorded them")
    actions = parser.add_subparsers(title="actions", required=True, metavar="ACTION")
    shown = actions.add_parser("show", help="show one DAG run with all its tasks")
    shown.add_argument(
        "name", metavar="RUN", help="MLflow run id of the DAG run or a task, or dag_id/run_id"
    )
    listed = actions.add_parser("list", help="list the newest DAG runs")
    listed.add_argument("--dag", metavar="ID", help="only runs of this DAG")
    listed.add_argument("--limit", type=int, default=20, help="at most so many")
    for action, run in ((shown, _show), (listed, _list)):
        action.add_argument("--json", action="store_true", help="print JSON")
        add_tracking_options(action)
        action.set_defaults(run=run)


def _show(options: argparse.Namespace) -> int:
    from airflow_mlops_provider.steps.runs import read_pipeline_run

    report = read_pipeline_run(_client(options), options.name)
    if options.json:
        print(json.dumps(report.to_xcom(), indent=2))
        return 0
    from rich.console import Console

    console = Console(highlight=False)
    for line in _heading(report):
        console.print(line, soft_wrap=True, markup=False)
    console.print(_task_table(report.tasks))
    return 0


def _list(options: argparse.Namespace) -> int:
    from airflow_mlops_provider.steps.runs import list_pipeline_runs

    found = list_pipeline_runs(_client(options), dag_id=options.dag, limit=options.limit)
    if options.json:
        print(json.dumps([each.to_xcom() for each in found], indent=2))
        return 0
    from rich.console import Console

    Console(highlight=False).print(_run_table(found) if found else "No runs yet.")
    return 0


def _client(options: argparse.Namespace) -> MlflowClient:
    from mlflow import MlflowClient

    from airflow_mlops_provider.steps.health import require_mlflow

    uri = tracking_uri(options)
    require_mlflow(uri)
    return MlflowClient(uri, uri)


def _heading(report: PipelineRunReport) -> Iterator[str]:
    yield f"{report.dag_id} · {report.run_id}"
    yield f"  status    {report.status or 'not tracked'}{_took(report)}"
    yield f"  trigger   {_told(report.trigger) or 'unknown'}"
    versions = {name: value[:_HASH_DIGITS] for name, value in report.versions.items()}
    yield f"  versions  {_told(versions) or 'unknown'}"
    if report.champion:
        metrics = _told(_rounded(report.champion["metrics"]))
        yield f"  champion  {report.champion['model_uri']} {metrics}"
    yield from (f"  page      {url}" for url in (report.airflow_url, report.mlflow_url) if url)


def _took(report: PipelineRunReport) -> str:
    if report.seconds is None:
        return f", since {report.start}" if report.start else ""
    return f" after {report.seconds:.1f} s, from {report.start} to {report.end}"


def _task_table(tasks: list[TaskRunReport]) -> Table:
    table = _table("Task", "Try", "Status", "Seconds", "Reads", "Gives", "Metrics", "Artifacts")
    for task in tasks:
        name = task.task_id if task.map_index < 0 else f"{task.task_id}[{task.map_index}]"
        table.add_row(
            *map(_plain, (name, task.try_number)),
            _coloured(task.status),
            _seconds(task.seconds),
            _plain("\n".join(f"{each.name} ({each.context})" for each in task.inputs)),
            _plain("\n".join(_output(*each) for each in task.outputs.items())),
            _plain(_told(_rounded(dict(list(task.metrics.items())[:_METRICS])), "\n")),
            _plain("\n".join(task.artifacts)),
        )
    return table


def _run_table(runs: list[PipelineRunSummary]) -> Table:
    table = _table("DAG", "Run", "Status", "Seconds", "Type", "Began", "MLflow run")
    for run in runs:
        table.add_row(
            *map(_plain, (run.dag_id, run.run_id)),
            _coloured(run.status),
            _seconds(run.seconds),
            *map(_plain, (run.run_type or "", (run.start or "")[:19], run.mlflow_run_id)),
        )
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, justify="right" if name == "Seconds" else "left", overflow="fold")
    return table


def _plain(value: object) -> str:
    from rich.markup import escape

    return escape(str(value))


def _coloured(status: str) -> str:
    return f"[{_COLOURS.get(status, 'default')}]{status}[/]"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f}"


def _output(kind: str, payload: Any) -> str:
    known = payload if isinstance(payload, dict) else {}
    return f"{kind} {_told({key: known[key] for key in _TELLING if key in known})}".strip()


def _rounded(metrics: Mapping[str, float | None]) -> dict[str, str]:
    return {name: "none" if value is None else f"{value:.4g}" for name, value in metrics.items()}


def _told(facts: Mapping[str, Any], separator: str = ", ") -> str:
    return separator.join(f"{name} {value}" for name, value in facts.items())
