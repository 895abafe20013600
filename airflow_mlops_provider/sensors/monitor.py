"""Wait until monitoring asks for something to be done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf

from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.triggers.monitor import ModelPerformanceTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class ModelPerformanceSensor(BaseSensorOperator):
    """Wait until an endpoint's newest monitoring report carries a signal. Gives the report.

    Args:
        endpoint: Name of the endpoint.
        signals: Any of ``drift`` and ``performance``.
        newer_than: Leave out reports of this moment or before, ISO 8601, so that a signal which
            was already answered is not seen again.
        workspace: fsspec URI of the workspace; by default ``[mlops] workspace``.
        deferrable: Wait in the triggerer, without a worker slot.
    """

    template_fields: Sequence[str] = ("endpoint", "signals", "newer_than", "workspace")
    ui_color = "#e8f4fa"

    def __init__(
        self,
        *,
        endpoint: str,
        signals: Sequence[str] = ("drift", "performance"),
        newer_than: str | None = None,
        workspace: str | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.signals = signals
        self.newer_than = newer_than
        self.workspace = workspace
        self.deferrable = deferrable

    def execute(self, context: Context) -> Any:
        """Look once; if there is no signal, wait here or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        found = self.poke(context)
        if not found:
            self.defer(
                trigger=ModelPerformanceTrigger(
                    workspace=self.workspace or workspace_uri(),
                    endpoint=self.endpoint,
                    signals=self.signals,
                    newer_than=self.newer_than,
                    poke_interval=self.poke_interval,
                ),
                method_name="execute_complete",
                timeout=timedelta(seconds=self.timeout),
            )
        return found.xcom_value

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with failing_for_good():
            report = look(
                self.workspace or workspace_uri(), self.endpoint, self.signals, self.newer_than
            )
        return PokeReturnValue(is_done=report is not None, xcom_value=report)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand over the report that the trigger found."""
        self.log.info("Signals %s of %s: %s", event["signals"], self.endpoint, event["reasons"])
        return event
