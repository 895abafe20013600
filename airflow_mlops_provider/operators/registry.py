"""Move the aliases of registered models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.assets import model_asset
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.provenance import pipeline_tags
from airflow_mlops_provider.records import ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import Context


class PromoteModelOperator(MlopsOperator):
    """Make a version the champion by compare-and-set. Gives its ``ModelVersionRef``.

    Args:
        model_version: The ``ModelVersionRef`` to promote.
        expected_champion: The ``ModelVersionRef`` it was judged against; None if there was no
            champion. If another version is champion by now, the task fails for good.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "model_version",
        "expected_champion",
    )

    def __init__(self, *, model_version: Any, expected_champion: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model_version = model_version
        self.expected_champion = expected_champion

    def execute(self, context: Context) -> dict[str, Any]:
        """Move the aliases."""
        from airflow_mlops_provider.steps.promote import promote_version

        with self.tracked_run(context) as run:
            expected = self.expected_champion and ModelVersionRef.from_xcom(self.expected_champion)
            version = promote_version(
                run.client,
                ModelVersionRef.from_xcom(self.model_version),
                expected_champion=expected.version if expected else None,
            )
            run.log_record(version)
        self.log.info("Version %s of %r is champion", version.version, version.name)
        return version.to_xcom()


class RollbackModelOperator(MlopsOperator):
    """Make the previous champion champion again. Gives its ``ModelVersionRef``.

    A retry or a cleared task does not go back a second time. An ``AssetAlias`` among the outlets
    receives an event of ``mlflow-model://name`` with the record as its extra.

    Args:
        name: Of the registered model.
        reason: Why; it stays with the version that lost its place.
        expected_champion: The ``ModelVersionRef`` to be rolled back; by default whoever is
            champion. If another version is champion by now, the task fails for good.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "name",
        "reason",
        "expected_champion",
    )

    def __init__(
        self, *, name: str, reason: str, expected_champion: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.reason = reason
        self.expected_champion = expected_champion

    def execute(self, context: Context) -> dict[str, Any]:
        """Move the aliases back."""
        from airflow_mlops_provider.steps.promote import roll_back

        with self.tracked_run(context) as run:
            expected = self.expected_champion and ModelVersionRef.from_xcom(self.expected_champion)
            version = roll_back(
                run.client,
                self.name,
                reason=self.reason,
                by="/".join([*pipeline_tags(context).values(), self.task_id]),
                expected_champion=expected.version if expected else None,
            )
            run.log_record(version)
        self.log.info("Version %s of %r is champion again", version.version, version.name)
        self.emit_asset(context, model_asset(self.name), version)
        return version.to_xcom()


class SetModelAliasOperator(MlopsOperator):
    """Give a version an alias of one's own. Gives its ``ModelVersionRef``.

    ``champion`` and ``previous`` are moved by promotion and roll-back only.

    Args:
        model: ``models:/name@alias`` or ``models:/name/version``.
        alias: The alias it gets.
    """

    template_fields: Sequence[str] = (*MlopsOperator.shared_template_fields, "model", "alias")

    def __init__(self, *, model: str, alias: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.alias = alias

    def execute(self, context: Context) -> dict[str, Any]:
        """Set the alias."""
        from airflow_mlops_provider.steps.promote import set_alias

        with self.tracked_run(context) as run:
            version = set_alias(run.client, self.model, self.alias)
            run.log_record(version)
        self.log.info("Version %s of %r is %s", version.version, version.name, self.alias)
        return version.to_xcom()
