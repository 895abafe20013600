"""A training run of a build in a staging of its own, and what its figures say."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import PipelineBuild, PipelineCheck, PipelineStagingReport
from airflow_mlops_provider.steps.pipeline_ci.checks import SCRIPTS
from airflow_mlops_provider.steps.pipeline_ci.reports import check_of

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlops_provider.steps.pipeline_ci.commands import Commands
    from airflow_mlops_provider.steps.pipeline_ci.rooms import Room

Bounds = Mapping[str, Sequence[float | None]]
"""By metric the least and the greatest value allowed; None for no limit."""
_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception): .*$", re.MULTILINE)
_LONGEST = 600
_MOST_METRICS = 100


@dataclass(frozen=True)
class Staging:
    """What is run, and what is asked of it."""

    dag_id: str
    conf: Mapping[str, Any] = field(default_factory=dict)
    """Of the DAG run; how the pipeline is told to take a sample."""
    dags: str = "dags"
    bounds: Bounds = field(default_factory=dict)
    curves: Sequence[str] = ("loss",)
    """Metrics logged over steps that must not end higher than they began, by part of the name."""
    serve: bool = True
    seconds: float = 3600


def stage_build(
    commands: Commands, build: PipelineBuild, staging: Staging, room: Room
) -> PipelineStagingReport:
    """Run a DAG of the build once, ask the model it trained, and judge both.

    Raises:
        PipelineStageError: the run did not end in time, or Airflow did not start.
        ParameterError: ``bounds`` are not pairs of numbers.
        StepFailedError: the run was killed; a retry may help.
    """
    bounds = _checked(staging.bounds)
    answer = room.artifacts / "staging.json"
    script: list[str | Path] = [room.python, SCRIPTS / "staging_run.py"]
    script += [room.source / staging.dags, staging.dag_id, json.dumps(dict(staging.conf)), answer]
    ended = commands.run(
        "staging",
        [*script, *(["--serve"] if staging.serve else [])],
        folder=room.source,
        seconds=staging.seconds,
    )
    if not ended.succeeded() or not answer.exists():
        raise commands.refusal(build.commit, ended.reason())
    told = json.loads(answer.read_text())
    checks = [
        judge_run(told["state"], told["tasks"], commands.logs / "staging.log"),
        judge_finite(told["metrics"]),
        judge_convergence(told["metrics"], bounds, staging.curves),
    ]
    if staging.serve and checks[0].outcome == "passed":
        checks.append(judge_answers(told["asked"]))
    return PipelineStagingReport(
        commit=build.commit,
        wheel_sha256=build.wheel_sha256,
        dag_id=staging.dag_id,
        checks=checks,
        metrics=dict(sorted(_last(told["metrics"]).items())[:_MOST_METRICS]),
        endpoints=sorted({each["endpoint"] for each in told["asked"]}),
        artifacts=[],
    )


def judge_run(state: str, tasks: Mapping[str, str], log: Path) -> PipelineCheck:
    """Judge how a DAG run ended; ``log`` says why tasks failed."""
    failed = sorted(task for task, ended in tasks.items() if ended == "failed")
    problems = []
    if state != "success":
        told = _ERROR.search(log.read_text(errors="replace")) if log.exists() else None
        why = f" ({told[0][:_LONGEST]})" if told else ""
        problems.append(f"the run ended {state}; failed tasks: {failed}{why}")
    return check_of("run", problems, f"{len(tasks)} tasks")


def judge_finite(metrics: Iterable[Mapping[str, Any]]) -> PipelineCheck:
    """Judge that no metric was ever NaN or infinite."""
    metrics = list(metrics)
    wrong = sorted(
        each["name"]
        for each in metrics
        if not all(math.isfinite(value) for value in each["values"])
    )
    problems = [f"{name} was not finite" for name in wrong]
    return check_of("finite", problems, f"{len(metrics)} metrics")


def judge_convergence(
    metrics: Iterable[Mapping[str, Any]], bounds: Bounds, curves: Sequence[str]
) -> PipelineCheck:
    """Judge that metrics end within bounds, and that learning curves do not end higher.

    Args:
        metrics: ``name`` and ``values``, oldest first, of each metric of each MLflow run.
        bounds: By metric the least and the greatest last value.
        curves: Parts of the names of metrics that learning lowers.
    """
    metrics = list(metrics)
    last = _last(metrics)
    problems = [
        *(problem for name, limits in bounds.items() for problem in _outside(name, limits, last)),
        *(
            f"{each['name']} rose from {each['values'][0]:.4g} to {each['values'][-1]:.4g}: "
            "training diverges"
            for each in metrics
            if any(part in each["name"] for part in curves)
            and each["values"][-1] > each["values"][0]
        ),
    ]
    return check_of("convergence", problems, f"{len(bounds)} bounds hold")


def judge_answers(asked: Sequence[Mapping[str, Any]]) -> PipelineCheck:
    """Judge what endpoints answered: a finite answer to each row."""
    if not asked:
        return check_of("serving", ["the run made no model that could be served"], "")
    return check_of(
        "serving",
        [f"{each['endpoint']}: {problem}" for each in asked if (problem := _wrong(each))],
        f"{sum(each.get('n', 0) for each in asked)} rows answered",
    )


def _wrong(asked: Mapping[str, Any]) -> str | None:
    if "problem" in asked:
        return str(asked["problem"])[:_LONGEST]
    answers = asked["answers"]
    if not isinstance(answers, list) or len(answers) != asked["n"]:
        return f"expected {asked['n']} answers, got {answers!r}"[:_LONGEST]
    if not all(map(_is_sound, answers)):
        return f"answers that are missing or not finite: {answers!r}"[:_LONGEST]
    return None


def _is_sound(answer: Any) -> bool:
    if isinstance(answer, list | dict):
        values = answer.values() if isinstance(answer, dict) else answer
        return all(map(_is_sound, values))
    return answer is not None and not (isinstance(answer, float) and not math.isfinite(answer))


def _outside(name: str, limits: Sequence[float | None], last: Mapping[str, float]) -> Iterator[str]:
    low, high = limits
    if name not in last:
        yield f"{name} was not logged, or is not finite"
    elif low is not None and last[name] < low:
        yield f"{name} is {last[name]:.4g}, at least {low:g} was asked"
    elif high is not None and last[name] > high:
        yield f"{name} is {last[name]:.4g}, at most {high:g} was asked"


def _last(metrics: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    last = {each["name"]: each["values"][-1] for each in metrics}
    return {name: value for name, value in last.items() if math.isfinite(value)}


def _checked(bounds: Bounds) -> Bounds:
    for name, limits in bounds.items():
        pair = isinstance(limits, list | tuple) and len(limits) == 2
        if not pair or not all(each is None or isinstance(each, int | float) for each in limits):
            constraint = "a dict of metric to [least, greatest], each a number or None"
            raise ParameterError.of("bounds", "stage_build", constraint, {name: limits})
    return bounds
