"""Check that a model acts as it should when its inputs change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import GateRefusedError, ParameterError
from airflow_mlops_provider.links import BehaviourLink
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import BehaviourReport, DatasetRef, ModelRef

if TYPE_CHECKING:
    from airflow.sdk import Context


class CheckModelBehaviourOperator(MlopsOperator):
    """Run behavioural tests on a model. Gives a ``BehaviourReport``.

    A test that fails does not fail the task: the gate decides by the report. With
    ``fail_on="critical"`` it does, for good, without retries; the report is then under the XCom
    key ``report``, and as ``behaviour.html`` in the MLflow run.

    Args:
        model: A ``ModelRef``, or a model URI such as ``models:/name@challenger``.
        dataset: The ``DatasetRef`` of the rows to try it on, with the model's features.
        tests: Path or fsspec URI of a suite in YAML or JSON, a dict, a list of tests (dicts, or
            objects of ``steps.behaviour.declared``), or a function that returns one of these.
        seed: Of the rows that are drawn.
        fail_on: ``critical`` fails the task if a critical test failed or could not be run; None
            leaves that to the gate.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "model",
        "dataset",
        "tests",
        "seed",
        "fail_on",
    )
    operator_extra_links = (*MlopsOperator.operator_extra_links, BehaviourLink())

    def __init__(
        self,
        *,
        model: Any,
        dataset: Any,
        tests: Any,
        seed: int = 0,
        fail_on: Literal["critical"] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.dataset = dataset
        self.tests = tests
        self.seed = seed
        self.fail_on = fail_on

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the tests, and keep the report as a page."""
        from airflow_mlops_provider.steps.behaviour.check import check_behaviour
        from airflow_mlops_provider.steps.behaviour.page import PAGE, behaviour_page
        from airflow_mlops_provider.steps.register import model_uri

        with self.tracked_run(context) as run:
            if self.fail_on not in ("critical", None):
                raise ParameterError.of(
                    "fail_on", self.task_type, "'critical' or None", self.fail_on
                )
            given = self.model if isinstance(self.model, str) else ModelRef.from_xcom(self.model)
            check = check_behaviour(
                str(model_uri(run.client, given, optional=False)),
                DatasetRef.from_xcom(self.dataset),
                self.tests,
                workspace=self.workspace_uri,
                seed=int(self.seed),
            )
            report = check.report
            run.log_record(report)
            run.log_page(behaviour_page(check), PAGE)
            self.link_artifact(context, run, BehaviourLink.xcom_key, PAGE)
            context["ti"].xcom_push(key="report", value=report.to_xcom())
            if self.fail_on and report.outcome == "failed":
                raise GateRefusedError(_told(report))
        self.log.info(
            "%s: %d of %d tests failed, %d errored",
            report.outcome,
            report.n_failed,
            report.n_tests,
            report.n_errored,
        )
        return report.to_xcom()


def _told(report: BehaviourReport) -> str:
    critical = [
        each for each in report.tests if each.severity == "critical" and each.outcome != "passed"
    ]
    shown = "; ".join(f"{each.name} ({each.outcome}): {each.detail}" for each in critical[:3])
    return (
        f"{report.model_uri} does not behave as the suite {report.suite!r} demands: {shown}. Train "
        f"another model, or correct a test; all results are in {report.report_uri}."
    )
