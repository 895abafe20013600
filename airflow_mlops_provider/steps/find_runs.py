"""Find MLflow runs by their tags, and what is nested in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from typing import TYPE_CHECKING

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.metadata import KIND, PIPELINE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ELECTED = "mlops.elected"
_PAGE = 1000


def find_runs(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> list[Run]:
    """Return all runs of ``experiment`` that carry all ``tags``, the newest first."""
    return list(_search(client, experiment, _query(tags)))


def pipeline_runs(client: MlflowClient, experiment: str, tags: Mapping[str, str]) -> list[Run]:
    """Return the run of a pipeline run; behind it what rivals created at the same moment."""
    runs = find_runs(client, experiment, {**tags, KIND: PIPELINE})
    return sorted(runs, key=lambda run: (ELECTED not in run.data.tags, run.info.run_id))


def open_runs_below(client: MlflowClient, experiment: str, roots: Set[str]) -> list[str]:
    """Return the ids of open runs that are nested in ``roots``, however deep."""
    found = list(_search(client, experiment, "attributes.status = 'RUNNING'"))
    parents = {run.info.run_id: run.data.tags.get(MLFLOW_PARENT_RUN_ID) for run in found}

    def parent_of(run_id: str) -> str | None:
        if run_id not in parents:
            run = client.get_run(run_id)
            parents[run_id] = run.data.tags.get(MLFLOW_PARENT_RUN_ID)
        return parents[run_id]

    def below(run_id: str) -> bool:
        parent = parent_of(run_id)
        return parent is not None and (parent in roots or below(parent))

    return [str(run.info.run_id) for run in found if below(run.info.run_id)]


def _search(client: MlflowClient, experiment: str, query: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs([experiment], query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _query(tags: Mapping[str, str]) -> str:
    return " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())


def quoted(value: str) -> str:
    """Return ``value`` as a string of MLflow's search language, which knows no escapes."""
    for quote in ("'", '"'):
        if quote not in value:
            return f"{quote}{value}{quote}"
    raise ParameterError.of("value", "an MLflow search", "without one kind of quotes", value)
