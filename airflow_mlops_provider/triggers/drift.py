"""Wait until drift asks for retraining."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import PermanentError
from airflow_mlops_provider.triggers.looking import pause, shared_look


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
        """Yield one event with the report, or ``{"error": ...}`` if no look can succeed."""
        question = (self.workspace, self.name, self.since)
        try:
            while (report := await shared_look(look, *question)) is None:
                await pause(self.poke_interval)
        except PermanentError as error:
            report = {"error": str(error)}
        yield TriggerEvent(report)


def look(workspace: str, name: str, since: str | None) -> dict[str, Any] | None:
    """Return the newest check if it asks for retraining, as tasks hand it over."""
    from airflow_mlops_provider.steps.drift.history import find_drift

    report = find_drift(workspace, name, newer_than=since)
    return report.to_xcom() if report else None
