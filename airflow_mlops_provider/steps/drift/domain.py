"""Ask a classifier to tell current rows from reference rows.

It sees all features at once, and so also a change of their dependence that no single one shows.
It sees the cells of the profile, not values; of times it sees nothing, and of rare and unknown
levels only that they are neither common nor missing, for each window brings others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from airflow_mlops_provider.steps.drift.cells import TOP, Cells

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import Metric

ROWS = 5_000
"""At most, on either side."""
_MIN_AUC = 0.6
_FOLDS = 5


def domain_auc(reference: pa.Table, current: pa.Table, features: Sequence[Cells]) -> Metric | None:
    """Return the AUC with DeLong's 95 % interval, from 5-fold cross-validation.

    The classifier is scikit-learn's histogram gradient boosting.

    Args:
        reference: Rows that were kept with the profile.
        current: Rows to tell from them.
        features: Those to look at.

    Returns:
        0.5 if the rows are alike; None if all features are times.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from threadpoolctl import threadpool_limits

    from airflow_mlops_provider.steps.metrics.figures import auc_with_interval

    seen = [each for each in features if each.profile.kind != "datetime"]
    if not seen:
        return None
    rows = np.concatenate([_codes(table, seen) for table in (reference, current)])
    target = np.repeat([0, 1], [reference.num_rows, current.num_rows])
    # so few rows are slower on many threads, and far slower on busy cores
    with threadpool_limits(1):
        score = cross_val_predict(
            HistGradientBoostingClassifier(max_iter=50, random_state=0),
            rows,
            target,
            cv=StratifiedKFold(_FOLDS, shuffle=True, random_state=0),
            method="predict_proba",
        )
    return auc_with_interval(target, score[:, 1])


def is_told_apart(auc: Metric | None) -> bool:
    """Return whether the classifier shows drift: an AUC above 0.6, and its interval above 0.5."""
    return auc is not None and auc.value > _MIN_AUC and auc.low is not None and auc.low > 0.5


def _codes(table: pa.Table, features: Sequence[Cells]) -> NDArray[np.float64]:
    """Return the cells as numbers, shape (rows, features)."""
    return np.column_stack([_code(each, table[each.name]) for each in features]).astype(float)


def _code(feature: Cells, values: pa.ChunkedArray) -> NDArray[np.float64]:
    places = feature.places(values.combine_chunks()).astype(float)
    known = np.where(places == len(feature.reference) - 1, np.nan, places)
    return np.minimum(known, TOP) if feature.is_categorical else known
