"""Online features: a client sends the keys of its entities, Feast's online store the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feast import OnDemandFeatureView, ValueType
from feast.errors import FeastError
from feast.feature_view import DUMMY_ENTITY_ID

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.serving.feature_store import open_feature_store
from airflow_mlops_provider.serving.scoring import FEATURES_DOWN, ScoringError, invalid

if TYPE_CHECKING:
    from feast import FeatureService, FeatureStore
    from feast.feature_view_projection import FeatureViewProjection

FEATURE_SERVICE_TAG = "mlops.feature_service"
"""Tag of a model version: ``{name}@{sha256}`` of the feature service it learned from."""
ENTITIES = "entities"
_KEY_TYPES = {
    ValueType.STRING: str,
    ValueType.INT32: int,
    ValueType.INT64: int,
    ValueType.BOOL: bool,
}


@dataclass(frozen=True)
class OnlineFeatures:
    """Completes requests from the online store.

    Args:
        store: The feature store.
        service: The feature service that a model learned from.
        keys: The join keys, and the JSON type of those of which it is known.
        given: Columns that a request has to have: the join keys, what on-demand views request,
            and inputs of the model that the service does not give.
        inputs: The model's inputs.
    """

    store: FeatureStore
    service: FeatureService
    keys: Mapping[str, type | None]
    given: tuple[str, ...]
    inputs: tuple[str, ...]

    @classmethod
    def of(cls, store: FeatureStore, name: str, inputs: Sequence[str]) -> OnlineFeatures:
        """Look the feature service up.

        Raises:
            DataError: the feature store does not have it.
            ModelError: it has no join key, or gives none of the model's inputs.
        """
        try:
            service = store.get_feature_service(name)
            views = {view.name: view for view in store.list_all_feature_views()}
            keys = dict(_keys(service.feature_view_projections, views))
            requests = [*_requests(service.feature_view_projections, views)]
        except (FeastError, KeyError) as error:
            raise DataError(
                f"The feature store {store.project!r} does not know the feature service {name!r}: "
                f"{error}. Correct feature_service, or apply the repository that defines it."
            ) from error
        features = {one.name for each in service.feature_view_projections for one in each.features}
        if not keys or not features & set(inputs):
            raise ModelError(
                f"Expected the feature service {name!r} to have a join key and to give some of "
                f"the model's inputs {[*inputs]}, got keys {[*keys]}, features {sorted(features)}."
            )
        own = [column for column in inputs if column not in features]
        given = tuple(dict.fromkeys([*keys, *requests, *own]))
        return cls(store, service, keys, given, tuple(inputs))

    def asked(self, payload: Any) -> list[dict[str, Any]] | None:
        """Return the rows of a request to be completed; None if it brings its features along.

        Raises:
            ScoringError: its entities lack a column, or have one that is not asked for.
        """
        if not isinstance(payload, dict) or len(payload) != 1:
            return None
        ((form, value),) = payload.items()
        rows = _rows(form, value)
        if rows and (form == ENTITIES or all(row.keys() == set(self.given) for row in rows)):
            for row in rows:
                self._require(row)
            return rows
        if form == ENTITIES:
            raise invalid(f"Expected entities as rows or columns of {[*self.given]}.")
        return None

    def _require(self, row: Mapping[str, Any]) -> None:
        if row.keys() != set(self.given):
            raise invalid(f"Expected entities with {[*self.given]}, got {[*row]}.")
        for name, kind in self.keys.items():
            if row[name] is None or (kind and type(row[name]) is not kind):
                expected = kind.__name__ if kind else "value"
                raise invalid(f"Expected the key {name} to be a {expected}, got {row[name]!r:.80}.")

    def complete(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a request with all inputs of the model; of an unknown entity, features are null.

        Raises:
            ScoringError: the online store does not answer.
        """
        entities = [{name: row[name] for name in self.given} for row in rows]
        try:
            answer = self.store.get_online_features(features=self.service, entity_rows=entities)
            found = answer.to_dict()
        except Exception as error:  # each store fails in its own way
            message = f"The online store does not answer: {error}. Try again later."
            raise ScoringError(503, FEATURES_DOWN, message) from error
        columns = [
            found[name] if name in found else [row[name] for row in rows] for name in self.inputs
        ]
        data = [list(row) for row in zip(*columns, strict=True)]
        return {"dataframe_split": {"columns": [*self.inputs], "data": data}}


def online_features(
    repo: str, service: str | None, model_uri: str, workspace: Path, inputs: Sequence[str] | None
) -> OnlineFeatures:
    """Open a feature repository for a model.

    Args:
        repo: Folder of the repository.
        service: Feature service; None is the one that the model version learned from.
        model_uri: The model.
        workspace: Folder of the workspace, where a store without a path lies.
        inputs: The inputs of the model's signature.

    Raises:
        DataError: the repository or the service does not exist.
        ModelError: the model's inputs have no names, or are not those of the service.
        ParameterError: no service is given, and the model version does not name one.
    """
    if not inputs:
        raise ModelError(f"Expected {model_uri} to have a signature that names its inputs.")
    name = service or _learned_from(model_uri)
    return OnlineFeatures.of(open_feature_store(Path(repo), str(workspace)), name, inputs)


def _learned_from(model_uri: str) -> str:
    from mlflow import MlflowClient

    scheme, _, path = model_uri.partition(":/")
    name, _, version = path.strip("/").partition("/")
    tagged = None
    if scheme == "models" and version.isdecimal():
        tagged = MlflowClient().get_model_version(name, version).tags.get(FEATURE_SERVICE_TAG)
    if not tagged:
        raise ParameterError.of(
            "feature_service", "a deployment", f"given, as {model_uri} names none", None
        )
    return str(tagged).rpartition("@")[0]


def _rows(form: str, value: Any) -> list[dict[str, Any]] | None:
    """Return the rows of what may be entities, whichever way they are laid out."""
    if (
        form == "dataframe_split"
        and isinstance(value, dict)
        and value.keys() == {"columns", "data"}
    ):
        try:
            return [dict(zip(value["columns"], row, strict=True)) for row in value["data"]]
        except (TypeError, ValueError):
            return None
    if form == ENTITIES and isinstance(value, dict):
        columns = {k: v if isinstance(v, list) else [v] for k, v in value.items()}
        if len(set(map(len, columns.values()))) != 1:
            return None
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if form in (ENTITIES, "dataframe_records") and isinstance(value, list):
        return value if all(isinstance(row, dict) for row in value) else None
    return None


def _sources(
    projections: Sequence[FeatureViewProjection], views: Mapping[str, Any]
) -> Iterator[FeatureViewProjection]:
    """Give the projections of stored views, also those that only feed an on-demand view."""
    for projection in projections:
        view = views[projection.name]
        if isinstance(view, OnDemandFeatureView):
            yield from view.source_feature_view_projections.values()
        else:
            yield projection


def _keys(
    projections: Sequence[FeatureViewProjection], views: Mapping[str, Any]
) -> Iterator[tuple[str, type | None]]:
    for projection in _sources(projections, views):
        renamed = projection.join_key_map or {}
        for column in views[projection.name].entity_columns:
            if column.name != DUMMY_ENTITY_ID:
                kind = _KEY_TYPES.get(column.dtype.to_value_type())
                yield renamed.get(column.name, column.name), kind


def _requests(
    projections: Sequence[FeatureViewProjection], views: Mapping[str, Any]
) -> Iterator[str]:
    for projection in projections:
        view = views[projection.name]
        if isinstance(view, OnDemandFeatureView):
            for source in view.source_request_sources.values():
                yield from (each.name for each in source.schema)
