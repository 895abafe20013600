"""``airflow-mlops reproduce``: train a recorded model again, and say what differs."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.cli.options import add_tracking_options, tracking_uri
from airflow_mlops_provider.exceptions import MlopsError
from airflow_mlops_provider.workspace import exists, join

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import Difference, ReproductionReport

_EXIT = {"identical": 0, "differs": 1, "cannot": 2}
_SQLITE = "sqlite:///"
_LONGEST = 12


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "reproduce",
        help="train a recorded model again and compare",
        epilog="Exit code: 0 identical, 1 differs, 2 cannot be reproduced.",
    )
    parser.add_argument("subject", metavar="RUN", help="MLflow run id, or models:/name/version")
    add_tracking_options(parser)
    parser.add_argument("--dataset-uri", help="where the training dataset lies by now")
    parser.add_argument("--dags-folder", help="folder from which the estimator is imported")
    parser.add_argument("--experiment", default="reproductions", help="of the new runs")
    parser.add_argument("--no-log", action="store_true", help="keep nothing of the new runs")
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Reproduce, print what was found, and return the exit code."""
    try:
        report = _reproduce(options)
    except MlopsError as error:
        print(f"airflow-mlops: {error}", file=sys.stderr)
        return _EXIT["cannot"]
    print(json.dumps(report.to_xcom(), indent=1) if options.json else as_text(report))
    return _EXIT[report.outcome]


def _reproduce(options: argparse.Namespace) -> ReproductionReport:
    import mlflow

    from airflow_mlops_provider.steps.reproduce import Room, reproduce_run
    from airflow_mlops_provider.steps.reproduce_recorded import Store

    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    if options.dags_folder:
        sys.path.insert(0, os.path.abspath(options.dags_folder))
    uri = _tracking_uri(options)
    client = mlflow.MlflowClient(uri, uri)
    with _destination(client, options) as (into, experiment):
        room = Room(into, experiment, options.dataset_uri, options.workspace)
        report = reproduce_run(Store(client, options.workspace), options.subject, room)
    return replace(report, reproduced_run_id=None) if options.no_log else report


def _tracking_uri(options: argparse.Namespace) -> str:
    """Return MLflow's URI; a workspace names its embedded store only if it has one."""
    copy = options.workspace
    if copy and not exists(join(copy, "mlflow", "mlflow.db")):
        options = argparse.Namespace(tracking_uri=options.tracking_uri, workspace=None)
    return tracking_uri(options)


@contextmanager
def _destination(
    client: MlflowClient, options: argparse.Namespace
) -> Iterator[tuple[MlflowClient, str]]:
    """Give the client and the experiment of the new runs."""
    from mlflow import MlflowClient

    from airflow_mlops_provider.steps.track import experiment_id

    with tempfile.TemporaryDirectory(prefix="mlops-again-") as folder:
        into = client
        if options.no_log:
            uri = f"{_SQLITE}{folder}/mlflow.db"
            into = MlflowClient(uri, uri)
        yield into, experiment_id(into, options.experiment, _artifact_root(into.tracking_uri))


def _artifact_root(uri: str) -> str | None:
    """Return where an embedded store keeps artifacts: beside its database."""
    if not uri.startswith(_SQLITE):
        return None
    return f"{os.path.dirname(uri.removeprefix(_SQLITE))}/artifacts"


def as_text(report: ReproductionReport) -> str:
    """Return a report as lines to read."""
    said = {
        "identical": "is reproduced: nothing that matters differs",
        "differs": "differs when it is trained again",
        "cannot": "cannot be reproduced",
    }
    lines = [f"{report.model_uri} of run {report.run_id} {said[report.outcome]}"]
    if report.reason:
        lines.append(f"  {report.reason}")
    lines += [f"  {_line(each)}" for each in report.differences if each.matters]
    if report.deterministic is False:
        lines.append(
            "  nondeterminism: two trainings here differ from each other too; give a seed, or one "
            "thread"
        )
    if report.deterministic:
        lines.append("  two trainings here give the same model: an input differs, not chance")
    if report.predictions:
        equal = report.predictions.n - report.predictions.differing
        lines.append(f"  {equal} of {report.predictions.n} predictions are the same")
    if report.checked:
        lines.append(f"  compared: {', '.join(report.checked)}")
    lines += [f"  {name.removeprefix('mlops.')}: {value}" for name, value in report.code.items()]
    others = [each for each in report.differences if not each.matters]
    if others:
        lines.append("  also different, not part of the model:")
        lines += [f"    {_line(each)}" for each in others]
    if report.not_compared:
        lines.append(f"  not compared: {', '.join(report.not_compared)}")
    if report.reproduced_run_id:
        lines.append(f"  the new run: {report.reproduced_run_id}")
    return "\n".join(lines)


def _line(each: Difference) -> str:
    if each.kind == "predictions":
        return f"predictions: {each.found}"
    return f"{each.kind}: {each.name} {_short(each.recorded)} -> {_short(each.found)}"


def _short(value: str) -> str:
    """Cut hashes to what tells them apart."""
    is_hash = len(value) == 64 and " " not in value
    return value[:_LONGEST] if is_hash else value
