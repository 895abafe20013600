"""Monitoring in MLflow: the task's run, and one run for each endpoint whose metrics are a chart.

MLflow draws a metric over its steps within one run. So besides the run of each task attempt, an
endpoint has one long-lived run in the same experiment, in which a step is the end of a window in
seconds since 1970, and the time of a metric that same end: windows are drawn where they belong,
whenever they were reported on, and the same window twice is one point.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mlflow.entities import Metric

from airflow_mlops_provider.steps.find_runs import find_runs
from airflow_mlops_provider.steps.metadata import KIND
from airflow_mlops_provider.steps.monitor.figures import figures_of_report

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.monitor.check import MonitorCheck
    from airflow_mlops_provider.steps.track import TaskRun

PAGE = "monitoring.html"
MONITORING, ENDPOINT = "monitoring", "mlops.endpoint"
_ALLOWED = re.compile(r"[^\w./ -]")


def log_check(run: TaskRun, check: MonitorCheck) -> None:
    """Keep record, page and figures in the run of the task, and the figures in the endpoint's."""
    report = check.report
    figures = {_metric_name(key): value for key, value in figures_of_report(report).items()}
    run.log_record(report)
    run.log_page(check.page, PAGE)
    series = _series(run, report.endpoint)
    step, moment = int(check.end.timestamp()), int(check.end.timestamp() * 1000)
    metrics = [Metric(name, value, moment, step) for name, value in figures.items()]
    for run_id in (run.run_id, series):
        run.client.log_batch(run_id, metrics=metrics)


def _series(run: TaskRun, endpoint: str) -> str:
    """Return the id of the endpoint's run, made at the first report; the first made counts."""
    tags = {KIND: MONITORING, ENDPOINT: endpoint}
    found = find_runs(run.client, run.experiment_id, tags)
    if not found:
        name = f"monitoring {endpoint}"
        made = run.client.create_run(run.experiment_id, tags=tags, run_name=name)
        run.client.set_terminated(made.info.run_id)  # metrics may still be added
        found = find_runs(run.client, run.experiment_id, tags)
    oldest = min(found, key=lambda each: (each.info.start_time, each.info.run_id))
    return str(oldest.info.run_id)


def _metric_name(name: str) -> str:
    return _ALLOWED.sub("_", name)
