"""Whether a degraded champion gives way to its predecessor: the gate's rules, the other way round.

Both are judged on the same live rows whose labels came: the champion by the scores that users were
given, its predecessor by what it says of the logged inputs. It takes over only if the confidence
interval of the paired difference lies wholly above the margin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import (
    GateReason,
    Metric,
    ModelVersionRef,
    MonitoringReport,
    RollbackVerdict,
)
from airflow_mlops_provider.steps.deploy import deploy_model, refuse_during_rollout
from airflow_mlops_provider.steps.evaluate.answers import load_model, predict_score
from airflow_mlops_provider.steps.metadata import shortened
from airflow_mlops_provider.steps.metrics.figures import Sample, figure_of
from airflow_mlops_provider.steps.prediction_log import INPUT, answered, without_shadows
from airflow_mlops_provider.steps.promote import roll_back
from airflow_mlops_provider.steps.snapshot import read_dataset

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import DatasetRef
    from airflow_mlops_provider.steps.deploy import DeploymentTarget

_SIGNAL = "performance"
_MAX_TAG = 5_000  # what MLflow takes
_LOG_COLUMNS = ("request_id", "row", "attempt", "model_uri", "status", "shadow")


@dataclass(frozen=True)
class RollbackRule:
    """What is asked of the predecessor."""

    metric: str = "auc"
    task: Literal["classification", "regression"] = "classification"
    margin: float = 0.0
    """By how much it has to be better, in units of ``metric``."""
    confidence: float = 0.95
    """Of the two-sided interval of the difference."""
    min_rows: int = 500
    score_column: str = "score"
    label_column: str = "label"

    def check(self) -> None:
        """Raise ParameterError for what is out of range."""
        figure_of(self.metric, self.task)
        if self.margin < 0:
            raise ParameterError.of("margin", _CALLER, "zero or positive", self.margin)
        if not 0.5 <= self.confidence < 1:
            raise ParameterError.of("confidence", _CALLER, "in [0.5, 1)", self.confidence)
        if self.min_rows < 2:
            raise ParameterError.of("min_rows", _CALLER, "at least 2", self.min_rows)


def judge_previous(
    report: MonitoringReport | None,
    labelled: DatasetRef | None,
    champion: ModelVersionRef,
    previous: ModelVersionRef,
    rule: RollbackRule,
) -> RollbackVerdict:
    """Decide whether ``previous`` takes over. Nothing is moved.

    Args:
        report: What monitoring says of the champion; without a performance signal it is kept.
        labelled: Live predictions with labels, as ``join_labels`` gives them.
        champion: The version in service.
        previous: The version before it.
        rule: What is asked.

    Raises:
        ParameterError: the rule is out of range.
        DataError: ``labelled`` lacks a column.
        MlflowUnavailableError: MLflow does not give the model.
    """
    rule.check()
    reasons = [_degraded(report)]
    if reasons[-1].passed:
        rows = _rows(labelled, champion.model_uri, rule)
        reasons.append(_enough(rows, champion, rule))
        if reasons[-1].passed:
            reasons.append(_comparison(rows, champion, previous, rule))
    passed = all(reason.passed for reason in reasons)
    return RollbackVerdict(
        outcome="rolled_back" if passed else "kept",
        champion_uri=champion.model_uri,
        previous_uri=previous.model_uri,
        reasons=reasons,
    )


def go_back(
    client: MlflowClient,
    target: DeploymentTarget | None,
    endpoint: str | None,
    champion: ModelVersionRef,
    previous: ModelVersionRef,
    *,
    reason: str,
    by: str,
) -> None:
    """Make ``previous`` champion again and, with a ``target``, send it all traffic.

    It is made ready before anything moves; doing it again under the same ``by`` changes nothing.

    Raises:
        RegistryConflictError: another version is champion by now, or a rollout moves the traffic.
        ModelError: ``previous`` cannot be served; nothing has moved.
    """
    if target is not None and endpoint is not None:
        refuse_during_rollout(target, endpoint)
        if "traffic" in target.capabilities():
            deploy_model(target, endpoint, previous, 0)
    back = roll_back(
        client, champion.name, reason=reason, by=by, expected_champion=champion.version
    )
    if target is not None and endpoint is not None:
        deploy_model(target, endpoint, back, 100)


def _degraded(report: MonitoringReport | None) -> GateReason:
    if report is None:
        return _reason(_SIGNAL, 0, "no report says that the champion degraded")
    raised = _SIGNAL in report.signals
    detail = "; ".join(reason for reason in report.reasons if reason) or "no reason was given"
    return _reason(_SIGNAL, report.n_labelled, detail, passed=raised)


def _rows(labelled: DatasetRef | None, model_uri: str, rule: RollbackRule) -> pd.DataFrame | None:
    """Return the champion's live, answered, labelled predictions."""
    if labelled is None:
        return None
    needed = [*_LOG_COLUMNS, rule.score_column, rule.label_column]
    missing = [name for name in needed if name not in labelled.columns]
    if missing:
        raise DataError(
            f"Expected columns {missing} in {labelled.uri}, got {sorted(labelled.columns)}. Give "
            "it the output of JoinLabelsOperator."
        )
    inputs = [name for name in labelled.columns if name.startswith(INPUT)]
    frame = without_shadows(read_dataset(labelled, columns=[*needed, *inputs]))
    rows = answered(frame[frame["model_uri"] == model_uri])
    known = rows[rule.score_column].notna() & rows[rule.label_column].notna()
    return rows[known].reset_index(drop=True)


