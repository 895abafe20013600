"""What the scorer does with a request: predict, log each row, count."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from airflow_mlops_provider.scores import numeric_score
from airflow_mlops_provider.serving.json_text import encode
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.privacy import Privacy
from airflow_mlops_provider.serving.router import SHADOW_SUFFIX
from airflow_mlops_provider.serving.scoring import FEATURES_DOWN, OUTPUT_VIOLATION

if TYPE_CHECKING:
    from starlette.datastructures import Headers

    from airflow_mlops_provider.serving.counters import Counters
    from airflow_mlops_provider.serving.prediction_log import PredictionLog
    from airflow_mlops_provider.serving.scoring import Predictor, Scored


@dataclass(frozen=True)
class Caller:
    """What the router says of a request."""

    request_id: str
    entity_id: str | None
    attempt: int
    shadow: bool

    @classmethod
    def of(cls, headers: Headers) -> Caller:
        """Read the router's headers; a request that came around it gets defaults."""
        attempt = headers.get("x-envoy-attempt-count", "1")
        return cls(
            request_id=headers.get("x-request-id") or str(uuid.uuid4()),
            entity_id=headers.get("x-entity-id"),
            attempt=int(attempt) if attempt.isdecimal() else 1,
            shadow=headers.get("host", "").partition(":")[0].endswith(SHADOW_SUFFIX),
        )


@dataclass(frozen=True)
class Answer:
    """What came of a request, and of writing it to the log."""

    scored: Scored
    latency_ms: float
    ticket: int | None
    """Of the log; None if the disk refused."""
    refusal: OSError | None = None


@dataclass(frozen=True)
class Scorer:
    """A loaded model, its log and its counters."""

    endpoint: str
    deployment: str
    model_uri: str
    predictor: Predictor
    log: PredictionLog
    counters: Counters
    options: DeploymentOptions = field(default_factory=DeploymentOptions)
    privacy: Privacy = field(default_factory=Privacy)

    def answer(self, score: Callable[[], Scored], caller: Caller) -> Answer:
        """Predict one request and log it."""
        started = time.perf_counter()
        scored = score()
        latency_ms = (time.perf_counter() - started) * 1000
        try:
            ticket = self.log.write(self._lines(scored, caller, latency_ms))
        except OSError as error:
            return Answer(scored, latency_ms, None, error)
        return Answer(scored, latency_ms, ticket)

    def _lines(self, scored: Scored, caller: Caller, latency_ms: float) -> list[bytes]:
        shared = {
            "request_id": caller.request_id,
            "ts": datetime.now(UTC).isoformat(),
            "endpoint": self.endpoint,
            "deployment": self.deployment,
            "model_uri": self.model_uri,
            "entity_id": self.privacy.entity(caller.entity_id),
            "status": scored.status,
            "error_class": scored.error.error_class if scored.error else None,
            "latency_ms": round(latency_ms, 3),
            "attempt": caller.attempt,
            "shadow": caller.shadow,
        }
        begun = encode(shared)[:-1] + b","
        outputs = scored.outputs or [None] * len(scored.rows)
        rows = enumerate(zip(scored.rows, outputs, strict=True))
        return [
            begun + encode({"row": i, "inputs": self.privacy.inputs(row), "outputs": output})[1:]
            for i, (row, output) in rows
        ]

    def count(self, answer: Answer, caller: Caller, status: int) -> None:
        """Count one request by what its sender was answered in the end.

        One that Feast could not complete says nothing of the model, so it is no evidence.
        """
        if answer.scored.error and answer.scored.error.error_class == FEATURES_DOWN:
            return
        add, scored = self.counters.add, answer.scored
        if scored.error and scored.error.error_class == OUTPUT_VIOLATION:
            add("schema_violations")
        if status == 200 and answer.refusal:
            add("unlogged")
        if caller.shadow:
            add("shadow_requests")
            add("shadow_errors", status >= 500)
            return
        if caller.attempt > 1:  # what others failed at says nothing fair of this one
            return
        add("requests")
        add("errors", status >= 500)
        add("client_errors", 400 <= status < 500)
        if answer.latency_ms:  # one that was refused unheard has none
            self.counters.add_latency(answer.latency_ms)
        if status == 200:
            found = map(numeric_score, scored.outputs or ())
            self.counters.add_scores(score for score in found if score is not None)
