"""The model registry: register once, and find by alias."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    RESOURCE_ALREADY_EXISTS,
    ErrorCode,
)

from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.records import EvaluationReport, ModelRef, ModelVersionRef
from airflow_mlops_provider.steps.find_runs import quoted
from airflow_mlops_provider.steps.promotion_lock import promotion_lock
from airflow_mlops_provider.steps.registry_errors import is_absent

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
PROFILE_TAG = "mlops.profile_uri"
SUITE_TAG = "mlops.suite_uri"
PREDICTIONS_TAG = "mlops.predictions_uri"
FEATURE_SERVICE_TAG = "mlops.feature_service"
BASELINE_TAG = "mlops.baseline."


@dataclass(frozen=True)
class Promise:
    """What monitoring compares a model's live traffic with."""

    model_uri: str | None = None
    baseline: float | None = None
    profile_uri: str | None = None
    suite_uri: str | None = None
    predictions_uri: str | None = None
    """Scores and labels of the evaluation."""


def register_model(
    client: MlflowClient,
    model: ModelRef,
    *,
    name: str,
    tags: Mapping[str, str] | None = None,
) -> ModelVersionRef:
    """Register a model, or find the version it already has; make it the challenger.

    The first version under a name becomes the champion at once: there is nothing to challenge.

    Raises:
        ModelError: there is no such model; nothing is registered then.
        ParameterError: the registry refuses the name.
        MlflowUnavailableError: another registration or promotion did not end in time.
    """
    _require_model(client, model)
    _ensure_registered_model(client, name)
    with promotion_lock(client, name) as require_held:
        version = _version_of(client, name, model.model_id)
        if version is None:
            require_held()
            version = client.create_model_version(
                name, model.model_uri, run_id=model.run_id, model_id=model.model_id
            )
        for key, value in (tags or {}).items():
            client.set_model_version_tag(name, version.version, key, str(value))
        champion = find_version(client, name, CHAMPION)
        require_held()
        if champion is None:
            client.set_registered_model_alias(name, CHAMPION, version.version)
        elif champion.version != str(version.version):
            client.set_registered_model_alias(name, CHALLENGER, version.version)
    return _ref(client, name, str(version.version))


def monitoring_tags(
    report: EvaluationReport | None,
    profile_uri: str | None,
    suite_uri: str | None,
    feature_service: str | None = None,
) -> dict[str, str]:
    """Return the tags by which monitoring knows what a version promised and learned from."""
    metrics = report.metrics if report else {}
    promised = {f"{BASELINE_TAG}{name}": repr(metric.value) for name, metric in metrics.items()}
    learned_from = {
        PROFILE_TAG: profile_uri,
        SUITE_TAG: suite_uri,
        PREDICTIONS_TAG: report.predictions_uri if report else None,
        FEATURE_SERVICE_TAG: feature_service,
    }
    return promised | {tag: uri for tag, uri in learned_from.items() if uri}


def promise_of(version: ModelVersionRef, metric: str = "auc") -> Promise:
    """Return what :func:`monitoring_tags` kept with a version."""
    baseline = version.tags.get(f"{BASELINE_TAG}{metric}")
    return Promise(
        model_uri=version.model_uri,
        baseline=None if baseline is None else float(baseline),
        profile_uri=version.tags.get(PROFILE_TAG),
        suite_uri=version.tags.get(SUITE_TAG),
        predictions_uri=version.tags.get(PREDICTIONS_TAG),
    )


def find_version(client: MlflowClient, name: str, alias: str) -> ModelVersionRef | None:
    """Return the version that carries ``alias``, or None."""
    try:
        return _ref(client, name, client.get_model_version_by_alias(name, alias).version)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def resolve_version(client: MlflowClient, model: str) -> ModelVersionRef | None:
    """Return the version that ``models:/name@alias`` or ``models:/name/3`` names, or None."""
    path = model.removeprefix("models:/")
    name, at, alias = path.partition("@")
    if at:
        return find_version(client, name, alias)
    name, slash, version = path.partition("/")
    if not slash or not version.isdigit():
        raise ParameterError.of(
            "model", "the registry", "like 'models:/name@alias' or 'models:/name/3'", model
        )
    try:
        return _ref(client, name, version)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise


def model_uri(client: MlflowClient, model: ModelRef | str, *, optional: bool) -> str | None:
    """Return the URI of a model, with a registry alias resolved to its version.

    Returns:
        None when ``optional`` and the registry has no such version.

    Raises:
        ModelError: the registry has no such version.
    """
    if not isinstance(model, str):
        return model.model_uri
    if not is_registered(model):
        return model
    if optional:
        version = resolve_version(client, model)
        return version.model_uri if version else None
    return require_version(client, model).model_uri


def is_registered(model: str) -> bool:
    """Tell whether a URI names a version of the registry."""
    return model.startswith("models:/") and not model.startswith("models:/m-")


def require_version(client: MlflowClient, model: str) -> ModelVersionRef:
    """Return the version that ``models:/name@alias`` or ``models:/name/3`` names.

    Raises:
        ModelError: the registry has no such version.
    """
    version = resolve_version(client, model)
    if version is None:
        raise ModelError(
            f"Expected a version at {model!r} in the registry, found none. Check the name and "
            "the alias, or register a model first."
        )
    return version


def feature_service_of(client: MlflowClient, model: str) -> str | None:
    """Return the pinned feature service that a model of the registry learned from, if any."""
    if not is_registered(model):
        return None
    return require_version(client, model).tags.get(FEATURE_SERVICE_TAG)


def _ensure_registered_model(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(INVALID_PARAMETER_VALUE):
            constraint = "a name that the registry takes, without '/' and ':'"
            raise ParameterError.of("name", "register_model", constraint, name) from error
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _require_model(client: MlflowClient, model: ModelRef) -> None:
    try:
        client.get_logged_model(model.model_id)
    except MlflowException as error:
        if not is_absent(error):
            raise
        raise ModelError(
            f"MLflow has no model {model.model_uri}. Run the task that trained it again (clear it)."
        ) from error


def _version_of(client: MlflowClient, name: str, model_id: str) -> ModelVersion | None:
    versions = client.search_model_versions(f"name = {quoted(name)}")
    return next((found for found in versions if _model_id(found) == model_id), None)


def _model_id(version: ModelVersion) -> str | None:
    """Return the logged model behind a version; stores in SQL keep it only in the source."""
    if version.model_id:
        return str(version.model_id)
    source = version.source or ""
    return source.removeprefix("models:/") if source.startswith("models:/m-") else None


def _ref(client: MlflowClient, name: str, version: str | int) -> ModelVersionRef:
    found = client.get_model_version(name, str(version))
    return ModelVersionRef(
        name=name,
        version=str(found.version),
        model_uri=f"models:/{name}/{found.version}",
        model_id=_model_id(found),
        run_id=found.run_id,
        aliases=sorted(found.aliases),
        tags=dict(found.tags),
    )