def _enough(rows: pd.DataFrame | None, champion: ModelVersionRef, rule: RollbackRule) -> GateReason:
    n = 0 if rows is None else len(rows)
    detail = f"{n} labelled answers of {champion.model_uri}, at least {rule.min_rows} are asked for"
    return _reason("rows", n, detail, passed=n >= rule.min_rows)


def _comparison(
    rows: pd.DataFrame | None,
    champion: ModelVersionRef,
    previous: ModelVersionRef,
    rule: RollbackRule,
) -> GateReason:
    assert rows is not None
    inputs = rows[[name for name in rows.columns if name.startswith(INPUT)]]
    frame = inputs.rename(columns=lambda name: name.removeprefix(INPUT))
    try:
        theirs = predict_score(load_model(previous.model_uri), frame)
    except ModelError as error:
        return _reason("previous:usable", 0, f"{previous.model_uri} cannot be judged ({error})")
    truth = rows[rule.label_column].to_numpy(dtype=float)
    gain = _gain(Sample.of(truth, theirs), Sample.of(truth, rows[rule.score_column]), rule)
    if gain is None:
        return _reason(rule.metric, len(rows), f"{rule.metric} is not defined on these rows")
    low = -np.inf if gain.low is None else gain.low
    detail = (
        f"{previous.model_uri} gains {gain.value:+.4f} in {rule.metric} over {champion.model_uri}, "
        f"at least {low:+.4f} with {0.5 + rule.confidence / 2:.1%} confidence; more than "
        f"{rule.margin:+.4f} was asked"
    )
    check = f"superiority:{rule.metric}"
    return _reason(check, gain.n, detail, passed=bool(low > rule.margin))


def _gain(previous: Sample, champion: Sample, rule: RollbackRule) -> Metric | None:
    if rule.task == "classification" and len(np.unique(champion.truth)) < 2:
        return None
    figure = figure_of(rule.metric, rule.task)
    new, old = figure.estimate(previous), figure.estimate(champion)
    if new is None or old is None:
        return None
    better, worse = (new, old) if figure.greater_is_better else (old, new)
    return better.minus(worse).metric(rule.confidence)


def _reason(check: str, n: int, detail: str, *, passed: bool = False) -> GateReason:
    return GateReason(check=check, passed=passed, detail=detail, n=n)


def told(verdict: RollbackVerdict) -> str:
    """Return the evidence in one line, for the version that loses its place."""
    return shortened("; ".join(reason.detail for reason in verdict.reasons), _MAX_TAG)


_CALLER = "RollbackDegradedModelOperator"
