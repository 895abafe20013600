"""Ask a Great Expectations suite whether a dataset may go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import SchemaSkewError
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.records import DatasetRef, ValidationReport

if TYPE_CHECKING:
    from airflow.sdk import Context


class ValidateDataOperator(MlopsOperator):
    """Validate a dataset. Gives a ``ValidationReport``.

    Fails for good, without retries, if an expectation of severity ``critical`` does not hold;
    the report is then under the XCom key ``report``. Other outcomes are for the DAG to act on.

    Args:
        dataset: The ``DatasetRef`` to look at.
        suite: Path or fsspec URI of a suite in YAML or JSON.
    """

    template_fields: Sequence[str] = (*MlopsOperator.shared_template_fields, "dataset", "suite")

    def __init__(self, *, dataset: Any, suite: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.dataset = dataset
        self.suite = suite

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the suite and keep its report."""
        from airflow_mlops_provider.steps.validate import load_suite, validate_dataset

        with self.tracked_run(context) as run:
            suite = load_suite(self.suite)
            report = validate_dataset(
                DatasetRef.from_xcom(self.dataset),
                suite,
                suite_name=suite.get("name", self.suite),
                workspace=self.workspace_uri,
            )
            run.log_record(report)
            context["ti"].xcom_push(key="report", value=report.to_xcom())
            if report.outcome == "stop":
                raise SchemaSkewError(_told(report))
        self.log.info("%s: %d failures", report.outcome, len(report.failures))
        return report.to_xcom()


def _told(report: ValidationReport) -> str:
    critical = [failure for failure in report.failures if failure.severity == "critical"]
    shown = "; ".join(
        f"{failure.expectation}({failure.column or 'table'}): {failure.detail}"
        for failure in critical[:3]
    )
    return (
        f"{len(critical)} critical expectations of suite {report.suite!r} do not hold for "
        f"{report.dataset_uri}: {shown}. Correct the source, or the suite if the change is meant; "
        f"all failures are in {report.report_uri}."
    )
