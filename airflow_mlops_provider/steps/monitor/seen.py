"""All figures of one window, and what each of them comes to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.records import MonitoringReport
from airflow_mlops_provider.steps.monitor import estimate as cbpe
from airflow_mlops_provider.steps.monitor.attribution import attribution_of, judge_attribution
from airflow_mlops_provider.steps.monitor.inputs import (
    MAX_FEATURES,
    MAX_NAMES,
    inputs_of,
    judge_drift,
    judge_quality,
)
from airflow_mlops_provider.steps.monitor.performance import (
    judge_performance,
    performance_of,
    scored_rows,
)
from airflow_mlops_provider.steps.monitor.scores import (
    SCORE,
    judge_scores,
    score_drift,
    score_profile,
)
from airflow_mlops_provider.steps.monitor.segments import segment_columns, segments_of
from airflow_mlops_provider.steps.monitor.service import judge_service, traffic_of
from airflow_mlops_provider.steps.windows import checked_time

if TYPE_CHECKING:
    from airflow_mlops_provider.records import (
        AttributionDrift,
        Finding,
        Metric,
        PredictionBatchRef,
    )
    from airflow_mlops_provider.steps.monitor.asked import Asked
    from airflow_mlops_provider.steps.monitor.inputs import Inputs
    from airflow_mlops_provider.steps.monitor.log import PredictionLog
    from airflow_mlops_provider.steps.monitor.performance import Labelled


class Seen:
    """What was seen of one log."""

    def __init__(self, log: PredictionLog, asked: Asked, truth: Labelled) -> None:
        limits = asked.limits
        self.asked, self.truth, self.n_future = asked, truth, log.n_future
        self.traffic = traffic_of(log, limits)
        self.inputs: Inputs | None = None
        if asked.profile_uri is not None:
            share = 1.0 if limits["drifted_share"] is None else limits["drifted_share"]
            self.inputs = inputs_of(log, asked.profile_uri, share, self.traffic.n_answered)
        self.segments = segment_columns(log, asked.segments, asked.scope.model_uri is None)
        self.groups = log.columns_of(asked.fairness, "fairness")
        columns = dict.fromkeys([*self.segments.values(), *self.groups.values()])
        self.scored = scored_rows(log, [*columns])
        self.scores = self.scored[SCORE].to_numpy(float)
        self.segment_reports = segments_of(log, self.segments, self.scored, truth, asked.task)
        self.performance = performance_of(truth, asked.task)
        self._look_at_scores()
        self.attribution: AttributionDrift | str | None = None
        if asked.attribution:
            self.attribution = attribution_of(
                log, self.inputs, asked.profile_uri, asked.scope.model_uri
            )

    def _look_at_scores(self) -> None:
        asked = self.asked
        reference = None
        if asked.reference_predictions is not None:
            reference = cbpe.reference_scores(asked.reference_predictions)
        profile = score_profile(reference, asked.score_profile_uri, asked.reference)
        self.score_drift = score_drift(self.scores, profile)
        self.estimated: dict[str, Metric] = {}
        self.n_calibrated = len(reference[0]) if reference else None
        if asked.task == "classification" and _may_be_chances(self.scores, reference):
            chance = cbpe.calibrated(self.scores, reference)
            self.estimated = cbpe.estimated_performance(self.scores, chance)

    @property
    def coverage(self) -> float | None:
        """Share of the answered predictions whose label came."""
        answered = self.traffic.n_answered
        return min(1.0, len(self.truth) / answered) if answered else None

    def findings(self) -> Sequence[Finding]:
        """Judge everything but what is only looked at if it was asked for."""
        asked, limits, least = self.asked, self.asked.limits, self.asked.min_rows
        found = [
            judge_service(self.traffic, limits, least),
            judge_quality(self.inputs, self.traffic, self.n_future, limits, least),
            judge_drift(self.inputs, asked.reference, limits["drifted_share"]),
            judge_scores(self.score_drift, len(self.scores), limits),
            judge_performance(self.performance, self.truth, self.coverage, asked.bar, least),
        ]
        if asked.task == "classification":
            found.append(
                cbpe.judge_estimate(
                    self.estimated, len(self.scores), self.n_calibrated, asked.estimated_bar, least
                )
            )
        if self.attribution is not None:
            found.append(judge_attribution(self.attribution, limits, least))
        return found

    def report(self, predictions: PredictionBatchRef, endpoint: str) -> MonitoringReport:
        """Return all figures, without findings."""
        asked, traffic, inputs, truth = self.asked, self.traffic, self.inputs, self.truth
        start, end = self._window(predictions)
        attribution = self.attribution
        return MonitoringReport(
            endpoint=endpoint,
            n_predictions=traffic.n,
            n_labelled=len(truth),
            error_rate=traffic.error_rate,
            latency_p50_ms=traffic.latency["latency_p50_ms"],
            latency_p95_ms=traffic.latency["latency_p95_ms"],
            latency_p99_ms=traffic.latency["latency_p99_ms"],
            drift=inputs.drift if inputs else None,
            performance=self.performance,
            signals=[],
            reasons=[],
            model_uri=asked.scope.model_uri,
            window_start=start,
            window_end=end,
            reference=asked.reference,
            task=asked.task,
            n_answered=traffic.n_answered,
            n_refused=traffic.n_refused,
            n_future=self.n_future,
            score_mean=float(self.scores.mean()) if len(self.scores) else None,
            baseline=asked.baseline,
            label_coverage=self.coverage,
            label_delay_median_s=truth.delay_median_s,
            label_delay_p95_s=truth.delay_p95_s,
            n_early_labels=truth.n_early,
            quality=inputs.quality[:MAX_FEATURES] if inputs else [],
            missing_features=inputs.missing[:MAX_NAMES] if inputs else [],
            new_inputs=inputs.new[:MAX_NAMES] if inputs else [],
            prediction_drift=self.score_drift,
            attribution=None if isinstance(attribution, str) else attribution,
            estimated_performance=self.estimated,
            segments=self.segment_reports,
        )

    def _window(self, predictions: PredictionBatchRef) -> tuple[str | None, str | None]:
        scope = self.asked.scope
        start, end = (
            own or checked_time(known, name, "monitor_model")
            for own, known, name in (
                (scope.start, predictions.window_start, "window_start"),
                (scope.end, predictions.window_end, "window_end"),
            )
        )
        if scope.end is None and self.n_future:
            end = self.traffic.last  # a row of the future says nothing of the window
        return start.isoformat() if start else None, end.isoformat() if end else None


def _may_be_chances(scores: Any, reference: Any) -> bool:
    """Tell whether sorted scores are, or can be made, probabilities."""
    return len(scores) > 0 and bool(reference or (scores[0] >= 0 and scores[-1] <= 1))
