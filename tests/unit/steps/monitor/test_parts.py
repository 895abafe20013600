"""Attributions, fairness, business figures and segments."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.evaluate import answers
from airflow_mlops_provider.steps.monitor import attribution
from airflow_mlops_provider.steps.monitor.attribution import compared, influences, judge_attribution
from airflow_mlops_provider.steps.monitor.kpi import judge_kpis, measure_kpis
from airflow_mlops_provider.steps.monitor.model import monitor_model
from airflow_mlops_provider.steps.monitor.settings import THRESHOLDS, proven_above
from tests.monitored import MODEL, finding_of, judged_scores, labelled, log_table, stored

WINDOW = {"start": datetime(2013, 7, 1, tzinfo=UTC), "end": datetime(2013, 7, 2, tzinfo=UTC)}


class TestAttribution:
    def test_the_ndcg_is_that_of_the_example_in_the_documentation_of_clarify(self):
        drift = compared(
            {"SAT": 0.70, "GPA": 0.50, "rank": 0.05}, {"SAT": 0.10, "GPA": 0.20, "rank": 0.70}, 9
        )
        gains, ideal = [0.05, 0.50, 0.70], [0.70, 0.50, 0.05]
        discount = 1 / np.log2([2, 3, 4])
        assert drift.ndcg == pytest.approx((gains @ discount) / (ideal @ discount))
        assert [*drift.reference] == ["SAT", "GPA", "rank"]

    @pytest.mark.parametrize("current", [{"a": 9.0, "b": 8.0}, {"a": 0.2, "b": 0.1}])
    def test_the_same_order_is_no_drift(self, current):
        assert compared({"a": 0.5, "b": 0.1}, current, 9).ndcg == 1.0

    def test_an_influence_is_the_mean_change_of_the_score(self, monkeypatch):
        monkeypatch.setattr(
            answers, "predict_answers", lambda _, frame: 3.0 * frame["a"].to_numpy()
        )
        rng = np.random.default_rng(0)
        rows = pd.DataFrame({"a": rng.normal(size=20_000), "b": rng.normal(size=20_000)})
        found = influences(None, rows, rows)
        # the mean distance of two independent standard normal values is 2 / sqrt(pi)
        assert found["a"] == pytest.approx(3 * 2 / np.sqrt(np.pi), rel=0.02)
        assert found["b"] == 0.0

    @pytest.mark.parametrize(
        ("ndcg", "n", "status"), [(0.89, 1000, "raised"), (0.9, 1000, "ok"), (0.1, 400, "unknown")]
    )
    def test_it_is_judged_from_enough_rows_on(self, ndcg, n, status):
        drift = attribution.AttributionDrift(ndcg=ndcg, n=n, reference={}, current={})
        assert judge_attribution(drift, THRESHOLDS, 500).status == status

    def test_what_is_lacking_is_said(self, tmp_path):
        batch = stored(tmp_path, log_table(9))
        report = monitor_model(batch, endpoint="e", attribution=True)
        assert "needs a reference profile" in finding_of(report, "attribution_drift").reason


class TestFairness:
    @pytest.fixture
    def report(self, tmp_path):
        def make(high, n=2_000, with_labels=False, **options):
            scores, labels = judged_scores(n)
            group = np.where(np.arange(n) % 2, "a", "b")
            table = log_table(
                n, {"group": group}, score=np.where(group == "a", scores**high, scores)
            )
            truth = labelled(tmp_path / "l", table, labels) if with_labels else None
            batch = stored(tmp_path, table)
            return monitor_model(batch, truth, endpoint="e", fairness=["group"], **options)

        return make

    @pytest.mark.parametrize("with_labels", [False, True])
    @pytest.mark.parametrize(("high", "signals"), [(1, []), (6, ["fairness"])])
    def test_a_ratio_below_four_fifths_is_raised(self, report, high, signals, with_labels):
        found = report(high, with_labels=with_labels)
        assert [each for each in found.signals if each == "fairness"] == signals
        (fair,) = found.fairness
        assert fair.column == "group"
        ratio = finding_of(found, "fairness").value
        assert ratio == fair.demographic_parity_ratio
        assert (fair.equalized_odds_difference is not None) is with_labels
        assert all(("recall" in group) is with_labels for group in fair.groups.values())

    def test_unequal_errors_are_raised_even_if_as_many_are_selected(self, report):
        found = report(6, with_labels=True, thresholds={"parity_ratio": None})
        assert "Recall or false positive rate differ" in finding_of(found, "fairness").reason
        assert finding_of(found, "fairness").threshold == THRESHOLDS["odds_difference"]

    def test_groups_that_are_too_small_say_nothing(self, report):
        assert finding_of(report(6, n=150), "fairness").status == "unknown"


def doubled(window_start, window_end):
    """A business figure."""
    return 2 * (window_end - window_start).days


class TestKpis:
    @pytest.fixture
    def query(self):
        """A query that remembers what it was asked, and gives one row."""

        def make(**row):
            def run(conn_id, sql, parameters):
                run.asked = (conn_id, sql, parameters)
                yield pa.table({name: [value] for name, value in row.items()})

            return run

        return make

    def test_sql_is_asked_for_the_window(self, query):
        run = query(revenue=12.5, n=7)
        sql = "SELECT 1 WHERE at >= :window_start"
        kpis = measure_kpis(
            {"revenue": {"sql": sql, "conn_id": "shop", "min": 20}}, query=run, **WINDOW
        )
        times = {"window_start": WINDOW["start"], "window_end": WINDOW["end"]}
        assert run.asked == ("shop", sql, times)
        found = judge_kpis(kpis, 100)
        assert (found.status, found.value, found.threshold, found.n) == ("raised", 12.5, 20.0, 7)

    @pytest.mark.parametrize(
        ("limits", "status"),
        [({}, "ok"), ({"min": 2, "max": 2}, "ok"), ({"max": 1}, "raised"), ({"min": 3}, "raised")],
    )
    def test_a_function_is_called_with_the_window(self, limits, status):
        declared = {"days": {"callable": f"{__name__}.doubled", **limits}}
        kpis = measure_kpis(declared, **WINDOW)
        assert kpis["days"].value == 2.0
        assert judge_kpis(kpis, 5).status == status

    def test_nothing_to_measure_is_unknown(self, query):
        kpis = measure_kpis({"a": {"sql": "s", "conn_id": "c"}}, query=query(v=None), **WINDOW)
        assert judge_kpis(kpis, 5).status == "unknown"
        none = measure_kpis(
            {"a": {"sql": "s", "conn_id": "c"}}, query=lambda *_: iter(()), **WINDOW
        )
        assert none["a"].value is None

    @pytest.mark.parametrize(
        "declared",
        [
            {},
            {"sql": "s"},
            {"sql": "s", "conn_id": "c", "callable": "f"},
            {"callable": "f", "x": 1},
        ],
    )
    def test_another_declaration_is_refused(self, declared):
        with pytest.raises(ParameterError, match="either sql and conn_id or callable"):
            measure_kpis({"a": declared}, **WINDOW)

    @pytest.mark.parametrize("value", ["many", float("inf")])
    def test_what_is_no_number_is_refused(self, query, value):
        with pytest.raises(DataError, match="Expected a number for the KPI 'a'"):
            measure_kpis({"a": {"sql": "s", "conn_id": "c"}}, query=query(v=value), **WINDOW)

    def test_they_are_part_of_the_report(self, tmp_path):
        declared = {"days": {"callable": f"{__name__}.doubled", "max": 1}}
        batch = stored(tmp_path, log_table(9))
        report = monitor_model(batch, endpoint="e", kpis=measure_kpis(declared, **WINDOW))
        assert (report.kpis, report.signals) == ({"days": 2.0}, ["kpi"])
        assert finding_of(report, "kpi").n == 9


class TestSegments:
    def test_each_value_has_its_own_figures(self, tmp_path):
        scores, labels = judged_scores(400)
        origin = ["EWR"] * 300 + ["JFK"] * 90 + [None] * 10
        table = log_table(
            400,
            {"origin": origin},
            score=scores,
            status=[200] * 290 + [500] * 10 + [200] * 100,
            latency_ms=[1.0] * 300 + [5.0] * 100,
        )
        truth = labelled(tmp_path / "l", table, labels)
        report = monitor_model(stored(tmp_path, table), truth, endpoint="e", segments=["origin"])
        first, second = report.segments
        assert [(each.value, each.n) for each in report.segments] == [("EWR", 300), ("JFK", 90)]
        assert (first.error_rate, first.latency_p95_ms) == (pytest.approx(1 / 30), 1.0)
        assert first.score_mean == pytest.approx(scores[:290].mean())
        assert (first.n_labelled, first.performance["auc"].n) == (290, 290)
        assert (second.n_labelled, second.performance) == (90, {})  # too few for a figure

    def test_models_are_segments_if_all_are_looked_at(self, tmp_path):
        models = [MODEL] * 6 + ["models:/flights/2"] * 3
        batch = stored(tmp_path, log_table(9, model_uri=models))
        report = monitor_model(batch, endpoint="e")
        assert [(each.column, each.value, each.n) for each in report.segments] == [
            ("model_uri", MODEL, 6),
            ("model_uri", "models:/flights/2", 3),
        ]
        assert monitor_model(batch, endpoint="e", model_uri=MODEL).segments == []


class TestThresholds:
    @pytest.mark.parametrize(
        ("columns", "thresholds", "signals"),
        [
            ({"status": [500] * 80 + [200] * 920}, {}, ["service"]),
            ({"status": [500] * 60 + [200] * 940}, {}, []),  # luck, perhaps
            ({"status": [500] * 80 + [200] * 920}, {"error_rate": None}, []),
            ({"status": [500] * 80 + [200] * 920}, {"error_rate": "0.1"}, []),
            ({"status": [422] * 80 + [200] * 920}, {}, ["quality"]),
            ({"status": [422] * 80 + [200] * 920}, {"refused_rate": 0.1}, []),
            ({"latency_ms": [9.0] * 80 + [1.0] * 920}, {"latency_p95_ms": 5}, ["service"]),
            ({"latency_ms": [9.0] * 60 + [1.0] * 940}, {"latency_p95_ms": 5}, []),
            ({"latency_ms": [9.0] * 80 + [1.0] * 920}, {"latency_p50_ms": 5}, []),
            ({}, {"volume": 1001}, ["service"]),
            ({}, {"volume": 1000}, []),
        ],
    )
    def test_a_rate_has_to_lie_above_with_all_of_its_interval(
        self, tmp_path, columns, thresholds, signals
    ):
        batch = stored(tmp_path, log_table(1000, **columns))
        report = monitor_model(batch, endpoint="e", thresholds=thresholds)
        assert report.signals == signals

    def test_few_rows_say_nothing(self, tmp_path):
        batch = stored(tmp_path, log_table(100, status=[500] * 100))
        assert monitor_model(batch, endpoint="e").signals == []
        assert monitor_model(batch, endpoint="e", min_rows=100).signals == ["service"]

    @pytest.mark.parametrize(
        "thresholds", [{"fire": 1}, {"error_rate": "much"}, {"error_rate": float("nan")}]
    )
    def test_another_threshold_is_refused(self, tmp_path, thresholds):
        with pytest.raises(ParameterError, match="thresholds"):
            monitor_model(stored(tmp_path, log_table(1)), endpoint="e", thresholds=thresholds)

    def test_a_rate_without_rows_is_not_above_anything(self):
        assert not proven_above(0, 0, 0.0)


def test_a_regression_is_judged_by_its_rmse(tmp_path):
    rng = np.random.default_rng(0)
    scores = rng.normal(10, 3, 1000)
    table = log_table(1000, score=scores)
    truth = labelled(tmp_path / "l", table, scores + rng.normal(0, 2, 1000))
    options = {"endpoint": "e", "task": "regression"}
    report = monitor_model(stored(tmp_path, table), truth, **options, baseline=1.5)
    assert [*report.performance] == ["rmse", "mae"]
    assert report.performance["rmse"].value == pytest.approx(2, rel=0.1)
    assert report.signals == ["performance"]
    assert report.estimated_performance == {}
    same = monitor_model(stored(tmp_path, table), truth, **options, baseline=1.99)
    assert same.signals == []


@pytest.mark.parametrize(
    "options", [{"task": "guessing"}, {"reference": "tomorrow"}, {"reference": "previous"}]
)
def test_an_unknown_choice_is_refused(tmp_path, options):
    with pytest.raises(ParameterError):
        monitor_model(stored(tmp_path, log_table(1)), endpoint="e", **options)
