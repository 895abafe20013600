"""Wait until a rollout asks for approval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.exceptions import ServiceError
from airflow_mlops_provider.hooks.serving import ServingHook

if TYPE_CHECKING:
    from airflow.sdk import Context


class RolloutApprovalSensor(BaseSensorOperator):
    """Wait until the rollout on an endpoint awaits approval; skip when it ends without.

    Use ``mode="reschedule"``, which holds no worker slot between looks.

    Args:
        endpoint: Name of the endpoint.
        candidate: Name of the candidate's deployment, such as ``v3``.
        weight: Percent of traffic at which it asks; None takes any.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = ("endpoint", "candidate", "weight", "serving_conn_id")

    def __init__(
        self,
        *,
        endpoint: str,
        candidate: str,
        weight: int | None = None,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.candidate = candidate
        self.weight = weight
        self.serving_conn_id = serving_conn_id

    def poke(self, context: Context) -> bool:
        """Look at the rollout's document."""
        with ServingHook(self.serving_conn_id).get_conn() as client:
            try:
                document = client.get_rollout(self.endpoint) or {}
            except ServiceError as error:
                self.log.warning("Looking again later: %s", error)
                return False
        if document.get("candidate") != self.candidate:
            return False
        if document["state"] in ("ROLLED_BACK", "ROLLBACK_FAILED", "SUCCEEDED"):
            raise AirflowSkipException(
                f"The rollout of {self.candidate} on {self.endpoint} ended {document['state']}"
            )
        wanted = None if self.weight is None else int(self.weight)
        at_weight = wanted is None or document.get("weight") == wanted
        return document["state"] == "AWAIT_APPROVAL" and at_weight
