"""What tasks hand to each other: small frozen records of JSON values.

A record holds URIs, hashes, versions, metrics and small tables, never data frames, models or
NaN. Airflow refuses foreign classes when it reads an XCom, so operators return
:meth:`Record.to_xcom` (a plain dict) and rebuild the record with :meth:`Record.from_xcom`,
which validates every field and names the one that is wrong.
"""

from airflow_mlops_provider.records.base import (
    Metric,
    Record,
)
from airflow_mlops_provider.records.behaviour import (
    BehaviourReport,
    BehaviourResult,
    Counterexample,
)
from airflow_mlops_provider.records.data import (
    DatasetRef,
    DriftReport,
    ExpectationResult,
    FeatureDrift,
    SegmentDrift,
    SplitRef,
    ValidationReport,
)
from airflow_mlops_provider.records.delivery import (
    EndpointRef,
    PredictionBatchRef,
    RolloutVerdict,
)
from airflow_mlops_provider.records.environments import (
    PipelineEnvironment,
    PipelinePromotion,
    PipelineRunCheck,
)
from airflow_mlops_provider.records.evaluation import (
    ArtifactCheck,
    EvaluationReport,
    EvaluationSpec,
    Fairness,
    GateReason,
    GateVerdict,
    Importance,
    ModelCost,
    SliceMetric,
    UnusableModel,
)
from airflow_mlops_provider.records.experiments import ABTestVerdict, BanditVerdict
from airflow_mlops_provider.records.features import (
    FeatureSkew,
    FeatureSkewReport,
    SkewExample,
)
from airflow_mlops_provider.records.maturity import (
    CriterionResult,
    MaturityReport,
    SchemeResult,
)
from airflow_mlops_provider.records.models import (
    EarlyStopping,
    ModelRef,
    ModelVersionRef,
    SearchSpec,
    StudyRef,
    TrainingSpec,
)
from airflow_mlops_provider.records.monitoring import (
    AttributionDrift,
    FeatureQuality,
    Finding,
    MonitoringReport,
    SegmentReport,
)
from airflow_mlops_provider.records.notebooks import NotebookRun
from airflow_mlops_provider.records.pipelines import (
    PipelineBuild,
    PipelineCheck,
    PipelineStagingReport,
    PipelineTestReport,
    PublishedPipeline,
)
from airflow_mlops_provider.records.predictions import ModelBundleRef, PredictionPartsRef
from airflow_mlops_provider.records.reproduction import (
    Difference,
    PredictionComparison,
    ReproductionReport,
)
from airflow_mlops_provider.records.retraining import (
    AlertAnswer,
    RetrainingDecision,
    RetrainingEvent,
    RetrainingOutcome,
    RollbackVerdict,
)
from airflow_mlops_provider.records.runs import (
    DatasetUse,
    PipelineRunReport,
    PipelineRunSummary,
    TaskRunReport,
)

__all__ = [
    "ABTestVerdict",
    "AlertAnswer",
    "ArtifactCheck",
    "AttributionDrift",
    "BanditVerdict",
    "BehaviourReport",
    "BehaviourResult",
    "Counterexample",
    "CriterionResult",
    "DatasetRef",
    "DatasetUse",
    "Difference",
    "DriftReport",
    "EarlyStopping",
    "EndpointRef",
    "EvaluationReport",
    "EvaluationSpec",
    "ExpectationResult",
    "Fairness",
    "FeatureDrift",
    "FeatureQuality",
    "FeatureSkew",
    "FeatureSkewReport",
    "Finding",
    "GateReason",
    "GateVerdict",
    "Importance",
    "MaturityReport",
    "Metric",
    "ModelBundleRef",
    "ModelCost",
    "ModelRef",
    "ModelVersionRef",
    "MonitoringReport",
    "NotebookRun",
    "PipelineBuild",
    "PipelineCheck",
    "PipelineEnvironment",
    "PipelinePromotion",
    "PipelineRunCheck",
    "PipelineRunReport",
    "PipelineRunSummary",
    "PipelineStagingReport",
    "PipelineTestReport",
    "PredictionBatchRef",
    "PredictionComparison",
    "PredictionPartsRef",
    "PublishedPipeline",
    "Record",
    "ReproductionReport",
    "RetrainingDecision",
    "RetrainingEvent",
    "RetrainingOutcome",
    "RollbackVerdict",
    "RolloutVerdict",
    "SchemeResult",
    "SearchSpec",
    "SegmentDrift",
    "SegmentReport",
    "SkewExample",
    "SliceMetric",
    "SplitRef",
    "StudyRef",
    "TaskRunReport",
    "TrainingSpec",
    "UnusableModel",
    "ValidationReport",
]
