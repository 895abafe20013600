"""Wait until drift asks for retraining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.sensors.base import DeferrableSensor
from airflow_mlops_provider.triggers.drift import DataDriftTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class DataDriftSensor(DeferrableSensor):
    """Wait until the newest drift check asks for retraining. Gives its ``DriftReport``.

    Args:
        name: What ``DetectDriftOperator`` calls the data.
        since: Leave out checks made at this moment or before, ISO 8601, so that drift which was
            already answered is not seen again.
        workspace: fsspec URI of the workspace; by default ``[mlops] workspace``.
    """

    template_fields: Sequence[str] = ("name", "since", "workspace")

    def __init__(
        self,
        *,
        name: str,
        since: str | None = None,
        workspace: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.since = since
        self.workspace = workspace

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with failing_for_good():
            report = look(self.workspace or workspace_uri(), self.name, self.since)
        return PokeReturnValue(is_done=report is not None, xcom_value=report)

    def trigger(self) -> DataDriftTrigger:
        """Return what looks on in the triggerer."""
        return DataDriftTrigger(
            workspace=self.workspace or workspace_uri(),
            name=self.name,
            since=self.since,
            poke_interval=self.poke_interval,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand over the report that the trigger found."""
        if "error" in event:
            raise AirflowFailException(event["error"])
        self.log.info("%s drifted for %d windows in a row", self.name, event["streak"])
        return event
