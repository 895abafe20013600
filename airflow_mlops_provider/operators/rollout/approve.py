"""Let a rollout go on that holds its traffic until somebody approves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import RegistryConflictError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good

if TYPE_CHECKING:
    from airflow.sdk import Context

_POLL_SECONDS = 1.0


class ApproveRolloutOperator(MlopsOperator):
    """Approve of what a rollout waits for, and see that it goes on.

    Put it behind Airflow's ``ApprovalOperator``, and that behind a ``RolloutApprovalSensor``, in a
    branch beside the rollout's own task: a rejection skips it, so the rollout stays where it is
    until ``approval_seconds`` are over, or until its task is marked failed, which rolls back.
    Gives the rollout's state as it is then.

    Args:
        endpoint: Name of the endpoint.
        approved_by: Who approves; kept with the evidence.
        timeout_seconds: How long the rollout may take to go on: a look, or an outage of its driver.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "endpoint",
        "approved_by",
        "timeout_seconds",
        "serving_conn_id",
    )

    def __init__(
        self,
        *,
        endpoint: str,
        approved_by: str = "{{ dag.dag_id }}.{{ task.task_id }} {{ run_id }}",
        timeout_seconds: float = 300,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.approved_by = approved_by
        self.timeout_seconds = timeout_seconds
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Approve until the driver has taken it."""
        from airflow_mlops_provider.steps.rollout.drive import approve

        deadline = time.monotonic() + float(self.timeout_seconds)
        with failing_for_good(), ServingHook(self.serving_conn_id).get_conn() as client:
            before = client.get_rollout(self.endpoint) or {}
            if before.get("state") != "AWAIT_APPROVAL":
                raise RegistryConflictError(
                    f"No rollout of {self.endpoint!r} awaits approval (found "
                    f"{before.get('state', 'none')}). Wait for one with RolloutApprovalSensor."
                )
            while approve(client, self.endpoint, self.approved_by):
                if time.monotonic() > deadline:
                    raise RegistryConflictError(
                        f"The rollout of {self.endpoint!r} was approved but does not go on. "
                        "Look at its task, which should drive it."
                    )
                time.sleep(_POLL_SECONDS)
            after = client.get_rollout(self.endpoint) or {}
        self.log.info("Approved: %s goes on with %s", self.endpoint, after.get("state"))
        return {key: after.get(key) for key in ("candidate", "champion", "state", "weight")}
