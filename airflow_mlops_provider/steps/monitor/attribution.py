"""Does the model still weigh its inputs as it did on the reference?

The influence of an input is the mean absolute change of the score when its value is replaced by
that of a random reference row: the unary quantitative input influence of Datta, Sen and Zick
(2016), which needs no labels and nothing of the model but its answers. The two rankings are
compared as Amazon SageMaker Clarify documents it ("Feature attribution drift"): the normalised
discounted cumulative gain (NDCG) of the reference influences in the order of the live ones, 1 if
the order is the same, and too low below 0.9.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_mlops_provider.records import AttributionDrift
from airflow_mlops_provider.steps.drift.compare import reference_sample
from airflow_mlops_provider.steps.drift.rows import sample_of
from airflow_mlops_provider.steps.monitor.settings import finding

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.records import Finding
    from airflow_mlops_provider.steps.monitor.inputs import Inputs
    from airflow_mlops_provider.steps.monitor.log import PredictionLog

ROWS = 1_000
"""At most, on either side."""
_SHOWN = 50


def attribution_of(
    log: PredictionLog, inputs: Inputs | None, profile_uri: str | None, model_uri: str | None
) -> AttributionDrift | str:
    """Compare the influences of the inputs, or say why that is not possible.

    Raises:
        MlflowUnavailableError: MLflow does not give the model.
        ModelError: the model cannot be loaded, or does not take such rows.
    """
    # late: that package imports MLflow, which takes longer than the rest of a report
    from airflow_mlops_provider.steps.evaluate import load_model, signature_names

    if profile_uri is None or inputs is None or model_uri is None:
        return "it needs a reference profile and a model_uri"
    background = reference_sample(profile_uri)
    if background is None:
        return f"the profile has no sample; profile the data again with sample_rows={ROWS}"
    model = load_model(model_uri)
    names = signature_names(model)
    lacking = [
        name for name in names if name not in inputs.expressions or name not in background.columns
    ]
    if lacking:
        return f"the log or the profile's sample lacks {lacking[:5]}"
    if not inputs.drift or not inputs.drift.n_current:
        return "no live prediction was answered"
    rows = sample_of(log.rows(inputs.expressions), names, ROWS).to_pandas()
    background = background[names].sample(min(ROWS, len(background)), random_state=0)
    live = rows.astype(background.dtypes.to_dict(), errors="ignore")
    return compared(
        influences(model, background, background), influences(model, live, background), len(live)
    )


def influences(model: Any, rows: pd.DataFrame, background: pd.DataFrame) -> dict[str, float]:
    """Return each input's mean absolute effect on the score of ``rows``.

    Args:
        model: Any pyfunc model that answers with numbers.
        rows: Where its answers are looked at.
        background: Rows whose values stand in; the same draw whenever it is repeated.
    """
    from airflow_mlops_provider.steps.evaluate import predict_score

    drawn = np.random.default_rng(0).integers(0, len(background), len(rows))
    usual = predict_score(model, rows)
    found = {}
    for name in rows.columns:
        replaced = rows.assign(**{name: background[name].to_numpy()[drawn]})
        found[str(name)] = float(np.abs(predict_score(model, replaced) - usual).mean())
    return found


def compared(
    reference: Mapping[str, float], current: Mapping[str, float], n: int
) -> AttributionDrift:
    """Return the NDCG of the reference influences in the order of the current ones."""
    from sklearn.metrics import ndcg_score

    names = [*reference]
    gains, order = ([side[name] for name in names] for side in (reference, current))
    ndcg = float(ndcg_score([gains], [order])) if len(names) > 1 and any(gains) else 1.0
    shown = sorted(names, key=lambda name: -reference[name])[:_SHOWN]
    return AttributionDrift(
        ndcg=ndcg,
        n=n,
        reference={name: reference[name] for name in shown},
        current={name: current[name] for name in shown},
    )


def judge_attribution(
    drift: AttributionDrift | str, thresholds: Mapping[str, float | None], min_rows: int
) -> Finding:
    """Judge how far the ranking moved."""
    if isinstance(drift, str):
        reason = f"Attribution drift was not looked at: {drift}."
        return finding("attribution_drift", reason, crossed=None)
    limit = thresholds["attribution_ndcg"]
    moved = limit is not None and drift.ndcg < limit
    reason = (
        f"The order of the inputs by influence {'changed' if moved else 'is that of the reference'}"
        f": NDCG {drift.ndcg:.3f} on {drift.n} live rows."
    )
    # the sample is never larger than ROWS, however many rows are asked for
    enough = drift.n >= min(min_rows, ROWS)
    return finding(
        "attribution_drift",
        reason,
        crossed=moved if enough else None,
        value=drift.ndcg,
        threshold=limit,
        n=drift.n,
    )
