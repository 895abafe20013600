"""Put model versions behind an endpoint, and take them away again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import Context


class DeployModelOperator(MlopsOperator):
    """Serve a registered model version, with all traffic or dark beside the champion.

    Gives an ``EndpointRef``. The deployment of version 3 is named ``v3``.

    Args:
        model_version: The ``ModelVersionRef`` to serve.
        endpoint: Name of the endpoint; created if there is none.
        traffic: 100 switches all traffic to it, 0 only makes it ready; None is 100 while the
            endpoint has no traffic yet, and 0 afterwards.
        keep: How many of the newest versions stay deployed even without traffic.
        ready_timeout_seconds: How long loading the model may take, making its environment included.
        options: How it is served: ``workers``, ``memory_mb``, ``environment``, ``durability`` and
            what else ``serving/options.py`` names. A version keeps its options for life; None
            leaves a version that is served already as it is.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "model_version",
        "endpoint",
        "traffic",
        "keep",
        "ready_timeout_seconds",
        "options",
        "serving_conn_id",
    )

    def __init__(
        self,
        *,
        model_version: Any,
        endpoint: str,
        traffic: int | None = None,
        keep: int = 2,
        ready_timeout_seconds: float = 180,
        options: dict[str, Any] | None = None,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model_version = model_version
        self.endpoint = endpoint
        self.traffic = traffic
        self.keep = keep
        self.ready_timeout_seconds = ready_timeout_seconds
        self.options = options
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the model and, if told to, switch the traffic."""
        from airflow_mlops_provider.steps.deploy import deploy_model

        with self.tracked_run(context) as run:
            ref = deploy_model(
                ServingHook(self.serving_conn_id).get_conn(),
                self.endpoint,
                ModelVersionRef.from_xcom(self.model_version),
                None if self.traffic is None else int(self.traffic),
                keep=int(self.keep),
                ready_timeout_seconds=float(self.ready_timeout_seconds),
                options=self.options,
            )
            run.log_record(ref)
        self.log.info("Endpoint %s sends its traffic to %s", ref.endpoint, ref.traffic)
        return ref.to_xcom()


class UndeployModelOperator(MlopsOperator):
    """Delete a deployment that has no traffic; one that is gone already is no error.

    Gives an ``EndpointRef``. Undeploying the candidate of an ended rollout also forgets that
    rollout, so that the same version can be rolled out again.

    Args:
        endpoint: Name of the endpoint.
        deployment: Name of the deployment, such as ``v3``.
        serving_conn_id: Connection of the serving host.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "endpoint",
        "deployment",
        "serving_conn_id",
    )

    def __init__(
        self,
        *,
        endpoint: str,
        deployment: str,
        serving_conn_id: str = ServingHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.deployment = deployment
        self.serving_conn_id = serving_conn_id

    def execute(self, context: Context) -> dict[str, Any]:
        """Stop the deployment."""
        from airflow_mlops_provider.steps.deploy import undeploy_model

        with self.tracked_run(context) as run:
            client = ServingHook(self.serving_conn_id).get_conn()
            ref = undeploy_model(client, self.endpoint, self.deployment)
            run.log_record(ref)
        self.log.info("Endpoint %s is left with %s", ref.endpoint, sorted(ref.deployments))
        return ref.to_xcom()
