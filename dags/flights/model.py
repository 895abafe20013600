"""The model of the example: gradient boosting over known-before-departure facts."""

from __future__ import annotations

from typing import Any

from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OrdinalEncoder

from flights.columns import CATEGORICAL


def delay_classifier(**params: Any) -> Pipeline:
    """Return an unfitted classifier of late arrivals.

    Args:
        **params: Of ``HistGradientBoostingClassifier``; the seed is 0 unless given.
    """
    encoder = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, max_categories=100
    )
    columns = ColumnTransformer(
        [("categories", encoder, CATEGORICAL)],
        remainder="passthrough",
        verbose_feature_names_out=False,
    )
    boosting = HistGradientBoostingClassifier(
        categorical_features=list(range(len(CATEGORICAL))), **{"random_state": 0, **params}
    )
    return Pipeline([("columns", columns), ("boosting", boosting)])
