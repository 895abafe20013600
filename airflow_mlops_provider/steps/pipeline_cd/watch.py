"""Judge what the Airflow of an environment makes of a version."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from airflow_mlops_provider.exceptions import DataError, ParameterError, PipelineStageError
from airflow_mlops_provider.records import (
    PipelineEnvironment,
    PipelinePromotion,
    PipelineRunCheck,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.pipeline_cd.api import AirflowApi

_LONGEST = 1000
_ENDED = ("success", "failed")


@dataclass(frozen=True)
class Answer:
    """What a look found, or what it still waits for."""

    waits_for: str | None = None
    found: dict[str, Any] | None = None


def ask(
    api: AirflowApi, environment: PipelineEnvironment, question: str, arguments: Mapping[str, Any]
) -> Answer:
    """Look once at ``served`` or ``finished``.

    Raises:
        PipelineStageError: the version fails in this environment.
        DataError: Airflow refuses us, or has not what the environment names.
        ServiceError: Airflow does not answer.
        KeyError: there is no such question.
    """
    looks: dict[str, Callable[..., Answer]] = {"served": served, "finished": finished}
    return looks[question](api, environment, **arguments)


def served(
    api: AirflowApi,
    environment: PipelineEnvironment,
    *,
    commit: str,
    known_errors: Collection[str] | None,
) -> Answer:
    """Look if new runs of the environment's DAG get this commit.

    Args:
        api: The environment's Airflow.
        environment: The environment.
        commit: Full hash.
        known_errors: DAG files that could not be imported before; None to overlook all.

    Raises:
        PipelineStageError: a DAG file can no longer be imported.
    """
    errors = api.import_errors(environment.bundle)
    if known_errors is not None:
        _require_imported(environment, commit, errors, known_errors)
    dag = api.dag(environment.dag_id)
    problem = _problem(environment, commit, dag)
    if problem is None:
        return Answer(found={"bundle": environment.bundle, "bundle_version": commit})
    broken = f"; cannot be imported: {', '.join(sorted(errors))}" if errors else ""
    return Answer(waits_for=f"{environment.name} does not serve {commit[:12]}: {problem}{broken}")


def _require_imported(
    environment: PipelineEnvironment,
    commit: str,
    errors: Mapping[str, str],
    known_errors: Collection[str],
) -> None:
    broken = sorted(set(errors) - set(known_errors))
    if broken:
        raise PipelineStageError(
            f"Commit {commit[:12]} fails in {environment.name}: {', '.join(broken)} cannot be "
            f"imported there: {errors[broken[0]].strip()[-_LONGEST:]}"
        )


def _problem(
    environment: PipelineEnvironment, commit: str, dag: Mapping[str, Any] | None
) -> str | None:
    dag_id = environment.dag_id
    if dag is None:
        return f"it has no DAG {dag_id!r}"
    if dag["bundle_name"] != environment.bundle:
        return f"{dag_id} is of the bundle {dag['bundle_name']!r}, not {environment.bundle!r}"
    if dag["is_stale"]:
        return f"{dag_id} is no longer in its file"
    if dag["bundle_version"] != commit:
        return f"{dag_id} is at {str(dag['bundle_version'])[:12]}"
    return f"the file of {dag_id} has errors" if dag["has_import_errors"] else None


def start_check(
    api: AirflowApi, environment: PipelineEnvironment, promotion: PipelinePromotion
) -> str:
    """Start the first run of a promotion, unless it is there, and return its id.

    Raises:
        DataError: the DAG is paused or missing, or Airflow refuses the conf.
        ServiceError: Airflow does not answer.
    """
    dag = api.dag(environment.dag_id)
    if dag and dag["is_paused"]:
        raise DataError(
            f"The DAG {environment.dag_id!r} of {environment.name} is paused: its run would not "
            "start. Unpause it there, and promote again."
        )
    conf = dict(environment.conf)
    if environment.workspace is not None:
        conf["workspace"] = environment.workspace
    run_id = f"promotion__{promotion.commit[:12]}__{promotion.entry[:12]}"
    return str(api.start_run(environment.dag_id, run_id, conf)["dag_run_id"])


def finished(
    api: AirflowApi, environment: PipelineEnvironment, *, commit: str, run_id: str
) -> Answer:
    """Look if a run has ended, and judge it; gives a ``PipelineRunCheck``.

    Raises:
        PipelineStageError: it failed, ran another commit, or a metric is out of bounds.
        DataError: the run was deleted.
        ParameterError: the environment's bounds are not pairs.
    """
    run = api.run(environment.dag_id, run_id)
    what = f"{environment.dag_id} {run_id} of {environment.name}"
    if run is None:
        raise DataError(f"{what} was deleted before it was judged. Promote again.")
    if run["state"] not in _ENDED:
        return Answer(waits_for=f"{what} is {run['state']}")
    if run["bundle_version"] not in (None, commit):  # None: the DAG is not versioned
        ran = run["bundle_version"][:12]
        raise PipelineStageError(f"{what} ran {ran}, not {commit[:12]}: the ref has moved on.")
    if run["state"] == "failed":
        failed = api.failed_tasks(environment.dag_id, run_id)
        raise PipelineStageError(f"Commit {commit[:12]} fails: {what} failed in {failed}.")
    metrics = judged_metrics(environment, _metrics(api, environment, run_id))
    check = PipelineRunCheck(
        environment=environment.name,
        commit=commit,
        dag_id=environment.dag_id,
        run_id=run_id,
        state=run["state"],
        metrics=metrics,
    )
    return Answer(found=check.to_xcom())


def _metrics(api: AirflowApi, environment: PipelineEnvironment, run_id: str) -> Mapping[str, Any]:
    if not environment.bounds:
        return {}
    if environment.metrics_task is None:
        constraint = "the task that returns metrics, as there are bounds"
        raise ParameterError.of("metrics_task", "PipelineEnvironment", constraint, None)
    value = api.result(environment.dag_id, run_id, environment.metrics_task)
    if isinstance(value, Mapping):
        nested = value.get("metrics")
        return nested if isinstance(nested, Mapping) else value
    return {}


def judged_metrics(
    environment: PipelineEnvironment, metrics: Mapping[str, Any]
) -> dict[str, float]:
    """Return the metrics that have bounds, all of them finite and within.

    Args:
        environment: Names the bounds.
        metrics: Numbers, or dicts with a ``value``, by name.

    Raises:
        PipelineStageError: one is missing, not finite, or out of bounds.
        ParameterError: bounds are not pairs.
    """
    values: dict[str, float] = {}
    problems = []
    for name, limits in environment.bounds.items():
        found = metrics.get(name)
        value = found.get("value") if isinstance(found, Mapping) else found
        if _is_within(value, limits):
            values[name] = float(value)
        else:
            problems.append(f"{name} is {value!r}, expected one in {limits}")
    if problems:
        raise PipelineStageError(
            f"The first run in {environment.name} is out of bounds: {'; '.join(problems)}."
        )
    return values


def _is_within(value: object, limits: Sequence[float | None]) -> TypeGuard[float]:
    if len(limits) != 2:
        raise ParameterError.of("bounds", "PipelineEnvironment", "[least, greatest]", limits)
    least, greatest = limits
    return (
        isinstance(value, int | float)
        and math.isfinite(value)
        and (least is None or value >= least)
        and (greatest is None or value <= greatest)
    )
