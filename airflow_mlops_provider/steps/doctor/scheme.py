"""What a maturity model is here: levels, and a table of criteria with their sources."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.doctor.probes import Probe

TRAIN = ("TrainModelOperator",)
REGISTER = ("RegisterModelOperator",)
PIPELINE = (*TRAIN, *REGISTER)
"""What makes a DAG a training pipeline; one of these."""
ANY_TRAINING = (*TRAIN, "MlflowRunDecoratedOperator", "RunNotebookOperator")
"""What may train; the last two do so only in a training pipeline."""
EVALUATE = ("EvaluateModelOperator",)
GATE = ("ValidateModelOperator",)
CHECK_DATA = (
    "ValidateDataOperator",
    "ExpectationsDecoratedOperator",
    "DetectDriftOperator",
)
GET_DATA = ("SnapshotDatasetOperator", "DatasetDecoratedOperator")
DELIVER = ("DeployModelOperator", "ReleaseOperator", "BatchPredictOperator")
MONITOR = ("MonitorModelOperator",)
SIGNAL = (*MONITOR, "DetectDriftOperator")
USE_FEATURES = ("FeastHistoricalFeaturesOperator",)
ONLINE = ("CanaryRolloutOperator", "ABTestOperator", "BanditRolloutOperator")
TRACKED = ("MlopsOperator",)


@dataclass(frozen=True)
class Criterion:
    """One thing a level asks for.

    Args:
        level: The level that asks for it first.
        name: Short, unique in its scheme.
        asks: What the source wants, in our words.
        source: Section of the scheme's page.
        probe: How the facts answer.
        remedy: Operator, command or page that brings it.
        required: False for what the source calls optional, only recommends, or ties to a product.
    """

    level: int
    name: str
    asks: str
    source: str
    probe: Probe
    remedy: str
    required: bool = True


@dataclass(frozen=True)
class Scheme:
    """A published maturity model.

    Args:
        name: Who published it.
        url: Where.
        titles: Of the levels, from 0.
        criteria: Of all levels from 1; level 0 asks for nothing.
    """

    name: str
    url: str
    titles: tuple[str, ...]
    criteria: tuple[Criterion, ...]
