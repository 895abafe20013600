"""The scores of live predictions against those of the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.steps.drift.cells import Cells
from airflow_mlops_provider.steps.drift.profile import read_profile
from airflow_mlops_provider.steps.drift.reference import profile_column
from airflow_mlops_provider.steps.drift.rows import rows_of
from airflow_mlops_provider.steps.drift.verdict import measured
from airflow_mlops_provider.steps.monitor.settings import finding

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import FeatureDrift, Finding
    from airflow_mlops_provider.steps.drift.profile import FeatureProfile

    Floats = NDArray[np.float64]

SCORE = "score"


def score_profile(
    reference: tuple[Floats, Floats] | None, profile_uri: str | None, kind: str
) -> FeatureProfile | None:
    """Return the profile of the scores to compare with; None if there are none.

    Args:
        reference: Scores and labels on held-out data, for the kind ``training``.
        profile_uri: The profile of the window before, for the kind ``previous``.
        kind: What is compared with.

    Raises:
        DataError: the profile cannot be used.
    """
    if kind == "previous":
        return read_profile(profile_uri).features[SCORE] if profile_uri else None
    if reference is None or not len(reference[0]):
        return None
    rows = rows_of(pd.DataFrame({SCORE: reference[0]}))
    return profile_column(rows, SCORE, pa.float64())


def score_drift(scores: Floats, profile: FeatureProfile | None) -> FeatureDrift | None:
    """Compare scores, shape (n,), with a profile; None without profile or scores."""
    if profile is None or not len(scores):
        return None
    cells = Cells(SCORE, profile)
    return measured(cells, cells.counts(pa.array(scores)))


def judge_scores(
    drift: FeatureDrift | None, n: int, thresholds: Mapping[str, float | None]
) -> Finding:
    """Judge how far the scores moved."""
    if drift is None:
        lacking = "no scores to compare with are known" if n else "no live prediction has a score"
        reason = f"Prediction drift was not looked at: {lacking}."
        return finding("prediction_drift", reason, crossed=None, n=n)
    if drift.psi is None:
        reason = f"Prediction drift is unknown: {n} scores are too few to tell it from luck."
        return finding("prediction_drift", reason, crossed=None, n=n)
    limit = thresholds["score_psi"]
    threshold = max(drift.threshold or 0, limit or 0)
    moved = drift.status == "drifted" and limit is not None and drift.psi >= threshold
    reason = (
        f"The scores {'moved' if moved else 'did not move'}: PSI {drift.psi:.3f} against "
        f"{threshold:.3f} on {drift.n} predictions."
    )
    return finding(
        "prediction_drift", reason, crossed=moved, value=drift.psi, threshold=threshold, n=drift.n
    )
