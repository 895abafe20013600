"""One file per step: build the hook, call the step, log once, return the record."""

from airflow_mlops_provider.operators.ab_test import ABTestOperator
from airflow_mlops_provider.operators.alert import JudgeAlertOperator
from airflow_mlops_provider.operators.approve import ApproveModelOperator
from airflow_mlops_provider.operators.artifact import CheckModelArtifactOperator
from airflow_mlops_provider.operators.bandit import BanditRolloutOperator
from airflow_mlops_provider.operators.behaviour import CheckModelBehaviourOperator
from airflow_mlops_provider.operators.compact import CompactPredictionLogOperator
from airflow_mlops_provider.operators.degraded import RollbackDegradedModelOperator
from airflow_mlops_provider.operators.deploy import DeployModelOperator, UndeployModelOperator
from airflow_mlops_provider.operators.drift import (
    DetectDriftBranchOperator,
    DetectDriftOperator,
    ProfileDatasetOperator,
)
from airflow_mlops_provider.operators.evaluate import EvaluateModelOperator
from airflow_mlops_provider.operators.export import ExportModelOperator
from airflow_mlops_provider.operators.feature_skew import CheckFeatureSkewOperator
from airflow_mlops_provider.operators.features import (
    CheckFeatureServiceOperator,
    FeastApplyOperator,
    FeastHistoricalFeaturesOperator,
    FeastPushOperator,
)
from airflow_mlops_provider.operators.gate import ValidateModelOperator
from airflow_mlops_provider.operators.labels import JoinLabelsOperator
from airflow_mlops_provider.operators.materialize import FeastMaterializeOperator
from airflow_mlops_provider.operators.monitor import MonitorModelOperator
from airflow_mlops_provider.operators.notebook import RunNotebookOperator
from airflow_mlops_provider.operators.pipeline import (
    FinishPipelineRunOperator,
    StartPipelineRunOperator,
)
from airflow_mlops_provider.operators.pipeline_cd import (
    CheckPipelineRunOperator,
    PromotePipelineOperator,
    RollbackPipelineOperator,
    WaitForDagVersionOperator,
)
from airflow_mlops_provider.operators.pipeline_ci import (
    BuildPipelineOperator,
    PublishPipelineOperator,
    StagePipelineOperator,
    TestPipelineOperator,
)
from airflow_mlops_provider.operators.predict import BatchPredictOperator
from airflow_mlops_provider.operators.register import (
    GetModelVersionOperator,
    RegisterModelOperator,
)
from airflow_mlops_provider.operators.registry import (
    PromoteModelOperator,
    RollbackModelOperator,
    SetModelAliasOperator,
)
from airflow_mlops_provider.operators.retrain import (
    DecideRetrainingOperator,
    RecordRetrainingOperator,
)
from airflow_mlops_provider.operators.rollout.approve import ApproveRolloutOperator
from airflow_mlops_provider.operators.rollout.blue_green import BlueGreenRolloutOperator
from airflow_mlops_provider.operators.rollout.canary import CanaryRolloutOperator
from airflow_mlops_provider.operators.rollout.shadow import ShadowRolloutOperator
from airflow_mlops_provider.operators.snapshot import SnapshotDatasetOperator
from airflow_mlops_provider.operators.split import SplitDatasetOperator
from airflow_mlops_provider.operators.train import TrainModelOperator
from airflow_mlops_provider.operators.tune import RunTrialsOperator, TuneModelOperator
from airflow_mlops_provider.operators.validate import (
    ValidateDataBranchOperator,
    ValidateDataOperator,
)

__all__ = [
    "ABTestOperator",
    "ApproveModelOperator",
    "ApproveRolloutOperator",
    "BanditRolloutOperator",
    "BatchPredictOperator",
    "BlueGreenRolloutOperator",
    "BuildPipelineOperator",
    "CanaryRolloutOperator",
    "CheckFeatureServiceOperator",
    "CheckFeatureSkewOperator",
    "CheckModelArtifactOperator",
    "CheckModelBehaviourOperator",
    "CheckPipelineRunOperator",
    "CompactPredictionLogOperator",
    "DecideRetrainingOperator",
    "DeployModelOperator",
    "DetectDriftBranchOperator",
    "DetectDriftOperator",
    "EvaluateModelOperator",
    "ExportModelOperator",
    "FeastApplyOperator",
    "FeastHistoricalFeaturesOperator",
    "FeastMaterializeOperator",
    "FeastPushOperator",
    "FinishPipelineRunOperator",
    "GetModelVersionOperator",
    "JoinLabelsOperator",
    "JudgeAlertOperator",
    "MonitorModelOperator",
    "ProfileDatasetOperator",
    "PromoteModelOperator",
    "PromotePipelineOperator",
    "PublishPipelineOperator",
    "RecordRetrainingOperator",
    "RegisterModelOperator",
    "RollbackDegradedModelOperator",
    "RollbackModelOperator",
    "RollbackPipelineOperator",
    "RunNotebookOperator",
    "RunTrialsOperator",
    "SetModelAliasOperator",
    "ShadowRolloutOperator",
    "SnapshotDatasetOperator",
    "SplitDatasetOperator",
    "StagePipelineOperator",
    "StartPipelineRunOperator",
    "TestPipelineOperator",
    "TrainModelOperator",
    "TuneModelOperator",
    "UndeployModelOperator",
    "ValidateDataBranchOperator",
    "ValidateDataOperator",
    "ValidateModelOperator",
    "WaitForDagVersionOperator",
]
