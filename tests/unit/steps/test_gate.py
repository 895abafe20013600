from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import (
    ArtifactCheck,
    EvaluationReport,
    Fairness,
    GateReason,
    GateVerdict,
    Metric,
    ModelCost,
    SliceMetric,
    UnusableModel,
    ValidationReport,
)
from airflow_mlops_provider.steps.gate import (
    Rule,
    artifact_evidence,
    data_evidence,
    judge_challenger,
)
from airflow_mlops_provider.steps.metrics.figures import BINARY, Sample

ROWS = 3_000
TRUTH = np.random.default_rng(0).integers(0, 2, ROWS).astype(float)


def report_of(folder, noise: float, *, truth=TRUTH, dataset="d", slices=(), seed=1):
    rng = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-(4 * truth - 2 + rng.normal(scale=noise, size=len(truth)))))
    uri = str(folder / f"{noise}-{seed}-{len(truth)}.parquet")
    pd.DataFrame({"target": truth, "score": score}).to_parquet(uri)
    return EvaluationReport(
        model_uri=f"models:/m-{noise}",
        dataset_uri=dataset,
        task="classification",
        metrics={
            name: figure.estimate(Sample.of(truth, score)).metric()
            for name, figure in BINARY.items()
        },
        greater_is_better={name: figure.greater_is_better for name, figure in BINARY.items()},
        slices=list(slices),
        predictions_uri=uri,
    )


@pytest.mark.parametrize(
    ("challenger", "champion", "mode", "margin", "outcome"),
    [
        (1.0, 4.0, "superiority", 0.0, "promote"),
        (4.0, 1.0, "superiority", 0.0, "keep_champion"),
        (2.0, 2.0, "superiority", 0.0, "keep_champion"),
        (2.0, 2.0, "non_inferiority", 0.02, "promote"),
        (4.0, 2.0, "non_inferiority", 0.02, "keep_champion"),
        (1.0, 2.0, "superiority", 0.4, "keep_champion"),
    ],
)
@pytest.mark.parametrize("metric", ["auc", "brier"])
def test_who_wins(tmp_path, challenger, champion, mode, margin, outcome, metric):
    new = report_of(tmp_path, challenger)
    old = report_of(tmp_path, champion, seed=1 if challenger == champion else 2)
    verdict = judge_challenger(new, old, Rule(metric=metric, mode=mode, margin=margin))
    assert verdict.outcome == outcome
    assert GateVerdict.from_xcom(verdict.to_xcom()) == verdict
    assert verdict.reasons[-1].check == f"{mode}:{metric}"
    assert verdict.reasons[-1].n == ROWS


def test_the_first_model_has_only_floors_to_clear(tmp_path):
    verdict = judge_challenger(
        report_of(tmp_path, 1.0), None, Rule(floors={"auc": 0.6, "brier": 0.3})
    )
    assert (verdict.outcome, verdict.champion_uri) == ("promote", None)
    assert [reason.check for reason in verdict.reasons] == ["floor:auc", "floor:brier"]


@pytest.mark.parametrize("floors", [{"auc": 0.999}, {"brier": 0.001}])
def test_a_broken_floor_refuses_even_a_better_model(tmp_path, floors):
    verdict = judge_challenger(
        report_of(tmp_path, 1.5), report_of(tmp_path, 5.0), Rule(floors=floors)
    )
    assert verdict.outcome == "refused"
    assert not verdict.reasons[0].passed


def test_one_bad_slice_refuses(tmp_path):
    cuts = [
        SliceMetric(column="origin", value=name, metric="auc", score=score, n=100)
        for name, score in (("EWR", 0.8), ("JFK", 0.5))
    ]
    verdict = judge_challenger(report_of(tmp_path, 1.0, slices=cuts), None, Rule(slice_floor=0.6))
    assert verdict.outcome == "refused"
    assert [r.check for r in verdict.reasons if not r.passed] == ["floor:origin=JFK"]


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0.5, 5))
def test_a_larger_margin_of_superiority_never_helps(tmp_path_factory, a, b, noise):
    folder = tmp_path_factory.mktemp("gate")
    new, old = report_of(folder, 1.0), report_of(folder, noise, seed=2)
    small, large = sorted((a, b))
    if judge_challenger(new, old, Rule(margin=large)).outcome == "promote":
        assert judge_challenger(new, old, Rule(margin=small)).outcome == "promote"


def test_models_judged_on_other_rows_are_not_compared(tmp_path):
    new = report_of(tmp_path, 1.0)
    with pytest.raises(DataError, match="same rows"):
        judge_challenger(new, report_of(tmp_path, 1.0, dataset="other"), Rule())
    with pytest.raises(DataError, match="same rows"):
        judge_challenger(new, report_of(tmp_path, 1.0, truth=TRUTH[:-1]), Rule())


