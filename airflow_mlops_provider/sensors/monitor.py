"""Wait until monitoring asks for something to be done."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.sensors.base import DeferrableSensor
from airflow_mlops_provider.triggers.monitor import ModelPerformanceTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class ModelPerformanceSensor(DeferrableSensor):
    """Wait until the report on an endpoint's newest window carries a signal. Gives the report.

    Args:
        endpoint: Name of the endpoint.
        signals: Any of the signals of a ``MonitoringReport``.
        newer_than: Leave out reports of this moment or before, ISO 8601, so that a signal which
            was already answered is not seen again.
        workspace: fsspec URI of the workspace; by default ``[mlops] workspace``.
    """

    template_fields: Sequence[str] = ("endpoint", "signals", "newer_than", "workspace")

    def __init__(
        self,
        *,
        endpoint: str,
        signals: Sequence[str] = ("drift", "performance"),
        newer_than: str | None = None,
        workspace: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.signals = signals
        self.newer_than = newer_than
        self.workspace = workspace

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with failing_for_good():
            report = look(
                self.workspace or workspace_uri(), self.endpoint, self.signals, self.newer_than
            )
        return PokeReturnValue(is_done=report is not None, xcom_value=report)

    def trigger(self) -> ModelPerformanceTrigger:
        """Return what looks on in the triggerer."""
        return ModelPerformanceTrigger(
            workspace=self.workspace or workspace_uri(),
            endpoint=self.endpoint,
            signals=self.signals,
            newer_than=self.newer_than,
            poke_interval=self.poke_interval,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand over the report that the trigger found."""
        self.log.info("Signals %s of %s: %s", event["signals"], self.endpoint, event["reasons"])
        return event
