"""Ask a Great Expectations suite whether data may go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.exceptions import ParameterError, SchemaSkewError
from airflow_mlops_provider.links import DataDocsLink
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.branch import BranchOnOutcome
from airflow_mlops_provider.records import (
    DatasetRef,
    ModelVersionRef,
    PredictionBatchRef,
    Record,
    ValidationReport,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

_PAGE = "data_docs.html"
_DATA = ("dataset", "source", "table", "predictions")


class ValidateDataOperator(MlopsOperator):
    """Validate a dataset, files, a table or predictions. Gives a ``ValidationReport``.

    Fails for good, without retries, if an expectation of severity ``critical`` does not hold;
    the report is then under the XCom key ``report``. Other outcomes are for the DAG to act on.
    Give one of ``dataset``, ``source``, ``table`` and ``predictions``.

    Args:
        suite: Path or fsspec URI of a suite in YAML or JSON, a dict, a ``gx.ExpectationSuite``, a
            list of expectation objects, or a function that returns one of these. A function lets
            the DAG file do without importing Great Expectations, which takes seconds. By default
            the suite of ``model_version``.
        model_version: The ``ModelVersionRef`` whose suite to use: what it learned from. The task
            skips itself if the version was registered without one.
        dataset: A ``DatasetRef``.
        source: Path, glob, folder or fsspec URI of Parquet or CSV files.
        table: Name of a table, validated where it lies, by SQL.
        schema: Schema of the table.
        conn_id: Connection of the table's database.
        predictions: A ``PredictionBatchRef``: its live, answered inputs are validated with the
            part of the suite that speaks of them. The task skips itself if there are none.
        columns: Use the part of the suite that needs no other columns: the features of a model,
            say. None uses all of it.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "suite",
        "model_version",
        "dataset",
        "source",
        "table",
        "schema",
        "conn_id",
        "predictions",
        "columns",
    )
    operator_extra_links = (*MlopsOperator.operator_extra_links, DataDocsLink())

    def __init__(
        self,
        *,
        suite: Any = None,
        model_version: Any = None,
        dataset: Any = None,
        source: str | None = None,
        table: str | None = None,
        schema: str | None = None,
        conn_id: str | None = None,
        predictions: Any = None,
        columns: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.suite = suite
        self.model_version = model_version
        self.dataset = dataset
        self.source = source
        self.table = table
        self.schema = schema
        self.conn_id = conn_id
        self.predictions = predictions
        self.columns = columns

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the suite and keep its report."""
        from airflow_mlops_provider.steps.data_docs import data_docs_page
        from airflow_mlops_provider.steps.suites import load_suite
        from airflow_mlops_provider.steps.validate import validate

        with self.tracked_run(context) as run:
            data = self._data()
            suite = load_suite(self._suite())
            validation = validate(
                data,
                suite,
                suite_name=suite["name"],
                workspace=self.workspace_uri,
                columns=self.columns,
            )
            report = validation.report
            run.log_record(report)
            run.log_page(data_docs_page(validation), _PAGE)
            self.link_artifact(context, run, DataDocsLink.xcom_key, _PAGE)
            context["ti"].xcom_push(key="report", value=report.to_xcom())
            if self._fails_on(report.outcome):
                raise SchemaSkewError(_told(report))
        self.log.info(
            "%s: %d failed, %d errored", report.outcome, report.n_failed, report.n_errored
        )
        return report.to_xcom()

    def _fails_on(self, outcome: str) -> bool:
        return outcome == "stop"

    def _suite(self) -> Any:
        """Return the suite as it was given, or where that of the model version lies."""
        if (self.suite is None) == (self.model_version is None):
            raise ParameterError(
                "ValidateDataOperator needs exactly one of suite and model_version. Got "
                f"{self.suite!r} and {self.model_version!r}; give one."
            )
        if self.suite is not None:
            return self.suite
        from airflow_mlops_provider.steps.register import promise_of

        version = ModelVersionRef.from_xcom(self.model_version)
        suite = promise_of(version).suite_uri
        if suite is None:
            raise AirflowSkipException(
                f"{version.model_uri} was registered without a suite: nothing to validate by."
            )
        return suite

    def _data(self) -> Any:
        """Return what is to be validated, as the step takes it."""
        given = [name for name in _DATA if getattr(self, name) is not None]
        if len(given) != 1:
            raise ParameterError(
                f"ValidateDataOperator needs exactly one of {', '.join(_DATA)}. Got "
                f"{' and '.join(given) or 'none of them'}; give one."
            )
        if self.table is None:
            records: dict[str, type[Record]] = {
                "dataset": DatasetRef,
                "predictions": PredictionBatchRef,
            }
            value = getattr(self, given[0])
            data = records[given[0]].from_xcom(value) if given[0] in records else value
            if isinstance(data, PredictionBatchRef) and not data.n_rows:
                raise AirflowSkipException(f"{data.uri} has no predictions to validate.")
            return data
        if self.conn_id is None:
            raise ParameterError.of(
                "conn_id", "ValidateDataOperator", "given with a table", self.conn_id
            )
        from airflow_mlops_provider.hooks.sql import database_url
        from airflow_mlops_provider.steps.database import DatabaseTable

        return DatabaseTable(database_url(self.conn_id), self.table, self.schema)


class ValidateDataBranchOperator(BranchOnOutcome, ValidateDataOperator):
    """Validate data, and go on with the tasks that belong to the outcome.

    ::

        validate = ValidateDataBranchOperator(
            task_id="validate",
            dataset=snapshot.output,
            suite="flights.yaml",
            follow={"stop": "alert", "retrain": "retrain", "warn": "go", "passed": "go"},
        )
        validate >> [alert, retrain, go]

    Without an entry for ``stop``, that outcome fails the task as ``ValidateDataOperator`` does.
    See there for the other arguments.

    Args:
        follow: Outcome (``passed``, ``warn``, ``retrain``, ``stop``) to the id or ids of tasks or
            task groups directly downstream; within a task group its own come first.
    """

    template_fields: Sequence[str] = (*ValidateDataOperator.template_fields, "follow")
    outcome_field = "outcome"
    outcomes = ("passed", "warn", "retrain", "stop")

    def __init__(self, *, follow: Mapping[str, str | Sequence[str]], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.follow = follow

    def _fails_on(self, outcome: str) -> bool:
        return super()._fails_on(outcome) and outcome not in self.follow


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
