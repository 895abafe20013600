"""Move the aliases of a registered model: promotion, roll-back, and everything else.

MLflow's aliases have no compare-and-set. So whoever moves ``champion`` holds a lock, names the
champion the decision was taken against, and refuses when it is another one by then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import ModelError, ParameterError, RegistryConflictError
from airflow_mlops_provider.steps.find_runs import quoted
from airflow_mlops_provider.steps.promotion_lock import promotion_lock
from airflow_mlops_provider.steps.register import (
    CHALLENGER,
    CHAMPION,
    PREVIOUS,
    find_version,
    model_uri,
    resolve_version,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import ModelVersionRef

REPLACED_TAG = "mlops.replaced"
"""On a version that was promoted: the version it took the place of."""
ROLLED_BACK_TAG = "mlops.rolled_back"
"""On a version that lost its place: why."""
ROLLED_BACK_BY_TAG = "mlops.rolled_back_by"


def promote_version(
    client: MlflowClient, version: ModelVersionRef, *, expected_champion: str | None
) -> ModelVersionRef:
    """Make a version the champion, and the champion the ``previous``.

    Args:
        client: Of the registry.
        version: Who becomes champion.
        expected_champion: The champion's version number when the decision was taken; None if
            there was none. Promoting the champion again changes nothing.

    Raises:
        ModelError: the registry has no such version.
        RegistryConflictError: another version is champion by now.
        MlflowUnavailableError: another promotion did not end in time; a retry may help.
    """
    name = version.name
    model_uri(client, f"models:/{name}/{version.version}", optional=False)
    with promotion_lock(client, name) as require_held:
        found = _champion(client, name)
        if found != version.version:
            _require_champion(name, found, expected_champion)
            require_held()
            if found is not None:
                client.set_model_version_tag(name, version.version, REPLACED_TAG, found)
                client.set_registered_model_alias(name, PREVIOUS, found)
            require_held()
            client.set_registered_model_alias(name, CHAMPION, version.version)
        challenger = find_version(client, name, CHALLENGER)
        if challenger and challenger.version == version.version:
            client.delete_registered_model_alias(name, CHALLENGER)
    return _confirmed(client, version)


def roll_back(
    client: MlflowClient, name: str, *, reason: str, by: str, expected_champion: str | None = None
) -> ModelVersionRef:
    """Make the ``previous`` version champion again; give it.

    What it once replaced becomes ``previous``. The version that loses its place keeps ``reason``
    and ``by`` as tags.

    Args:
        client: Of the registry.
        name: Of the registered model.
        reason: Why.
        by: Who rolls back; doing it again under the same name changes nothing.
        expected_champion: Which version is to be rolled back; None for whoever is champion.

    Raises:
        ModelError: there is no champion, or nothing to go back to.
        RegistryConflictError: another version is champion by now.
    """
    with promotion_lock(client, name) as require_held:
        champion = find_version(client, name, CHAMPION)
        target = _predecessor(client, name, champion)
        lost = _rolled_back(client, name, by)
        if lost is not None and champion and champion.version != lost:
            target = champion  # an earlier try went through, or nearly
        elif champion is None or target is None:
            raise ModelError(
                f"Expected {name!r} to have a champion and a previous version to go back to, got "
                f"{champion and champion.version} and {target and target.version}. Promote a "
                "version by hand."
            )
        else:
            if expected_champion is not None:
                _require_champion(name, champion.version, expected_champion)
            client.set_model_version_tag(name, champion.version, ROLLED_BACK_TAG, reason)
            client.set_model_version_tag(name, champion.version, ROLLED_BACK_BY_TAG, by)
            require_held()
            client.set_registered_model_alias(name, CHAMPION, target.version)
        _set_previous(client, name, target)
    return _confirmed(client, target)


def _predecessor(
    client: MlflowClient, name: str, champion: ModelVersionRef | None
) -> ModelVersionRef | None:
    """Return the ``previous`` version; where a promotion died half-way, the one before it."""
    found = find_version(client, name, PREVIOUS)
    if champion is None or found is None or found.version != champion.version:
        return found
    before = champion.tags.get(REPLACED_TAG)
    return resolve_version(client, f"models:/{name}/{before}") if before else None


def _rolled_back(client: MlflowClient, name: str, by: str) -> str | None:
    """Return the version that ``by`` rolled back before."""
    query = f"name = {quoted(name)} and tags.`{ROLLED_BACK_BY_TAG}` = {quoted(by)}"
    versions = client.search_model_versions(query)
    return str(versions[0].version) if versions else None


def _set_previous(client: MlflowClient, name: str, champion: ModelVersionRef) -> None:
    before = champion.tags.get(REPLACED_TAG)
    if before is not None:
        client.set_registered_model_alias(name, PREVIOUS, before)
    elif find_version(client, name, PREVIOUS) is not None:
        client.delete_registered_model_alias(name, PREVIOUS)


def set_alias(client: MlflowClient, model: str, alias: str) -> ModelVersionRef:
    """Give the version at ``model`` an alias of one's own.

    Raises:
        ModelError: the registry has no such version.
        ParameterError: ``champion`` and ``previous`` move by promotion and roll-back only.
    """
    if alias in (CHAMPION, PREVIOUS):
        constraint = "another one than 'champion' and 'previous': promote or roll back instead"
        raise ParameterError.of("alias", "set_alias", constraint, alias)
    version = resolve_version(client, model)
    if version is None:
        raise ModelError(f"Expected a version at {model!r} in the registry, found none.")
    client.set_registered_model_alias(version.name, alias, version.version)
    found = find_version(client, version.name, alias)
    assert found is not None
    return found


def _champion(client: MlflowClient, name: str) -> str | None:
    current = find_version(client, name, CHAMPION)
    return current.version if current else None


def _require_champion(name: str, found: str | None, expected: str | None) -> None:
    if found != expected:
        raise RegistryConflictError(
            f"Expected version {expected} of {name!r} to be champion, found {found}. "
            "Another pipeline moved it meanwhile: evaluate against the new champion."
        )


def _confirmed(client: MlflowClient, version: ModelVersionRef) -> ModelVersionRef:
    winner = find_version(client, version.name, CHAMPION)
    if winner is None or winner.version != version.version:
        raise RegistryConflictError(
            f"Version {version.version} of {version.name!r} was made champion, but "
            f"{winner.version if winner else 'no version'} is champion now: somebody moved the "
            "alias by hand. Run the delivery again."
        )
    return winner
