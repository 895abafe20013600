"""Wait in the triggerer until files have arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class NewDataTrigger(BaseTrigger):
    """Fire with the list of files once they have arrived and settled.

    Args:
        path: Path, glob or fsspec URI.
        settle_seconds: How long the files must have been left alone.
        since: Leave out files last written to before this moment, ISO 8601.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self, path: str, settle_seconds: float, since: str | None, poke_interval: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.path = path
        self.settle_seconds = settle_seconds
        self.since = since
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to build this trigger again."""
        return (
            "airflow_mlops_provider.triggers.data.NewDataTrigger",
            {
                "path": self.path,
                "settle_seconds": self.settle_seconds,
                "since": self.since,
                "poke_interval": self.poke_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to fire with."""
        while not (files := await asyncio.to_thread(self._look)):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(files)

    def _look(self) -> list[str]:
        return look(self.path, self.settle_seconds, self.since)


def look(path: str, settle_seconds: float, since: str | None) -> list[str]:
    """Look once for files that arrived; what the sensor and the trigger share."""
    from airflow_mlops_provider.steps.arrivals import modified_times, settled_files

    oldest = datetime.fromisoformat(since) if since else None
    return settled_files(
        modified_times(path),
        datetime.now(UTC),
        settle_seconds=settle_seconds,
        since=oldest.replace(tzinfo=oldest.tzinfo or UTC) if oldest else None,
    )
