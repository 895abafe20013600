"""How far feature views have been taken online, and whether that is far enough.

The sensor and its trigger both ask :func:`stale_views`, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.features.materialize import (
    Duration,
    Moment,
    as_duration,
    as_moment,
)
from airflow_mlops_provider.steps.features.registry import feast_errors, view_names

if TYPE_CHECKING:
    from feast import FeatureStore


def newest_ends(
    store: FeatureStore, feature_views: str | Sequence[str] | None
) -> dict[str, str | None]:
    """Return the newest materialized interval's end of each view, ISO 8601; None if never.

    Raises:
        DataError: a view is unknown.
    """
    with feast_errors(store):
        store.registry.refresh(store.project)
        ends = {
            name: store.get_feature_view(name).most_recent_end_time
            for name in view_names(store, feature_views)
        }
    return {name: end.astimezone(UTC).isoformat() if end else None for name, end in ends.items()}


def stale_views(
    ends: dict[str, str | None],
    *,
    now: datetime,
    fresh_after: Moment | None = None,
    max_age: Duration | None = None,
) -> list[str]:
    """Return the views of :func:`newest_ends` that end before what was asked for.

    Args:
        ends: The newest end of each view.
        now: The present moment.
        fresh_after: The moment that each view must have reached, ISO 8601; or
        max_age: how long before ``now`` it may be: seconds or an ISO 8601 duration.

    Raises:
        ParameterError: not exactly one of the two is given, or it cannot be used.
    """
    if bool(fresh_after) == bool(max_age):
        raise ParameterError(
            "stale_views needs exactly one of fresh_after and max_age. Got "
            f"{fresh_after!r} and {max_age!r} instead."
        )
    if fresh_after:
        reached = as_moment("fresh_after", "stale_views", fresh_after)
    else:
        reached = now - (as_duration("max_age", "stale_views", max_age) or timedelta(0))
    return [name for name, end in ends.items() if not end or datetime.fromisoformat(end) < reached]
