"""What tracking adds to a DAG run of 20 tasks, over HTTP to an MLflow server on this machine.

The work of a task is a record that it hands over; tracked, the task has its MLflow run with
versions, arguments and the record in it. Requests are compared with those of MLflow's own
`start_run` and `log_dict`, which know nothing of retries, nesting or versions.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from benchmarks import Measure, in_turns

TASKS = 20
SECONDS_A_TASK = 0.5
REQUESTS_A_TASK = 15


def run(quick: bool) -> list[Measure]:
    """Compare whole runs with and without tracking."""
    n = 2 if quick else 7
    with _server():
        counts: dict[str, int] = {}
        ours, theirs = in_turns(n, lambda: _seconds(_tracked, counts), lambda: _seconds(_untracked))
        _seconds(_bare_mlflow, counts)
    requests = counts["_tracked"] / TASKS
    bare = counts["_bare_mlflow"] / TASKS
    a_task = f"ours - theirs <= {SECONDS_A_TASK} s"
    a_run = f"ours - theirs <= {SECONDS_A_TASK * TASKS:g} s"
    few = f"ours <= {REQUESTS_A_TASK}"
    holds = (ours - theirs) / TASKS <= SECONDS_A_TASK
    return [
        Measure("tracking: a task", ours / TASKS, theirs / TASKS, "s", a_task, holds, n * TASKS),
        Measure(f"tracking: a run of {TASKS}", ours, theirs, "s", a_run, holds, n),
        Measure(
            "tracking: requests a task", requests, bare, "", few, requests <= REQUESTS_A_TASK, TASKS
        ),
    ]


def _record() -> Any:
    from airflow_mlops_provider.records import Metric

    return Metric(value=0.5, low=0.4, high=0.6, n=100)


def _tracked() -> None:
    """Go through a DAG run as its operators do."""
    from airflow_mlops_provider.operators import (
        FinishPipelineRunOperator,
        StartPipelineRunOperator,
    )
    from airflow_mlops_provider.operators.base import MlopsOperator

    run_id = datetime.now(UTC).isoformat()
    given = {"experiment_name": "tracking"}
    StartPipelineRunOperator(task_id="start", **given).execute(_context(run_id, "start"))
    for number in range(TASKS):
        context = _context(run_id, f"task_{number}")
        operator = MlopsOperator(task_id=f"task_{number}", **given)
        with operator.tracked_run(context) as opened:
            opened.log_record(_record())
    FinishPipelineRunOperator(task_id="finish", **given).execute(_context(run_id, "finish"))


def _untracked() -> None:
    for _ in range(TASKS):
        _record().to_xcom()


def _bare_mlflow() -> None:
    import mlflow

    mlflow.set_experiment("bare")
    for _ in range(TASKS):
        with mlflow.start_run():
            mlflow.log_dict(_record().to_xcom(), "record.json")


def _context(run_id: str, task_id: str) -> Any:
    ti = SimpleNamespace(
        dag_id="tracking",
        run_id=run_id,
        task_id=task_id,
        map_index=-1,
        try_number=1,
        dag_version_id="none",
        log_url=f"http://airflow/dags/tracking/runs/{run_id}/tasks/{task_id}",
        xcom_push=lambda key, value: None,
        get_task_states=lambda **which: {},
    )
    return {"ti": ti, "dag": SimpleNamespace(fileloc=__file__)}


def _seconds(work: Callable[[], None], counts: dict[str, int] | None = None) -> float:
    """Return how long ``work`` takes, and add to ``counts`` how many requests it sends."""
    import requests

    send, sent = requests.Session.send, []

    def counted(session: Any, request: Any, **kwargs: Any) -> Any:
        sent.append(request.url)
        return send(session, request, **kwargs)

    with patch.object(requests.Session, "send", counted):
        start = time.perf_counter()
        work()
        took = time.perf_counter() - start
    if counts is not None:
        counts[work.__name__] = len(sent)
    return took


@contextmanager
def _server() -> Iterator[None]:
    """Run MLflow, and let the operators use it."""
    from airflow_mlops_provider.stack.local import mlflow_server
    from airflow_mlops_provider.stack.service import free_ports, stop_all, wait_until_healthy

    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as folder:
        url = f"http://127.0.0.1:{free_ports(1)[0]}"
        service = mlflow_server(Path(folder), url, Path(folder) / "mlflow.log")
        connection = json.dumps({"conn_type": "mlflow", "host": url})
        service.start()
        try:
            wait_until_healthy([service], 300, lambda line: None)
            with patch.dict(os.environ, {"AIRFLOW_CONN_MLFLOW_DEFAULT": connection}):
                yield
        finally:
            stop_all([service])
