"""What a feature service, or a list of references, needs of entity rows and gives to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from feast import OnDemandFeatureView
from feast.errors import FeastError
from feast.feature_view import DUMMY_ENTITY_ID
from feast.types import from_feast_to_pyarrow_type

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.prediction_log import as_utc

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureStore


@dataclass(frozen=True)
class Asked:
    """Features by service or by references."""

    service: str | None
    references: list[str] | None
    keys: dict[str, pa.DataType] = field(default_factory=dict)
    """Column of the entity rows to its type: join keys, and what on-demand views request."""
    ttl: dict[str, timedelta] = field(default_factory=dict)
    """By feature; that of a view without TTL, or of an on-demand view, is missing."""
    until: dict[str, str] = field(default_factory=dict)
    """By feature: the end of the newest window that its view was materialized for."""


def asked_features(
    store: FeatureStore, feature_service: str | None, features: Sequence[str] | None
) -> Asked:
    """Look up what is asked for.

    Raises:
        DataError: a view, feature or service is unknown, or none of them has a join key.
        ParameterError: not exactly one of ``feature_service`` and ``features`` is given.
    """
    if bool(feature_service) == bool(features):
        raise ParameterError(
            "A skew check needs exactly one of feature_service and features. Got "
            f"{feature_service!r} and {features!r} instead."
        )
    asked = Asked(feature_service, list(features or ()) or None)
    try:
        store.registry.refresh(store.project)
        known: dict[str, Any] = {view.name: view for view in store.list_all_feature_views()}
        for projection in _projections(store, asked):
            _add(asked, known, projection)
    except (FeastError, KeyError) as error:
        raise DataError(
            f"The feature store {store.project!r} does not know what to compare: {error}. Correct "
            "the name, or apply the repository that defines it."
        ) from error
    if not asked.keys:
        raise DataError(
            "The features to compare have no join key, so there are no entities to look at. "
            "Compare features of views that have an entity."
        )
    return asked


def _projections(store: FeatureStore, asked: Asked) -> list[Any]:
    if asked.service:
        return list(store.get_feature_service(asked.service).feature_view_projections)
    by_view: dict[str, list[str]] = {}
    for reference in asked.references or ():
        view, _, feature = reference.partition(":")
        by_view.setdefault(view, []).append(feature)
    find: Any = store.registry.get_any_feature_view
    return [find(view, store.project)[names].projection for view, names in by_view.items()]


def _add(asked: Asked, known: dict[str, Any], projection: Any) -> None:
    view = known[projection.name]
    if isinstance(view, OnDemandFeatureView):
        for source in view.source_feature_view_projections.values():
            asked.keys.update(_keys(known[source.name], source))
        for request in view.source_request_sources.values():
            asked.keys.update({each.name: _arrow_type(each) for each in request.schema})
        return
    asked.keys.update(_keys(view, projection))
    names = [feature.name for feature in projection.features]
    if view.ttl:
        asked.ttl.update(dict.fromkeys(names, view.ttl))
    if ends := [end for _, end in view.materialization_intervals]:
        asked.until.update(dict.fromkeys(names, as_utc(max(ends)).isoformat()))


def _keys(view: Any, projection: Any) -> dict[str, pa.DataType]:
    renamed = projection.join_key_map or {}
    return {
        renamed.get(column.name, column.name): _arrow_type(column)
        for column in view.entity_columns
        if column.name != DUMMY_ENTITY_ID
    }


def _arrow_type(column: Any) -> pa.DataType:
    return from_feast_to_pyarrow_type(column.dtype)
