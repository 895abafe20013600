"""Wait until files have arrived."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_mlops_provider.sensors.base import DeferrableSensor
from airflow_mlops_provider.triggers.data import NewDataTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class NewDataSensor(DeferrableSensor):
    """Wait until files have arrived and nobody writes to them any more. Gives their URIs.

    Args:
        path: Path, glob or fsspec URI of the files.
        settle_seconds: How long all of them must have been left alone.
        since: Leave out files last written to before this moment, ISO 8601.
    """

    template_fields: Sequence[str] = ("path", "settle_seconds", "since")

    def __init__(
        self,
        *,
        path: str,
        settle_seconds: float = 10,
        since: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path = path
        self.settle_seconds = settle_seconds
        self.since = since

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        files = look(self.path, float(self.settle_seconds), self.since)
        self.log.info("%d settled files at %s", len(files), self.path)
        return PokeReturnValue(is_done=bool(files), xcom_value=files)

    def trigger(self) -> NewDataTrigger:
        """Return what looks on in the triggerer."""
        return NewDataTrigger(
            path=self.path,
            settle_seconds=float(self.settle_seconds),
            since=self.since,
            poke_interval=self.poke_interval,
        )

    def execute_complete(self, context: Context, event: list[str]) -> list[str]:
        """Hand over what the trigger found."""
        self.log.info("%d settled files at %s", len(event), self.path)
        return event
