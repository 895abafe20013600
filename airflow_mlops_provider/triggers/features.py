"""Wait in the triggerer until features have been taken online."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.hooks.feast import FeastHook


class FeatureFreshnessTrigger(BaseTrigger):
    """Fire once every feature view is fresh: ``{"ends": ...}``, or ``{"error": ...}`` for good.

    Args:
        repo_path: Folder with ``feature_store.yaml``.
        feast_conn_id: Connection whose extra is laid over it.
        workspace: fsspec URI of the workspace.
        feature_views: Names; None means all that are served online.
        fresh_after: The moment that each view must have reached, ISO 8601; or
        max_age: how long ago it may be: seconds or an ISO 8601 duration.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self,
        *,
        repo_path: str,
        feast_conn_id: str,
        workspace: str,
        feature_views: str | Sequence[str] | None,
        fresh_after: str | None,
        max_age: str | float | None,
        poke_interval: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.question: dict[str, Any] = {
            "repo_path": repo_path,
            "feast_conn_id": feast_conn_id,
            "workspace": workspace,
            "feature_views": feature_views,
            "fresh_after": fresh_after,
            "max_age": max_age,
        }
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        return (
            "airflow_mlops_provider.triggers.features.FeatureFreshnessTrigger",
            {**self.question, "poke_interval": self.poke_interval},
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the newest end of each view."""
        told = None
        try:
            while stale := (found := await asyncio.to_thread(look, **self.question))["stale"]:
                if stale != told:
                    self.log.info("Waiting for %s; newest ends: %s", stale, found["ends"])
                    told = stale
                await asyncio.sleep(self.poke_interval)
        except PermanentError as error:
            yield TriggerEvent({"error": str(error)})
        else:
            yield TriggerEvent({"ends": found["ends"]})


def look(
    *,
    repo_path: str,
    feast_conn_id: str,
    workspace: str,
    feature_views: str | Sequence[str] | None,
    fresh_after: str | None,
    max_age: str | float | None,
) -> dict[str, Any]:
    """Return the newest end of each view, and the views that are ``stale``."""
    from airflow_mlops_provider.steps.features.freshness import newest_ends, stale_views

    ends = newest_ends(FeastHook(feast_conn_id, repo_path, workspace).get_conn(), feature_views)
    stale = stale_views(ends, now=datetime.now(UTC), fresh_after=fresh_after, max_age=max_age)
    return {"ends": ends, "stale": stale}
