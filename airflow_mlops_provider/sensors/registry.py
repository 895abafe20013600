"""Wait for a version in the model registry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import PokeReturnValue

from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.sensors.base import DeferrableSensor
from airflow_mlops_provider.triggers.registry import ModelVersionTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context


class ModelVersionSensor(DeferrableSensor):
    """Wait until a registered model has a (newer) version. Gives its ``ModelVersionRef``.

    Args:
        name: Of the registered model.
        newer_than: A version number; by default any version will do.
        mlflow_conn_id: Connection of the registry.
    """

    template_fields: Sequence[str] = ("name", "newer_than", "mlflow_conn_id")
    alias: str | None = None

    def __init__(
        self,
        *,
        name: str,
        newer_than: str | None = None,
        mlflow_conn_id: str = MlflowHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.newer_than = newer_than
        self.mlflow_conn_id = mlflow_conn_id

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once."""
        with failing_for_good():
            version = look(self.mlflow_conn_id, self.name, self.alias, self.newer_than)
        return PokeReturnValue(is_done=version is not None, xcom_value=version)

    def trigger(self) -> ModelVersionTrigger:
        """Return what looks on in the triggerer."""
        return ModelVersionTrigger(
            name=self.name,
            alias=self.alias,
            newer_than=self.newer_than,
            poke_interval=self.poke_interval,
            mlflow_conn_id=self.mlflow_conn_id,
        )

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Hand over the version that the trigger found."""
        self.log.info("Found version %s of %r", event["version"], self.name)
        return event


class ModelAliasSensor(ModelVersionSensor):
    """Wait until a version has an alias. Gives its ``ModelVersionRef``.

    Args:
        alias: The alias, ``champion`` for example; its version must be above ``newer_than``.
    """

    template_fields: Sequence[str] = (*ModelVersionSensor.template_fields, "alias")

    def __init__(self, *, alias: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.alias = alias
