"""Wait in the triggerer for what happens in the model registry, whoever did it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import ServiceError
from airflow_mlops_provider.hooks.mlflow import MlflowHook

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.registry_events import RegistryState

_STATE_KEY = "mlops_registry"
_HAND_OVER_SECONDS = 3.0  # within one, the triggerer writes down the events it was given


class ModelVersionTrigger(BaseTrigger):
    """Fire once the registry has a version as asked for, with its ``ModelVersionRef``.

    A registry that does not answer is asked again.

    Args:
        name: Of the registered model.
        alias: Alias the version must have; None for the newest version.
        newer_than: Its number must be higher than this version's.
        poke_interval: Seconds between two looks.
        mlflow_conn_id: Connection of the registry.
    """

    def __init__(
        self,
        *,
        name: str,
        alias: str | None,
        newer_than: str | None,
        poke_interval: float,
        mlflow_conn_id: str,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.name = name
        self.alias = alias
        self.newer_than = newer_than
        self.poke_interval = poke_interval
        self.mlflow_conn_id = mlflow_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "name": self.name,
            "alias": self.alias,
            "newer_than": self.newer_than,
            "poke_interval": self.poke_interval,
            "mlflow_conn_id": self.mlflow_conn_id,
        }
        return "airflow_mlops_provider.triggers.registry.ModelVersionTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the version."""
        while (version := await asyncio.to_thread(self._look)) is None:
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(version)

    def _look(self) -> dict[str, Any] | None:
        try:
            return look(self.mlflow_conn_id, self.name, self.alias, self.newer_than)
        except ServiceError as error:
            self.log.warning("Looking again in %s s: %s", self.poke_interval, error)
            return None


class ModelRegistryTrigger(BaseEventTrigger):
    """Turn what happens to a registered model into events of an asset, for an ``AssetWatcher``.

    All changes between two looks are one event of the asset, for Airflow wakes a DAG once for
    several that come at the same moment and lets it see only the first. Its payload has ``name``
    and ``changes``, each with ``event`` (``version_created``, ``alias_set`` or ``alias_deleted``),
    ``name``, ``version``, ``alias`` and ``previous`` (who had the alias before). What was there
    when the trigger first looked is no change. What was told is kept with the asset a moment later:
    a restart of the triggerer loses nothing, and only one within that moment tells twice.

    Args:
        name: Of the registered model.
        events: Which kinds of change to tell; None for all.
        aliases: Which aliases to tell of; None for all.
        poke_interval: Seconds between two looks.
        mlflow_conn_id: Connection of the registry.
    """

    def __init__(
        self,
        *,
        name: str,
        events: list[str] | None = None,
        aliases: list[str] | None = None,
        poke_interval: float = 10,
        mlflow_conn_id: str = MlflowHook.default_conn_name,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.name = name
        self.events = events
        self.aliases = aliases
        self.poke_interval = poke_interval
        self.mlflow_conn_id = mlflow_conn_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "name": self.name,
            "events": self.events,
            "aliases": self.aliases,
            "poke_interval": self.poke_interval,
            "mlflow_conn_id": self.mlflow_conn_id,
        }
        return "airflow_mlops_provider.triggers.registry.ModelRegistryTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event whenever something changed, for as long as somebody watches."""
        seen = await self._remembered()
        while True:
            state = await asyncio.to_thread(self._look)
            if state is not None and state != seen:
                if changes := self._changes(seen, state):
                    yield TriggerEvent({"name": self.name, "changes": changes})
                seen = state
                await asyncio.sleep(_HAND_OVER_SECONDS)
                await self._remember(state)
            await asyncio.sleep(self.poke_interval)

    def _look(self) -> RegistryState | None:
        """Return the registry's state, or None while it does not answer."""
        from airflow_mlops_provider.steps.registry_events import registry_state

        try:
            return registry_state(MlflowHook(self.mlflow_conn_id).get_conn(), self.name)
        except ServiceError as error:
            self.log.warning("Looking again in %s s: %s", self.poke_interval, error)
            return None

    def _changes(
        self, seen: RegistryState | None, state: RegistryState
    ) -> list[dict[str, str | None]]:
        from airflow_mlops_provider.steps.registry_events import registry_events

        found = registry_events(self.name, seen, state) if seen else []
        return [event for event in found if self._is_wanted(event)]

    def _is_wanted(self, event: dict[str, str | None]) -> bool:
        if self.events is not None and event["event"] not in self.events:
            return False
        return self.aliases is None or event["alias"] in (None, *self.aliases)

    async def _remembered(self) -> RegistryState | None:
        from airflow_mlops_provider.steps.registry_events import RegistryState

        stored = await self.asset_state_store.aget(_STATE_KEY) if self.asset_state_store else None
        return RegistryState.of(stored) if isinstance(stored, dict) else None

    async def _remember(self, state: RegistryState) -> None:
        if self.asset_state_store:
            await self.asset_state_store.aset(_STATE_KEY, state.to_json())


def look(
    mlflow_conn_id: str, name: str, alias: str | None, newer_than: str | None
) -> dict[str, Any] | None:
    """Look once for a version; what the sensors and the trigger share."""
    from airflow_mlops_provider.steps.registry_events import newest_version

    client = MlflowHook(mlflow_conn_id).get_conn()
    version = newest_version(client, name, alias=alias, newer_than=newer_than)
    return version.to_xcom() if version else None
