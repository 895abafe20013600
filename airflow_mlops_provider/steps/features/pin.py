"""Which feature service a model learned from, and whether the registry still has that one."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from feast import OnDemandFeatureView

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.steps.features.registry import feast_errors
from airflow_mlops_provider.steps.register import (
    FEATURE_SERVICE_TAG,
    is_registered,
    require_version,
)

if TYPE_CHECKING:
    from feast import FeatureStore
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import ModelVersionRef


def pin_feature_service(store: FeatureStore, feature_service: str) -> str:
    """Return ``{name}@{sha256}`` of a feature service: its views, join keys, features and types.

    Where the values come from does not count, so environments may differ in it.

    Raises:
        DataError: the registry has no such service, or a view of it is gone.
    """
    with feast_errors(store):
        store.registry.refresh(store.project)
        service = store.get_feature_service(feature_service)
        known = {view.name: view for view in store.list_all_feature_views()}
        projections: list[Any] = service.feature_view_projections
        views = [
            {
                "name": projection.name_to_use(),
                "features": {one.name: str(one.dtype) for one in projection.features},
                "join_key_map": dict(projection.join_key_map or {}),
                "definition": _definition(known.get(projection.name)),
            }
            for projection in projections
        ]
    views.sort(key=lambda view: str(view["name"]))
    text = json.dumps(views, sort_keys=True)
    return f"{feature_service}@{hashlib.sha256(text.encode()).hexdigest()}"


def require_pinned_service(store: FeatureStore, version: ModelVersionRef) -> str | None:
    """Make sure that the features a version learned from are those the registry defines now.

    Returns:
        The name of the feature service; None for a version without one.

    Raises:
        DataError: the registry has no such service any more.
        ModelError: the service is defined differently by now.
    """
    pinned = version.tags.get(FEATURE_SERVICE_TAG)
    if not pinned:
        return None
    name = pinned.rpartition("@")[0]
    current = pin_feature_service(store, name)
    if current != pinned:
        raise ModelError(
            f"Version {version.version} of {version.name!r} learned from the feature service "
            f"{pinned}, but the registry of {store.project!r} now defines {current}. Train a new "
            "version, or give the changed service a name of its own."
        )
    return name


def require_pinned_model(store: FeatureStore, client: MlflowClient, uri: str) -> str:
    """Make sure that the features a model learned from are those the registry defines now.

    Returns:
        The URI of the version that was looked at, whichever one its alias names by then; ``uri``
        itself if it names no version of the registry, which could be pinned.

    Raises:
        DataError: the feature store has no such service any more.
        ModelError: the service is defined differently by now, or the registry has no such version.
        ParameterError: a URI of the registry is neither ``models:/name@alias`` nor
            ``models:/name/3``.
    """
    if not is_registered(uri):
        return uri
    version = require_version(client, uri)
    require_pinned_service(store, version)
    return version.model_uri


def _definition(view: Any) -> dict[str, Any] | None:
    if view is None:
        return None
    if isinstance(view, OnDemandFeatureView):
        sources = view.source_feature_view_projections.values()
        return {
            "sources": {
                each.name: sorted(f"{one.name}:{one.dtype}" for one in each.features)
                for each in sources
            },
            "requests": sorted(
                f"{field.name}:{field.dtype}"
                for request in view.source_request_sources.values()
                for field in request.schema
            ),
            "code": getattr(view.feature_transformation, "udf_string", None),
        }
    return {"keys": {field.name: str(field.dtype) for field in view.entity_columns}}
