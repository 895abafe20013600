"""Wait until drift asks for retraining."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class DataDriftTrigger(BaseTrigger):
    """Fire once the newest drift check of a name asks for retraining.

    Args:
        workspace: fsspec URI of the workspace.
        name: What ``DetectDriftOperator`` calls the data.
        since: Leave out checks made at this moment or before, ISO 8601.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self, *, workspace: str, name: str, since: str | None, poke_interval: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.workspace = workspace
        self.name = name
        self.since = since
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "workspace": self.workspace,
            "name": self.name,
            "since": self.since,
            "poke_interval": self.poke_interval,
        }
        return "airflow_mlops_provider.triggers.drift.DataDriftTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the report."""
        while (
            report := await asyncio.to_thread(look, self.workspace, self.name, self.since)
        ) is None:
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(report)


def look(workspace: str, name: str, since: str | None) -> dict[str, Any] | None:
    """Return the newest check if it asks for retraining, as tasks hand it over."""
    from airflow_mlops_provider.steps.drift.history import find_drift

    report = find_drift(workspace, name, newer_than=since)
    return report.to_xcom() if report else None
