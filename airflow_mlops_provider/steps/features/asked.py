"""What a feature service, or a list of references, needs of entity rows and gives to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    from feast import FeatureService, FeatureStore, FeatureView
    from feast.feature_view_projection import FeatureViewProjection


@dataclass(frozen=True)
class AskedView:
    """A feature view of which features were asked for."""

    view: FeatureView
    keys: dict[str, str]
    """Join key of the view to the column of the entity rows."""
    features: tuple[str, ...]
    """Also those that only feed an on-demand view."""


@dataclass(frozen=True)
class Asked:
    """Features by service or by references."""

    features: FeatureService | list[str]
    """As Feast takes them."""
    views: list[AskedView]
    requests: dict[str, pa.DataType]
    """Column of the entity rows that an on-demand view requests, and its type."""

    @property
    def named(self) -> dict[str, Any]:
        """The argument, of those that take a feature service or references, that asks for it."""
        if isinstance(self.features, list):
            return {"features": self.features}
        return {"feature_service": self.features.name}

    @property
    def keys(self) -> dict[str, pa.DataType]:
        """Column of the entity rows, join key or request, to its type."""
        keys = {
            asked.keys[column.name]: _arrow_type(column)
            for asked in self.views
            for column in asked.view.entity_columns
            if column.name in asked.keys
        }
        return {**keys, **self.requests}

    @property
    def ttl(self) -> dict[str, timedelta]:
        """By feature; that of a view without TTL, or of an on-demand view, is missing."""
        return {
            name: asked.view.ttl
            for asked in self.views
            if asked.view.ttl
            for name in asked.features
        }

    @property
    def until(self) -> dict[str, str]:
        """By feature: the end of the newest window that its view was materialized for."""
        return {
            name: as_utc(max(end for _, end in asked.view.materialization_intervals)).isoformat()
            for asked in self.views
            if asked.view.materialization_intervals
            for name in asked.features
        }


def asked_features(
    store: FeatureStore, feature_service: str | None, features: Sequence[str] | None
) -> Asked:
    """Look up what is asked for.

    Raises:
        DataError: a view, feature or service is unknown.
        ParameterError: not exactly one of ``feature_service`` and ``features`` is given.
    """
    if bool(feature_service) == bool(features):
        raise ParameterError(
            "Expected exactly one of feature_service and features. Got "
            f"{feature_service!r} and {features!r} instead."
        )
    try:
        store.registry.refresh(store.project)
        known: dict[str, Any] = {view.name: view for view in store.list_all_feature_views()}
        if feature_service:
            service = store.get_feature_service(feature_service)
            return _asked(known, service, service.feature_view_projections)
        references = list(features or ())
        return _asked(known, references, list(_projections(known, references)))
    except (FeastError, KeyError, ValueError) as error:
        raise DataError(
            f"The feature store {store.project!r} does not know what was asked for, "
            f"{feature_service or features}: {error}. Correct the name, or apply the repository "
            "that defines it."
        ) from error


def _projections(known: dict[str, Any], references: list[str]) -> Iterator[FeatureViewProjection]:
    by_view: dict[str, list[str]] = {}
    for reference in references:
        view, _, feature = reference.partition(":")
        by_view.setdefault(view, []).append(feature)
    return (known[view][names].projection for view, names in by_view.items())


def _asked(
    known: dict[str, Any],
    features: FeatureService | list[str],
    projections: list[FeatureViewProjection],
) -> Asked:
    asked = Asked(features, [], {})
    for projection in projections:
        view = known[projection.name]
        if not isinstance(view, OnDemandFeatureView):
            asked.views.append(_asked_view(view, projection))
            continue
        sources = view.source_feature_view_projections.values()
        asked.views.extend(_asked_view(known[source.name], source) for source in sources)
        for request in view.source_request_sources.values():
            asked.requests.update({each.name: _arrow_type(each) for each in request.schema})
    return asked


def _asked_view(view: FeatureView, projection: FeatureViewProjection) -> AskedView:
    renamed = projection.join_key_map or {}
    keys = {key: renamed.get(key, key) for key in view.join_keys if key != DUMMY_ENTITY_ID}
    return AskedView(view, keys, tuple(one.name for one in projection.features))


def _arrow_type(column: Any) -> pa.DataType:
    return from_feast_to_pyarrow_type(column.dtype)
