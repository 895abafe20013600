"""A report as flat figures, for charts over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlops_provider.records import MonitoringReport

STATUS = {"unknown": -1, "ok": 0, "warning": 1, "raised": 2}
"""What a finding's status is called in numbers."""


def figures_of_report(report: MonitoringReport) -> dict[str, float]:
    """Return every known figure by its name; a name may hold one slash, for its group."""
    known: dict[str, float | None] = {
        "n_predictions": report.n_predictions,
        "n_labelled": report.n_labelled,
        "error_rate": report.error_rate,
        "latency_p50_ms": report.latency_p50_ms,
        "latency_p95_ms": report.latency_p95_ms,
        "latency_p99_ms": report.latency_p99_ms,
        "label_coverage": report.label_coverage,
        "label_delay_median_s": report.label_delay_median_s,
        "label_delay_p95_s": report.label_delay_p95_s,
        "score_mean": report.score_mean,
        "score_psi": report.prediction_drift.psi if report.prediction_drift else None,
        "share_drifted": report.drift.share_drifted if report.drift else None,
        "attribution_ndcg": report.attribution.ndcg if report.attribution else None,
    }
    known |= {name: metric.value for name, metric in report.performance.items()}
    estimated = report.estimated_performance.items()
    known |= {f"estimated_{name}": metric.value for name, metric in estimated}
    known |= {f"kpi/{name}": value for name, value in report.kpis.items()}
    known |= {f"finding/{each.signal}": STATUS[each.status] for each in report.findings}
    return {name: float(value) for name, value in known.items() if value is not None}
