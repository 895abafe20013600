"""What happened in the model registry between two looks, whoever did it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from airflow_mlops_provider.exceptions import MlflowUnavailableError, ParameterError
from airflow_mlops_provider.steps.find_runs import quoted
from airflow_mlops_provider.steps.register import resolve_version
from airflow_mlops_provider.steps.registry_errors import is_absent, is_outage

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import ModelVersionRef


@dataclass(frozen=True)
class RegistryState:
    """Versions and aliases of one registered model."""

    newest: int = 0
    """The highest version number so far; 0 before the first."""
    aliases: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`of` reads back."""
        return asdict(self)

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> RegistryState:
        """Return what :meth:`to_json` gave."""
        return cls(int(stored["newest"]), dict(stored["aliases"]))


def registry_state(client: MlflowClient, name: str) -> RegistryState:
    """Look at a registered model; one that does not exist yet has no versions.

    Raises:
        MlflowUnavailableError: MLflow does not do its part.
    """
    try:
        model = client.get_registered_model(name)
        versions = client.search_model_versions(
            f"name = {quoted(name)}", max_results=1, order_by=["version_number DESC"]
        )
    except MlflowException as error:
        if is_absent(error):
            return RegistryState()
        if is_outage(error):
            raise MlflowUnavailableError(f"MLflow did not show {name!r}: {error}") from error
        raise
    newest = max((int(version.version) for version in versions), default=0)
    return RegistryState(newest, {alias: str(at) for alias, at in model.aliases.items()})


def registry_events(
    name: str, before: RegistryState, after: RegistryState
) -> list[dict[str, str | None]]:
    """Return the events between two states, in the order in which they can be acted on.

    Each has ``event`` (``version_created``, ``alias_set`` or ``alias_deleted``), ``name``,
    ``version``, ``alias`` and ``previous``, the version that had the alias before.
    """
    created = [
        _event("version_created", name, version=str(number))
        for number in range(before.newest + 1, after.newest + 1)
    ]
    moved = [
        _event("alias_set", name, version=version, alias=alias, previous=before.aliases.get(alias))
        for alias, version in sorted(after.aliases.items())
        if before.aliases.get(alias) != version
    ]
    deleted = [
        _event("alias_deleted", name, alias=alias, previous=version)
        for alias, version in sorted(before.aliases.items())
        if alias not in after.aliases
    ]
    return [*created, *moved, *deleted]


def _event(
    event: str,
    name: str,
    *,
    version: str | None = None,
    alias: str | None = None,
    previous: str | None = None,
) -> dict[str, str | None]:
    return {
        "event": event,
        "name": name,
        "version": version,
        "alias": alias,
        "previous": previous,
    }


def newest_version(
    client: MlflowClient, name: str, *, alias: str | None = None, newer_than: str | None = None
) -> ModelVersionRef | None:
    """Return the version with ``alias``, or the newest, if its number is above ``newer_than``.

    Raises:
        ParameterError: ``newer_than`` is not a version number.
    """
    floor = newer_than or "0"
    if not floor.isdigit():
        raise ParameterError.of("newer_than", "the registry", "a version number", newer_than)
    state = registry_state(client, name)
    found = state.aliases.get(alias) if alias else str(state.newest)
    if found is None or int(found) <= int(floor):
        return None
    return resolve_version(client, f"models:/{name}/{found}")
