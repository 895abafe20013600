"""What a task read and wrote, in the words of OpenLineage.

Imported only once OpenLineage asks: it needs the extra ``openlineage``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    data_quality_assertions_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    datasource_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
)

from airflow_mlops_provider.records import (
    DatasetRef,
    ModelRef,
    ModelVersionRef,
    PredictionBatchRef,
    PredictionPartsRef,
    Record,
    SplitRef,
    ValidationReport,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.operators.base import MlopsOperator

_ARGUMENTS: tuple[type[Record], ...] = (DatasetRef, SplitRef, ModelRef, ModelVersionRef)
_SEVERITIES = {"critical": "error", "warning": "warn", "info": "info"}


def lineage_of(operator: MlopsOperator) -> OperatorLineage:
    """Return datasets and models in and out: those of the arguments, and those it recorded.

    A dataset is named within its workspace, with its hash as the version; a model within its
    MLflow server.
    """
    run = operator.mlflow_run
    results = list(_parts(run.records)) if run else []
    read = [dataset for dataset, _ in run.datasets] if run else []
    given = list(_arguments(getattr(operator, name, None) for name in operator.template_fields))
    reports = [result for result in results if isinstance(result, ValidationReport)]
    datasets = {each.uri: each for each in [*_only(DatasetRef, given), *read]}
    written = {each.uri: each for each in _only(DatasetRef, results)}
    registry = _without_credentials(run.client.tracking_uri) if run else ""
    models = [each for each in given if isinstance(each, ModelRef | ModelVersionRef)]
    inputs = [_input(ref, reports) for uri, ref in datasets.items() if uri not in written]
    inputs += [_checked(report) for report in reports if report.dataset_uri not in datasets]
    outputs = [_output(ref) for ref in written.values()]
    outputs += [
        _scores(each)
        for each in results
        if isinstance(each, PredictionBatchRef | PredictionPartsRef)
    ]
    if run:
        inputs += [InputDataset(**_model(each, registry)) for each in models]
        outputs += [OutputDataset(**_model(each, registry)) for each in _models(results, models)]
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _models(results: Iterable[Record], given: list[Any]) -> Iterator[ModelRef | ModelVersionRef]:
    """Yield the models that were made; a version that no given model became was looked up."""
    for each in results:
        if isinstance(each, ModelRef) or (isinstance(each, ModelVersionRef) and given):
            yield each


def _arguments(values: Iterable[Any]) -> Iterator[Record]:
    """Yield the records among arguments, also in the lists and dicts of a function's."""
    for value in values:
        record = _record(value)
        if record is not None:
            yield from _parts([record])
        elif isinstance(value, Mapping):
            yield from _arguments(value.values())
        elif isinstance(value, list | tuple):
            yield from _arguments(value)


def _record(value: Any) -> Record | None:
    names = set(value) if isinstance(value, Mapping) else set()
    for kind in _ARGUMENTS:
        if isinstance(value, kind) or names == {each.name for each in fields(kind)}:
            return kind.from_xcom(value)
    return None


def _parts(records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        yield from (record.train, record.test) if isinstance(record, SplitRef) else (record,)


def _only(kind: type[DatasetRef], records: Iterable[Record]) -> Iterator[DatasetRef]:
    return (each for each in records if isinstance(each, kind))


def _input(ref: DatasetRef, reports: Iterable[ValidationReport]) -> InputDataset:
    rows = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=ref.n_rows)
    checks: dict[str, InputDatasetFacet] = {"inputStatistics": rows}
    for report in reports:
        if report.dataset_uri == ref.uri:
            checks["dataQualityAssertions"] = _assertions(report)
    return InputDataset(
        namespace=_namespace(ref.uri), name=ref.name, facets=_facets(ref), inputFacets=checks
    )


def _checked(report: ValidationReport) -> InputDataset:
    """Return what was validated, known by its URI alone."""
    checks: dict[str, InputDatasetFacet] = {"dataQualityAssertions": _assertions(report)}
    uri = report.dataset_uri
    return InputDataset(namespace=_namespace(uri), name=uri, inputFacets=checks)


def _output(ref: DatasetRef) -> OutputDataset:
    rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=ref.n_rows)
    return OutputDataset(
        namespace=_namespace(ref.uri),
        name=ref.name,
        facets=_facets(ref),
        outputFacets={"outputStatistics": rows},
    )


def _scores(ref: PredictionBatchRef | PredictionPartsRef) -> OutputDataset:
    """Return predictions, named by their place in the workspace."""
    workspace, _, place = ref.uri.partition("/predictions/")
    rows = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=ref.n_rows)
    return OutputDataset(
        namespace=workspace if "://" in workspace else f"file://{workspace}",
        name=f"predictions/{place}",
        facets={"version": dataset_version_dataset.DatasetVersionDatasetFacet(ref.file_hash)},
        outputFacets={"outputStatistics": rows},
    )


def _facets(ref: DatasetRef) -> dict[str, DatasetFacet]:
    columns = [
        schema_dataset.SchemaDatasetFacetFields(name=name, type=kind)
        for name, kind in ref.columns.items()
    ]
    return {
        "schema": schema_dataset.SchemaDatasetFacet(fields=columns),
        "dataSource": datasource_dataset.DatasourceDatasetFacet(
            name=_namespace(ref.uri), uri=ref.uri
        ),
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(ref.file_hash),
    }


def _assertions(
    report: ValidationReport,
) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet:
    """Return the suite's verdict, and each expectation that did not hold."""
    assertion = data_quality_assertions_dataset.Assertion
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        assertions=[
            assertion(assertion=report.suite, success=report.outcome == "passed"),
            *(
                assertion(
                    assertion=each.expectation,
                    success=False,
                    column=each.column,
                    severity=_SEVERITIES[each.severity],
                    actual=each.detail,
                )
                for each in report.failures
            ),
        ]
    )


def _model(model: ModelRef | ModelVersionRef, registry: str) -> dict[str, Any]:
    """Return namespace, name and facets of a model."""
    if isinstance(model, ModelRef):
        name, version = model.model_uri, model.model_id
    else:
        name, version = f"models:/{model.name}", model.version
    facets: dict[str, DatasetFacet] = {
        "datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType="MODEL"),
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(version),
    }
    return {"namespace": registry, "name": name, "facets": facets}


def _namespace(uri: str) -> str:
    """Return the workspace that a file lies in, or its bucket, or ``file``."""
    workspace, separator, _ = uri.partition("/datasets/")
    if separator:
        return workspace if "://" in workspace else f"file://{workspace}"
    bucket = re.match(r"[^:/]+://[^/]+", uri)
    return bucket[0] if bucket else "file"


def _without_credentials(uri: str) -> str:
    return re.sub(r"//[^/@]*@", "//", uri)
