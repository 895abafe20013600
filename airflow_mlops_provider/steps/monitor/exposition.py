"""A report in Prometheus' text format.

It is a file in the workspace: the textfile collector of node_exporter reads it as it is, and the
serving host adds those of its workspace to what it tells at ``/metrics``. It is written here by
hand because ``prometheus-client`` is no dependency of the workers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.monitor.figures import STATUS

if TYPE_CHECKING:
    from airflow_mlops_provider.records import Metric, MonitoringReport

PREFIX = "mlops_monitoring_"
FILE = "metrics.prom"
_MAX_FEATURES = 20
_Samples = Iterable[tuple[Mapping[str, str], float | None]]


def exposition(reports: Sequence[MonitoringReport]) -> str:
    """Return gauges of an endpoint's newest window, in which several models may be reported on."""
    families: dict[str, tuple[str, list[str]]] = {}
    for report in reports:
        own = {"endpoint": report.endpoint, "model_uri": report.model_uri or ""}
        for name, about, samples in _families(report):
            lines = families.setdefault(name, (about, []))[1]
            lines += [
                _line(name, {**own, **each}, value) for each, value in samples if value is not None
            ]
    told = [
        line
        for name, (about, lines) in families.items()
        if lines
        for line in (f"# HELP {PREFIX}{name} {about}", f"# TYPE {PREFIX}{name} gauge", *lines)
    ]
    return "\n".join([*told, ""])


def _families(report: MonitoringReport) -> Iterator[tuple[str, str, _Samples]]:
    alone: Mapping[str, str] = {}
    drift, scores = report.drift, report.prediction_drift
    end = datetime.fromisoformat(report.window_end).timestamp() if report.window_end else None
    yield "window_end_seconds", "End of the window.", [(alone, end)]
    yield "predictions", "Live predictions in the window.", [(alone, report.n_predictions)]
    yield "labelled", "Predictions whose label came.", [(alone, report.n_labelled)]
    yield "error_rate", "Share of predictions that failed.", [(alone, report.error_rate)]
    yield (
        "latency_seconds",
        "Percentiles of the latency.",
        [
            ({"quantile": "0.5"}, _seconds(report.latency_p50_ms)),
            ({"quantile": "0.95"}, _seconds(report.latency_p95_ms)),
            ({"quantile": "0.99"}, _seconds(report.latency_p99_ms)),
        ],
    )
    yield "label_coverage", "Share of answers with a label.", [(alone, report.label_coverage)]
    yield (
        "label_delay_seconds",
        "Time from a prediction to its label.",
        [
            ({"quantile": "0.5"}, report.label_delay_median_s),
            ({"quantile": "0.95"}, report.label_delay_p95_s),
        ],
    )
    yield (
        "drifted_share",
        "Share of features that drifted.",
        [(alone, drift.share_drifted if drift else None)],
    )
    features = drift.features[:_MAX_FEATURES] if drift else []
    psis = [({"feature": each.feature}, each.psi) for each in features]
    yield "feature_psi", "Population stability index of an input.", psis
    quality = [
        ({"feature": each.feature}, each.missing_rate) for each in report.quality[:_MAX_FEATURES]
    ]
    yield "missing_rate", "Share of missing values of an input.", quality
    yield "score_mean", "Mean score.", [(alone, report.score_mean)]
    yield "score_psi", "PSI of the scores.", [(alone, scores.psi if scores else None)]
    yield "performance", "Figures on labelled predictions.", _metrics(report.performance)
    yield (
        "estimated_performance",
        "Figures without labels, if there is no concept drift.",
        _metrics(report.estimated_performance),
    )
    yield "kpi", "Figures of the business.", [({"kpi": k}, v) for k, v in report.kpis.items()]
    yield (
        "finding",
        "Status of a finding: -1 unknown, 0 ok, 1 warning, 2 raised.",
        [({"signal": each.signal}, STATUS[each.status]) for each in report.findings],
    )


def _metrics(found: Mapping[str, Metric]) -> _Samples:
    for name, metric in found.items():
        for bound in ("value", "low", "high"):
            yield {"metric": name, "bound": bound}, getattr(metric, bound)


def _line(name: str, labels: Mapping[str, str], value: float) -> str:
    told = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
    return f"{PREFIX}{name}{{{told}}} {float(value)!r}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000
