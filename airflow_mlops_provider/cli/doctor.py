"""``airflow-mlops doctor``: which MLOps maturity level a project has reached."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.cli.options import add_tracking_options, tracking_uri
from airflow_mlops_provider.exceptions import MlopsError, ParameterError

if TYPE_CHECKING:
    from rich.table import Table

    from airflow_mlops_provider.records.maturity import (
        CriterionResult,
        MaturityReport,
        SchemeResult,
    )
    from airflow_mlops_provider.steps.doctor.facts import ServiceFacts

_COLOURS = {"met": "green", "missing": "red", "unknown": "yellow"}


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "doctor",
        help="say which maturity level a project has reached",
        epilog="Nothing is written. Without --workspace or --tracking-uri no service is asked.",
    )
    parser.add_argument(
        "dags",
        metavar="DAGS_FOLDER",
        nargs="?",
        type=Path,
        default=Path("dags"),
        help="by default dags",
    )
    parser.add_argument(
        "--project",
        type=Path,
        help="folder with tests and CI; by default the one DAGS_FOLDER is in",
    )
    add_tracking_options(parser)
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Look at a project and its services, and print what they show."""
    report = examine(options)
    if options.json:
        print(json.dumps(report.to_xcom(), indent=1))
        return 0
    from rich.console import Console

    console = Console(highlight=False)
    for line in _heading(report):
        console.print(line, soft_wrap=True, markup=False)
    for scheme in report.schemes:
        console.print()
        console.print(_level(scheme), style="bold", markup=False)
        console.print(_table(scheme.criteria))
        for line in _next(scheme):
            console.print(line, soft_wrap=True, markup=False)
    return 0


def examine(options: argparse.Namespace) -> MaturityReport:
    """Gather the facts of a project, and judge them.

    Raises:
        ParameterError: the DAGs folder or the project folder is none.
        StackUnavailableError: a DAG file ended the process that parsed it.
    """
    from airflow_mlops_provider.cli.dag_facts import read_dags
    from airflow_mlops_provider.steps.doctor.files import project_folder, read_files
    from airflow_mlops_provider.steps.doctor.judge import judge

    dags = _folder(options.dags, "DAGS_FOLDER")
    project = _folder(options.project or project_folder(dags), "--project")
    workspace = _absolute(options.workspace)
    facts = replace(
        read_dags(dags, workspace), files=read_files(project), services=_services(options)
    )
    return judge(facts, str(project))


def _services(options: argparse.Namespace) -> dict[str, ServiceFacts]:
    from airflow_mlops_provider.steps.doctor import services

    try:
        uri = tracking_uri(options)
    except ParameterError:
        uri = None
    workspace = _absolute(options.workspace)
    return {
        "mlflow": services.ask_mlflow(uri),
        "serving": _ask_serving(workspace),
        "workspace": services.look_into_workspace(workspace),
        "features": services.look_for_features(workspace),
    }


def _ask_serving(workspace: str | None) -> ServiceFacts:
    """Return the ``endpoints`` of the serving host of a workspace that take traffic."""
    from airflow_mlops_provider.steps.doctor.facts import ServiceFacts
    from airflow_mlops_provider.steps.doctor.services import unknown

    if workspace is None:
        return unknown("was not asked: give --workspace")
    try:
        from airflow_mlops_provider.serving.client import ServingClient

        with ServingClient.from_workspace(workspace) as client:
            endpoints = [each for each in client.list_endpoints() if each.traffic]
    except (MlopsError, ImportError, OSError) as error:
        return unknown(str(error).split(". ")[0])
    told = [f"{each.endpoint} routes to {', '.join(each.traffic)}" for each in endpoints]
    return ServiceFacts(state="answered", found={"endpoints": told})


def _folder(path: Path, name: str) -> Path:
    if path.is_dir():
        return path
    raise ParameterError.of(name, "airflow-mlops doctor", "a folder", str(path))


def _absolute(workspace: str | None) -> str | None:
    return workspace if workspace is None or "://" in workspace else os.path.abspath(workspace)


def _heading(report: MaturityReport) -> Iterator[str]:
    dags = "1 DAG" if report.n_dags == 1 else f"{report.n_dags} DAGs"
    yield f"{report.project}: {dags}"
    for file, error in report.import_errors.items():
        yield f"  does not import: {file}: {error}"
    for name, state in report.services.items():
        yield f"  {name}: {state}"


def _level(scheme: SchemeResult) -> str:
    title = scheme.titles[scheme.level]
    told = f"{scheme.name}: level {scheme.level} of {scheme.highest_level}, {title}"
    if scheme.possible_level > scheme.level:
        told += f" (level {scheme.possible_level} if all that is unknown holds)"
    return told


def _table(criteria: list[CriterionResult]) -> Table:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("Level", "Criterion", "Status", "Evidence, or what is missing"):
        table.add_column(name, overflow="fold")
    for each in criteria:
        advice = "" if each.required else " (advice)"
        table.add_row(
            str(each.level),
            f"{each.name}{advice}",
            f"[{_COLOURS[each.status]}]{each.status}[/]",
            escape(_shown(each)),
        )
    return table


def _shown(result: CriterionResult) -> str:
    """Return the first evidence of what is met, or what is missing; all of it is in the JSON."""
    if result.status != "met":
        return result.reason or ""
    return result.evidence[0] + (", …" if len(result.evidence) > 1 else "")


def _next(scheme: SchemeResult) -> Iterator[str]:
    """Tell what bars the next level, and the one after all that is only unknown."""
    from airflow_mlops_provider.steps.doctor.judge import lacking

    for level in sorted({scheme.level + 1, scheme.possible_level + 1}):
        if level > scheme.highest_level:
            break
        yield f"For level {level}, {scheme.titles[level]}, by {scheme.url}:"
        for each in lacking(scheme, level):
            yield f"  {each.name} ({each.status}): {each.asks} [{each.source}]"
            yield f"    {each.remedy if each.status == 'missing' else each.reason}"
