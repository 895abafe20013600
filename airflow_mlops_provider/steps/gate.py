"""The promotion gate: floors first, then the challenger against the champion on the same rows.

A challenger is shown to be better (or not worse) only when the whole confidence interval of the
difference says so; a number that is a little higher by luck promotes nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import EvaluationReport, GateReason, GateVerdict, Metric
from airflow_mlops_provider.steps.metrics import (
    auc_difference,
    log_loss_rows,
    mean_with_interval,
    squared_error_rows,
)
from airflow_mlops_provider.steps.readable import readable

if TYPE_CHECKING:
    from numpy.typing import NDArray

Mode = Literal["superiority", "non_inferiority"]
_LOSSES: dict[str, Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]] = {
    "log_loss": log_loss_rows,
    "brier": squared_error_rows,
    "mse": squared_error_rows,
    "mae": lambda truth, score: np.abs(truth - score),
}


def judge_challenger(
    challenger: EvaluationReport,
    champion: EvaluationReport | None,
    *,
    metric: str = "auc",
    mode: Mode = "superiority",
    margin: float = 0.0,
    floors: Mapping[str, float] | None = None,
    slice_floor: float | None = None,
    confidence: float = 0.95,
) -> GateVerdict:
    """Decide whether a challenger may take the champion's place.

    Args:
        challenger: Its evaluation.
        champion: The champion's evaluation on the same rows; None if there is no champion, and
            then the floors alone decide.
        metric: What to compare: ``auc``, or a loss (``log_loss``, ``brier``, ``mse``, ``mae``).
        mode: ``superiority``: better by more than ``margin``. ``non_inferiority``: not worse by
            more than ``margin``.
        margin: In units of ``metric``, not negative.
        floors: Metric name to the worst value allowed (a maximum for losses).
        slice_floor: The worst value of the first metric allowed in any slice.
        confidence: Of the two-sided interval of the difference.
    """
    _check(challenger, metric, mode, margin)
    hard = [*_floors(challenger, floors or {}), *_slice_floors(challenger, slice_floor)]
    reasons = list(hard)
    if champion is not None:
        reasons.append(_comparison(challenger, champion, metric, mode, margin, confidence))
    if not all(reason.passed for reason in hard):
        outcome: Literal["promote", "keep_champion", "refused"] = "refused"
    else:
        outcome = "promote" if all(reason.passed for reason in reasons) else "keep_champion"
    return GateVerdict(
        outcome=outcome,
        challenger_uri=challenger.model_uri,
        champion_uri=champion.model_uri if champion else None,
        reasons=reasons,
    )


def _check(challenger: EvaluationReport, metric: str, mode: str, margin: float) -> None:
    if metric not in challenger.metrics:
        raise ParameterError.of("metric", "gate", f"one of {sorted(challenger.metrics)}", metric)
    if mode not in ("superiority", "non_inferiority"):
        raise ParameterError.of("mode", "gate", "'superiority' or 'non_inferiority'", mode)
    if margin < 0:
        raise ParameterError.of("margin", "gate", "zero or positive", margin)


def _floors(challenger: EvaluationReport, floors: Mapping[str, float]) -> list[GateReason]:
    reasons = []
    for name, floor in floors.items():
        if name not in challenger.metrics:
            raise ParameterError.of("floors", "gate", f"of {sorted(challenger.metrics)}", name)
        found = challenger.metrics[name]
        reasons.append(_floor_reason(name, name, found.value, floor, found.n))
    return reasons


def _slice_floors(challenger: EvaluationReport, floor: float | None) -> list[GateReason]:
    if floor is None:
        return []
    return [
        _floor_reason(f"{cut.column}={cut.value}", cut.metric, cut.score, floor, cut.n)
        for cut in challenger.slices
    ]


def _floor_reason(label: str, metric: str, value: float, floor: float, n: int) -> GateReason:
    loss = metric in _LOSSES
    passed = value <= floor if loss else value >= floor
    bound = "at most" if loss else "at least"
    return GateReason(
        check=f"floor:{label}",
        passed=passed,
        detail=f"{metric} {value:.4f}, {bound} {floor:.4f} was asked",
        n=n,
    )


def _comparison(
    challenger: EvaluationReport,
    champion: EvaluationReport,
    metric: str,
    mode: Mode,
    margin: float,
    confidence: float,
) -> GateReason:
    gain = _gain(challenger, champion, metric, confidence)
    bar = margin if mode == "superiority" else -margin
    low = gain.low if gain.low is not None else -np.inf
    return GateReason(
        check=f"{mode}:{metric}",
        passed=bool(low > bar),
        detail=(
            f"challenger gains {gain.value:+.4f} in {metric} over the champion, "
            f"at least {low:+.4f} with {0.5 + confidence / 2:.1%} confidence; more than "
            f"{bar:+.4f} was asked"
        ),
        n=gain.n,
    )


def _gain(
    challenger: EvaluationReport, champion: EvaluationReport, metric: str, confidence: float
) -> Metric:
    """Return how much better the challenger is; positive is better for losses too."""
    truth, new = _predictions(challenger)
    same, old = _predictions(champion)
    if challenger.dataset_uri != champion.dataset_uri or not np.array_equal(truth, same):
        raise DataError(
            "Expected both models judged on the same rows, got "
            f"{challenger.dataset_uri} and {champion.dataset_uri}. Evaluate both on one dataset."
        )
    if metric == "auc":
        return auc_difference(truth, new, old, confidence)
    loss = _LOSSES[metric]
    return mean_with_interval(loss(truth, old) - loss(truth, new), confidence)


def _predictions(
    report: EvaluationReport,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    with readable(report.predictions_uri):
        frame = pd.read_parquet(report.predictions_uri)
    return frame["target"].to_numpy(dtype=float), frame["score"].to_numpy(dtype=float)
