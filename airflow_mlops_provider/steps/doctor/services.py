"""Ask MLflow and look into the workspace; nothing is written there."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fsspec.core import url_to_fs

from airflow_mlops_provider.steps.doctor.facts import ServiceFacts
from airflow_mlops_provider.workspace import exists, join, listing

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_MOST_MODELS = 100


def ask_mlflow(uri: str | None) -> ServiceFacts:
    """Return what MLflow recorded: ``runs`` of DAGs, ``tracked`` runs of any kind, ``aliases``.

    Args:
        uri: Of the tracking server and registry; None if nobody said where they are.
    """
    if uri is None:
        return unknown("was not asked: give --tracking-uri or --workspace")
    if uri.startswith(_SQLITE) and not Path(uri.removeprefix(_SQLITE)).exists():
        return unknown(f"there is no {uri.removeprefix(_SQLITE)}; MLflow may be elsewhere")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    from airflow_mlops_provider.exceptions import MlflowUnavailableError
    from airflow_mlops_provider.steps.health import require_mlflow

    try:
        require_mlflow(uri)
        client = MlflowClient(uri, uri)
        return ServiceFacts(
            state="answered",
            found={
                "runs": _pipeline_runs(client),
                "tracked": _tracked(client),
                "aliases": _aliases(client),
            },
        )
    except (MlflowUnavailableError, MlflowException) as error:
        return unknown(_one_line(error))


def look_into_workspace(workspace: str | None) -> ServiceFacts:
    """Return which endpoints have ``prediction_logs`` and ``monitoring_reports``."""
    if workspace is None:
        return unknown("was not asked: give --workspace")
    try:
        if not _is_there(workspace):
            return unknown(f"there is no {workspace}")
        logs = (("serving", "logs", "*", "*"), ("predictions", "*", "parts", "*"))
        return ServiceFacts(
            state="answered",
            found={
                "prediction_logs": _by_endpoint(workspace, *logs),
                "monitoring_reports": _by_endpoint(
                    workspace, ("reports", "monitoring", "*", "*.json")
                ),
            },
        )
    except (OSError, ValueError, ImportError) as error:
        return unknown(_one_line(error))


def look_for_features(workspace: str | None) -> ServiceFacts:
    """Return the Feast ``registries`` of a workspace, which `feast apply` made.

    A repository may keep its registry elsewhere: that there is none here says nothing.
    """
    if workspace is None:
        return unknown("was not asked: give --workspace")
    try:
        found = listing(join(workspace, "feast", "*", "registry.db"))
    except (OSError, ValueError, ImportError) as error:
        return unknown(_one_line(error))
    if not found:
        return unknown(f"no registry under {join(workspace, 'feast')}; it may be elsewhere")
    projects = [f"project {path.split('/')[-2]} is applied" for path in found]
    return ServiceFacts(state="answered", found={"registries": projects})


def unknown(reason: str) -> ServiceFacts:
    """Return the facts of a service that could not be asked."""
    return ServiceFacts(state="unknown", reason=reason)


def _pipeline_runs(client: MlflowClient) -> list[str]:
    from airflow_mlops_provider.steps.runs import list_pipeline_runs

    newest = list_pipeline_runs(client, limit=1)
    return [f"newest run {run.dag_id} {run.run_id}, {run.status}" for run in newest]


def _tracked(client: MlflowClient) -> list[str]:
    experiments = [each.experiment_id for each in client.search_experiments()]
    newest = client.search_runs(experiments, max_results=1) if experiments else []
    return [f"newest run {run.info.run_name}" for run in newest]


def _aliases(client: MlflowClient) -> list[str]:
    models = client.search_registered_models(max_results=_MOST_MODELS)
    return [
        f"{model.name}@{alias} is version {version}"
        for model in models
        for alias, version in sorted(model.aliases.items())
    ]


def _by_endpoint(workspace: str, *patterns: tuple[str, ...]) -> list[str]:
    found = [path for pattern in patterns for path in listing(join(workspace, *pattern))]
    names = Counter(path.replace("/parts/", "/").split("/")[-2] for path in found)
    return [f"{n} file{'s' * (n > 1)} of {name}" for name, n in sorted(names.items())]


def _is_there(workspace: str) -> bool:
    fs, path = url_to_fs(workspace)
    return exists(workspace) or bool(fs.isdir(path))


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
