"""A month in service: predictions as the serving host logs them, labels, and the monitor's look.

:func:`look` is where the replay asks the monitor; nothing else here knows its parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from airflow_mlops_provider.serving.prediction_log import PredictionLog
from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.evaluate import load_model, predict_score
from airflow_mlops_provider.steps.labels import join_labels
from airflow_mlops_provider.steps.metrics.figures import Sample
from airflow_mlops_provider.steps.monitor.model import monitor_model
from airflow_mlops_provider.workspace import join
from flights.columns import ENTITY, FEATURES, TARGET, TIME
from flights.replay_data import LABEL_TIME, end_of, flights_between, labels_known
from flights.settings import ENDPOINT

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import DatasetRef, MonitoringReport, PredictionBatchRef
    from flights.replay_models import Candidate, Workshop

MAX_DROP, MAX_DRIFTED_SHARE = 0.02, 0.3
"""The monitor's defaults."""


@dataclass(frozen=True)
class Live:
    """What a model did in a month, and what the monitor said as the month ended."""

    report: MonitoringReport
    sample: Sample
    """Scores and the truth of all flights that arrived, also those that landed too late for the
    monitor's look."""
    days: NDArray[Any]
    """The day of each row of the sample."""


class Service:
    """Has models answer for the flights of a month; what was done once is not done again.

    Args:
        workshop: Whose models they are, and whose workspace is used.
    """

    def __init__(self, workshop: Workshop) -> None:
        self._workspace = workshop.workspace
        self._month = cache(self._known)
        self._done: dict[tuple[str, str], Live] = {}

    def live(self, champion: Candidate, month: str) -> Live:
        """Serve the flights of ``month`` with ``champion``, and look as the month ends."""
        key = (champion.model.model_uri, month)
        if key not in self._done:
            self._done[key] = self._live(champion, month)
        return self._done[key]

    def _known(self, month: str) -> tuple[pd.DataFrame, DatasetRef]:
        """Return the flights of a month, and the labels that had come as it ended."""
        flights = flights_between(self._workspace, month, end_of(month).isoformat())
        return flights, labels_known(flights, month, self._workspace)

    def _live(self, champion: Candidate, month: str) -> Live:
        flights, labels = self._month(month)
        predictions = log_predictions(flights, champion, join(self._workspace, "live", month))
        scored = pd.read_parquet(predictions.uri, columns=["entity_id", "score"])
        arrived = flights[flights[TARGET].notna()].merge(
            scored, left_on=ENTITY, right_on="entity_id"
        )
        return Live(
            report=look(champion, predictions, labels, self._workspace),
            sample=Sample.of(arrived[TARGET], arrived["score"]),
            days=arrived[TIME].dt.floor("D").to_numpy(),
        )


def log_predictions(flights: pd.DataFrame, champion: Candidate, folder: str) -> PredictionBatchRef:
    """Have ``champion`` answer for ``flights``, log that by the serving host's own writer, compact.

    Nothing is served over the network, so latencies are missing.
    """
    uri = champion.model.model_uri
    flights = flights.assign(score=predict_score(load_model(uri), flights))
    logs, deployment = Path(folder, "logs", champion.month), f"trained-{champion.month}"
    log = PredictionLog(logs, deployment)
    try:
        log.append(list(_records(flights, {"deployment": deployment, "model_uri": uri})))
    finally:
        log.close()
    return compact_log(str(logs), endpoint=champion.month, workspace=folder)


def look(
    champion: Candidate, predictions: PredictionBatchRef, labels: DatasetRef, workspace: str
) -> MonitoringReport:
    """Join the labels that came, and ask the monitor about a champion's predictions."""
    labelled = join_labels(
        predictions,
        labels,
        label_key=ENTITY,
        label_column=TARGET,
        updated_column=LABEL_TIME,
        workspace=workspace,
    )
    return monitor_model(
        predictions,
        labelled,
        endpoint=ENDPOINT,
        profile_uri=champion.profile_uri,
        max_drifted_share=MAX_DRIFTED_SHARE,
        baseline=champion.evaluation.metrics["auc"],
        max_drop=MAX_DROP,
        model_uri=champion.model.model_uri,
        reference_predictions=champion.evaluation.predictions_uri,
    )


def _records(flights: pd.DataFrame, common: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    inputs = flights[FEATURES].astype(object).where(flights[FEATURES].notna(), None)
    rows = zip(
        flights[ENTITY], flights[TIME], inputs.to_dict("records"), flights["score"], strict=True
    )
    for flight, asked, features, score in rows:
        yield {
            "request_id": flight,
            "row": 0,
            "ts": asked.isoformat(),
            "endpoint": ENDPOINT,
            "entity_id": flight,
            "inputs": features,
            "outputs": score,
            "status": 200,
            "error_class": None,
            "latency_ms": None,
            "attempt": 1,
            "shadow": False,
            **common,
        }