def test_lost_predictions_get_a_remedy(tmp_path):
    new, old = report_of(tmp_path, 1.0), report_of(tmp_path, 2.0)
    (tmp_path / f"2.0-1-{ROWS}.parquet").unlink()
    with pytest.raises(DataError, match=r"is gone.*clear it"):
        judge_challenger(new, old, Rule())


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "f2"},
        {"mode": "luck"},
        {"margin": -0.1},
        {"floors": {"f2": 0.5}},
        {"confidence": 0.4},
    ],
)
def test_wrong_parameters_are_named(tmp_path, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        judge_challenger(report_of(tmp_path, 1.0), None, Rule(**wrong))


FULL = {
    "golden": {"recall": Metric(value=0.9, low=None, high=None, n=40)},
    "fairness": [
        Fairness(
            column="origin",
            groups={},
            demographic_parity_difference=0.2,
            demographic_parity_ratio=0.7,
            equalized_odds_difference=None,
        )
    ],
    "cost": ModelCost(latency_p50_ms=2, latency_p95_ms=5, load_seconds=1, size_mb=3),
    "calibration_error": 0.03,
}


@pytest.mark.parametrize(
    ("name", "holds", "breaks"),
    [
        ("golden.recall", 0.9, 0.91),
        ("fairness.origin.demographic_parity_ratio", 0.7, 0.8),
        ("fairness.origin.demographic_parity_difference", 0.2, 0.1),
        ("cost.latency_p95_ms", 5, 4.9),
        ("calibration_error", 0.03, 0.02),
    ],
)
def test_floors_reach_everything_that_was_measured(tmp_path, name, holds, breaks):
    new = replace(report_of(tmp_path, 1.0), **FULL)
    assert judge_challenger(new, None, Rule(floors={name: holds})).outcome == "promote"
    assert judge_challenger(new, None, Rule(floors={name: breaks})).outcome == "refused"


def test_a_figure_that_could_not_be_measured_is_no_floor(tmp_path):
    new = replace(report_of(tmp_path, 1.0), **FULL)
    with pytest.raises(ParameterError, match="equalized_odds"):
        judge_challenger(new, None, Rule(floors={"fairness.origin.equalized_odds_difference": 1}))


@pytest.mark.parametrize(("allowed", "outcome"), [(False, "refused"), (True, "promote")])
def test_a_champion_that_cannot_be_judged_is_a_persons_decision(tmp_path, allowed, outcome):
    gone = UnusableModel(model_uri="models:/a/1", reason="model.skops is gone")
    rule = Rule(replace_unusable_champion=allowed)
    verdict = judge_challenger(report_of(tmp_path, 1.0), gone, rule)
    assert (verdict.outcome, verdict.champion_uri) == (outcome, "models:/a/1")
    assert "model.skops is gone" in verdict.reasons[0].detail


@pytest.mark.parametrize(("passed", "outcome"), [(True, "promote"), (False, "refused")])
def test_what_other_checks_found_counts(tmp_path, passed, outcome):
    evidence = [GateReason(check="behaviour:night", passed=passed, detail="", n=5)]
    verdict = judge_challenger(report_of(tmp_path, 1.0), None, Rule(), evidence=evidence)
    assert verdict.outcome == outcome
    assert verdict.reasons == evidence


@pytest.mark.parametrize(
    ("outcome", "passed"), [("passed", True), ("warn", True), ("retrain", True), ("stop", False)]
)
def test_only_a_skewed_schema_speaks_against_a_model(outcome, passed):
    report = ValidationReport(
        dataset_uri="d", suite="flights", outcome=outcome, n_expectations=9, n_failed=2
    )
    reason = data_evidence(report)
    assert (reason.check, reason.passed, reason.n) == ("data:flights", passed, 9)
    assert "2 of 9" in reason.detail


def closeness(truth, score):
    """A metric of somebody's own: more is better."""
    return -np.abs(truth - score).mean()


@pytest.mark.parametrize(("noise", "outcome"), [(1.0, "promote"), (4.0, "keep_champion")])
def test_models_are_compared_by_a_metric_of_ones_own(tmp_path, noise, outcome):
    own = {"custom_metrics": {"closeness": f"{__name__}.closeness"}}
    value = Metric(value=-0.1, low=None, high=None, n=ROWS)
    new, old = (
        replace(
            report,
            metrics=report.metrics | {"closeness": value},
            greater_is_better=report.greater_is_better | {"closeness": True},
            **own,
        )
        for report in (report_of(tmp_path, noise), report_of(tmp_path, 2.0, seed=2))
    )
    verdict = judge_challenger(new, old, Rule(metric="closeness"))
    assert verdict.outcome == outcome


def test_models_of_other_classes_are_not_compared(tmp_path):
    new, old = report_of(tmp_path, 1.0), report_of(tmp_path, 2.0)
    frame = pd.read_parquet(old.predictions_uri).assign(score_1=0.1, score_2=0.2)
    frame.to_parquet(old.predictions_uri)
    with pytest.raises(DataError, match="answers of one kind"):
        judge_challenger(new, old, Rule())


@pytest.mark.parametrize(("differing", "outcome"), [(0, "promote"), (3, "refused")])
def test_other_answers_in_a_clean_process_refuse(tmp_path, differing, outcome):
    check = ArtifactCheck(
        model_uri="m",
        environment="local",
        outcome="failed" if differing else "passed",
        n=200,
        n_differing=differing,
        largest_difference=0.25 * differing,
        tolerance=1e-6,
        seconds=2.0,
        python="3.11.7",
        different_requirements=["numpy<1 is declared, 2 is installed"],
    )
    evidence = [artifact_evidence(check)]
    verdict = judge_challenger(report_of(tmp_path, 1.0), None, Rule(), evidence=evidence)
    assert verdict.outcome == outcome
    (reason,) = verdict.reasons
    assert (reason.check, reason.n) == ("artifact:local", 200)
    assert f"{differing} of 200 answers" in reason.detail
    assert "numpy<1 is declared" in reason.detail
