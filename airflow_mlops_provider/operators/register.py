"""Register model versions, and find them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.assets import model_asset
from airflow_mlops_provider.links import MlflowRunLink, ModelCardLink
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import (
    BehaviourReport,
    EvaluationReport,
    GateVerdict,
    ModelRef,
)

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

_NOBODY = "airflow"  # whom Airflow takes for the owner of a task that has none


class RegisterModelOperator(MlopsOperator):
    """Register a model once and make it the challenger. Gives a ``ModelVersionRef``.

    The first version under a name becomes the champion at once. An ``AssetAlias`` among the
    outlets receives an event of ``mlflow-model://name`` with the record as its extra. The model's
    card, behind a button, says what is known of it; in short it is the version's description.

    Args:
        model: The ``ModelRef`` to register.
        name: Name in the registry.
        evaluation: Its ``EvaluationReport``, kept with the version as the baseline that
            monitoring compares with.
        profile_uri: Drift profile of its training data, kept with the version as well.
        suite_uri: Suite of its training data, kept with the version: serving inputs are checked
            by it too.
        feature_service: The feature service it learned from, pinned, as the task of
            ``FeastHistoricalFeaturesOperator`` gives it: ``XComArg(task, key="feature_service")``.
        intended_use: What the model is for, and what not, in Markdown; for its card.
        verdict: The ``GateVerdict`` on it; for its card.
        behaviour: Its ``BehaviourReport`` or a list of them; for its card.
        version_tags: Further tags of the version.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "model",
        "name",
        "evaluation",
        "profile_uri",
        "suite_uri",
        "feature_service",
        "intended_use",
        "verdict",
        "behaviour",
        "version_tags",
    )
    operator_extra_links: Collection[BaseOperatorLink] = (MlflowRunLink(), ModelCardLink())

    def __init__(
        self,
        *,
        model: Any,
        name: str,
        evaluation: Any = None,
        profile_uri: str | None = None,
        suite_uri: str | None = None,
        feature_service: Any = None,
        intended_use: str | None = None,
        verdict: Any = None,
        behaviour: Any = (),
        version_tags: dict[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.name = name
        self.evaluation = evaluation
        self.profile_uri = profile_uri
        self.suite_uri = suite_uri
        self.feature_service = feature_service
        self.intended_use = intended_use
        self.verdict = verdict
        self.behaviour = behaviour
        self.version_tags = version_tags

    def execute(self, context: Context) -> dict[str, Any]:
        """Register, or find the version this model already has, and write its card."""
        from airflow_mlops_provider.steps.model_card import ModelCard
        from airflow_mlops_provider.steps.model_origin import PAGE, keep_card, origin_of
        from airflow_mlops_provider.steps.register import monitoring_tags, register_model

        with self.tracked_run(context) as run:
            model, told = ModelRef.from_xcom(self.model), self._told()
            learned_from = (self.profile_uri, self.suite_uri, self.feature_service)
            version = register_model(
                run.client,
                model,
                name=self.name,
                tags={
                    **monitoring_tags(told["evaluation"], *learned_from),
                    **(self.version_tags or {}),
                },
            )
            run.log_record(version)
            origin = origin_of(run.client, model.run_id)
            keep_card(run, ModelCard(version=version, model=model, origin=origin, **told))
            self.link_artifact(context, run, ModelCardLink.xcom_key, PAGE)
        self.log.info("Version %s of %r has %s", version.version, self.name, version.aliases)
        self.emit_asset(context, model_asset(self.name), version)
        return version.to_xcom()

    def _told(self) -> dict[str, Any]:
        """Return what the card is told, read before anything is registered."""
        known = {
            "Drift profile": self.profile_uri,
            "Suite": self.suite_uri,
            "Feature service": self.feature_service,
        }
        return {
            "intended_use": self.intended_use,
            "owner": None if self.owner == _NOBODY else self.owner,
            "evaluation": EvaluationReport.from_xcom(self.evaluation) if self.evaluation else None,
            "behaviour": BehaviourReport.several_from_xcom(self.behaviour),
            "verdict": GateVerdict.from_xcom(self.verdict) if self.verdict else None,
            "monitored_by": {label: uri for label, uri in known.items() if uri},
        }


class GetModelVersionOperator(MlopsOperator):
    """Look a model version up, so that later tasks all speak of the same one.

    Gives a ``ModelVersionRef``; skips itself, and so what depends on it, when there is none.

    Args:
        model: ``models:/name@alias`` or ``models:/name/version``.
    """

    template_fields: Sequence[str] = (*MlopsOperator.shared_template_fields, "model")

    def __init__(self, *, model: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model

    def execute(self, context: Context) -> dict[str, Any]:
        """Resolve the name."""
        from airflow_mlops_provider.steps.register import resolve_version

        with self.tracked_run(context) as run:
            version = resolve_version(run.client, self.model)
            if version is not None:
                run.log_record(version)
        if version is None:
            raise AirflowSkipException(f"No model version at {self.model}: nothing to do.")
        self.log.info("%s is version %s", self.model, version.version)
        return version.to_xcom()
