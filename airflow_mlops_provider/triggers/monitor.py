"""Wait until monitoring asks for something to be done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class ModelPerformanceTrigger(BaseTrigger):
    """Fire once the report on an endpoint's newest window carries a signal.

    Args:
        workspace: fsspec URI of the workspace.
        endpoint: Name of the endpoint.
        signals: Any of the signals of a ``MonitoringReport``.
        newer_than: Leave out reports of this moment or before, ISO 8601.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self,
        *,
        workspace: str,
        endpoint: str,
        signals: Sequence[str],
        newer_than: str | None,
        poke_interval: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.workspace = workspace
        self.endpoint = endpoint
        self.signals = list(signals)
        self.newer_than = newer_than
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "workspace": self.workspace,
            "endpoint": self.endpoint,
            "signals": self.signals,
            "newer_than": self.newer_than,
            "poke_interval": self.poke_interval,
        }
        return "airflow_mlops_provider.triggers.monitor.ModelPerformanceTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield one event with the report."""
        while (
            report := await asyncio.to_thread(
                look, self.workspace, self.endpoint, self.signals, self.newer_than
            )
        ) is None:
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(report)


def look(
    workspace: str, endpoint: str, signals: Sequence[str], newer_than: str | None
) -> dict[str, Any] | None:
    """Return the newest report if it carries one of ``signals``, as tasks hand it over."""
    from airflow_mlops_provider.steps.reports import find_signal

    report = find_signal(workspace, endpoint, signals=signals, newer_than=newer_than)
    return report.to_xcom() if report else None
