"""The criteria of Microsoft's levels, from its tables; how people work together is not looked at.

What the tables tie to a product of Azure is advice here.
"""

from __future__ import annotations

from airflow_mlops_provider.steps.doctor.probes import (
    ci_builds,
    ci_tests,
    either,
    every,
    integration_tests,
    service,
    unit_tests,
    uses,
    version_control,
    woken_by,
)
from airflow_mlops_provider.steps.doctor.scheme import (
    ANY_TRAINING,
    DELIVER,
    EVALUATE,
    GATE,
    GET_DATA,
    MONITOR,
    ONLINE,
    PIPELINE,
    REGISTER,
    SIGNAL,
    TRACKED,
    USE_FEATURES,
    Criterion,
    Scheme,
)

_LEVEL_1 = (
    Criterion(
        1,
        "version control",
        "code is under version control",
        "Level 1, Technology",
        version_control,
        "git init",
    ),
    Criterion(
        1,
        "automated builds",
        "what is released is built by a system",
        "Level 1, Technology",
        either(ci_builds, uses("BuildPipelineOperator")),
        "a workflow of the forge (airflow-mlops init), or BuildPipelineOperator",
    ),
    Criterion(
        1,
        "automated tests",
        "a system runs the unit tests of the code",
        "Level 1, Technology; Application integration",
        every(unit_tests, either(ci_tests, uses("TestPipelineOperator"))),
        "a workflow of the forge (airflow-mlops init), or TestPipelineOperator",
    ),
    Criterion(
        1,
        "integration tests",
        "basic integration tests exist for the model",
        "Level 1, Application integration",
        integration_tests,
        "tests/integration (airflow-mlops init)",
    ),
    Criterion(
        1,
        "data pipeline",
        "a pipeline gathers data automatically",
        "Level 1, Model creation",
        uses(*GET_DATA, automatic=True),
        "SnapshotDatasetOperator or @task.dataset in a DAG that starts by itself",
    ),
)

_LEVEL_2 = (
    Criterion(
        2,
        "automated training",
        "models are trained by scheduled or event-driven jobs",
        "Level 2, Technology",
        uses(*ANY_TRAINING, beside=PIPELINE, automatic=True),
        "a schedule or assets for the training DAG (dags/level1_continuous_training.py)",
    ),
    Criterion(
        2,
        "experiment tracking",
        "the results of trainings are tracked in one place",
        "Level 2, Technology; Model creation",
        every(uses(*TRACKED, beside=PIPELINE), service("mlflow", "tracked")),
        "TrainModelOperator or @task.mlflow_run, and an MLflow (docs/tracking.md)",
    ),
    Criterion(
        2,
        "model management",
        "models have versions in a registry",
        "Level 2, Technology; Model creation",
        every(uses(*REGISTER), service("mlflow", "aliases")),
        "RegisterModelOperator (docs/promotion.md)",
    ),
    Criterion(
        2,
        "feature store",
        "a managed feature store is used",
        "Level 2, Technology (a product of Azure there)",
        uses(*USE_FEATURES),
        "FeastHistoricalFeaturesOperator (docs/feature-store.md)",
        required=False,
    ),
)

_LEVEL_3 = (
    Criterion(
        3,
        "automatic release",
        "models are released by a pipeline, not by a person",
        "Level 3, Model release",
        every(uses(*DELIVER, automatic=True), service("serving", "endpoints")),
        "DeployModelOperator in a DAG that starts by itself (docs/serving.md)",
    ),
    Criterion(
        3,
        "A/B testing",
        "models are compared under live traffic as a part of deployment",
        "Level 3, Technology",
        uses(*ONLINE, automatic=True),
        "ABTestOperator or CanaryRolloutOperator (docs/ab-tests.md)",
    ),
    Criterion(
        3,
        "tests of each model",
        "each release of a model is tested alone and where it is served",
        "Level 3, Application integration",
        uses("CheckModelArtifactOperator", "CheckModelBehaviourOperator", beside=PIPELINE),
        "CheckModelArtifactOperator, CheckModelBehaviourOperator (docs/behavioural-tests.md)",
    ),
    Criterion(
        3,
        "tests of all code",
        "a system runs unit and integration tests",
        "Level 3, Technology; Application integration",
        every(unit_tests, integration_tests, either(ci_tests, uses("TestPipelineOperator"))),
        "tests run by a workflow of the forge, or TestPipelineOperator",
    ),
    Criterion(
        3,
        "traceability",
        "a deployed model leads back to the data it was trained on",
        "Level 3, Highlights",
        every(
            uses(*GET_DATA, beside=PIPELINE),
            uses(*REGISTER, automatic=True),
            service("mlflow", "runs"),
        ),
        "SnapshotDatasetOperator in the DAG that trains and registers (docs/reproducibility.md)",
    ),
    Criterion(
        3,
        "managed environments",
        "training, test and production are environments that a system moves releases through",
        "Level 3, Highlights; Technology (a product of Azure there)",
        every(uses("StagePipelineOperator"), uses("PromotePipelineOperator")),
        "StagePipelineOperator, PromotePipelineOperator",
        required=False,
    ),
)

_LEVEL_4 = (
    Criterion(
        4,
        "automatic retraining",
        "drift or lost quality in production starts a training",
        "Level 4, Technology; Model creation",
        every(
            woken_by("mlops-drift", "mlops-performance", operators=PIPELINE, emitters=SIGNAL),
            service("workspace", "monitoring_reports"),
        ),
        "MonitorModelOperator; drift_asset and performance_asset start the training DAG",
    ),
    Criterion(
        4,
        "metrics of deployed models",
        "the deployed model gives detailed metrics in one place",
        "Level 4, Technology",
        every(
            uses(*MONITOR, automatic=True),
            service("workspace", "prediction_logs"),
        ),
        "CompactPredictionLogOperator and MonitorModelOperator on a schedule (docs/serving.md)",
    ),
    Criterion(
        4,
        "automated testing of models",
        "what is trained automatically is judged automatically",
        "Level 4, Technology",
        every(
            uses(*EVALUATE, beside=PIPELINE, automatic=True),
            uses(*GATE, beside=PIPELINE, automatic=True),
        ),
        "EvaluateModelOperator and ValidateModelOperator in the training DAG (docs/promotion.md)",
    ),
    Criterion(
        4,
        "policy-based promotion",
        "a policy, not a person, promotes models",
        "Level 4, Technology (a product of Azure there)",
        uses("PromoteModelOperator", automatic=True),
        "PromoteModelOperator after a canary (docs/promotion.md)",
        required=False,
    ),
    Criterion(
        4,
        "feature freshness",
        "the materialization and freshness of features are watched",
        "Level 4, Technology",
        uses("FeatureFreshnessSensor", "CheckFeatureSkewOperator"),
        "FeatureFreshnessSensor (docs/feature-store.md); only with a feature store",
        required=False,
    ),
)

MICROSOFT = Scheme(
    name="Microsoft",
    url="https://learn.microsoft.com/azure/architecture/ai-ml/guide/mlops-maturity-model",
    titles=(
        "no MLOps",
        "DevOps but no MLOps",
        "automated training",
        "automated model deployment",
        "full MLOps automated operations",
    ),
    criteria=(*_LEVEL_1, *_LEVEL_2, *_LEVEL_3, *_LEVEL_4),
)
