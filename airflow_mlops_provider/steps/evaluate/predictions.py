"""What a model answered, kept row for row beside the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from airflow_mlops_provider import workspace as ws
from airflow_mlops_provider.steps.metrics.figures import Sample
from airflow_mlops_provider.steps.readable import readable

if TYPE_CHECKING:
    from airflow_mlops_provider.records import EvaluationReport


def store_predictions(sample: Sample, workspace: str) -> str:
    """Keep ``target`` and ``score`` (or ``score_0``, …) under ``evaluations/``; return the URI."""
    scores = sample.score
    columns = (
        {"score": scores}
        if scores.ndim == 1
        else {f"score_{label}": scores[:, label] for label in range(scores.shape[1])}
    )
    predictions = pd.DataFrame({"target": sample.truth, **columns})
    folder = ws.join(workspace, "evaluations")
    uri, _ = ws.store_by_content(folder, ".parquet", predictions.to_parquet)
    return uri


def read_predictions(report: EvaluationReport) -> Sample:
    """Return what :func:`store_predictions` kept."""
    with readable(report.predictions_uri):
        frame = pd.read_parquet(report.predictions_uri)
    scores = frame.drop(columns="target").to_numpy(dtype=float)
    threshold = 0.5 if report.threshold is None else report.threshold
    score = scores[:, 0] if scores.shape[1] == 1 else scores
    return Sample(frame["target"].to_numpy(dtype=float), score, threshold)
