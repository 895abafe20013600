from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import EvaluationReport, GateVerdict, SliceMetric
from airflow_mlops_provider.steps.evaluate import _classification
from airflow_mlops_provider.steps.gate import judge_challenger

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
        metrics=_classification(truth, score),
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
    verdict = judge_challenger(new, old, metric=metric, mode=mode, margin=margin)
    assert verdict.outcome == outcome
    assert GateVerdict.from_xcom(verdict.to_xcom()) == verdict
    assert verdict.reasons[-1].check == f"{mode}:{metric}"
    assert verdict.reasons[-1].n == ROWS


def test_the_first_model_has_only_floors_to_clear(tmp_path):
    verdict = judge_challenger(report_of(tmp_path, 1.0), None, floors={"auc": 0.6, "brier": 0.3})
    assert (verdict.outcome, verdict.champion_uri) == ("promote", None)
    assert [reason.check for reason in verdict.reasons] == ["floor:auc", "floor:brier"]


@pytest.mark.parametrize("floors", [{"auc": 0.999}, {"brier": 0.001}])
def test_a_broken_floor_refuses_even_a_better_model(tmp_path, floors):
    verdict = judge_challenger(report_of(tmp_path, 1.5), report_of(tmp_path, 5.0), floors=floors)
    assert verdict.outcome == "refused"
    assert not verdict.reasons[0].passed


def test_one_bad_slice_refuses(tmp_path):
    cuts = [
        SliceMetric(column="origin", value=name, metric="auc", score=score, n=100)
        for name, score in (("EWR", 0.8), ("JFK", 0.5))
    ]
    verdict = judge_challenger(report_of(tmp_path, 1.0, slices=cuts), None, slice_floor=0.6)
    assert verdict.outcome == "refused"
    assert [r.check for r in verdict.reasons if not r.passed] == ["floor:origin=JFK"]


@settings(max_examples=15, deadline=None)
@given(st.floats(0, 0.2), st.floats(0, 0.2), st.floats(0.5, 5))
def test_a_larger_margin_of_superiority_never_helps(tmp_path_factory, a, b, noise):
    folder = tmp_path_factory.mktemp("gate")
    new, old = report_of(folder, 1.0), report_of(folder, noise, seed=2)
    small, large = sorted((a, b))
    if judge_challenger(new, old, margin=large).outcome == "promote":
        assert judge_challenger(new, old, margin=small).outcome == "promote"


def test_models_judged_on_other_rows_are_not_compared(tmp_path):
    new = report_of(tmp_path, 1.0)
    with pytest.raises(DataError, match="same rows"):
        judge_challenger(new, report_of(tmp_path, 1.0, dataset="other"))
    with pytest.raises(DataError, match="same rows"):
        judge_challenger(new, report_of(tmp_path, 1.0, truth=TRUTH[:-1]))


def test_lost_predictions_get_a_remedy(tmp_path):
    new, old = report_of(tmp_path, 1.0), report_of(tmp_path, 2.0)
    (tmp_path / f"2.0-1-{ROWS}.parquet").unlink()
    with pytest.raises(DataError, match=r"is gone.*clear it"):
        judge_challenger(new, old)


@pytest.mark.parametrize(
    "wrong", [{"metric": "f1"}, {"mode": "luck"}, {"margin": -0.1}, {"floors": {"f1": 0.5}}]
)
def test_wrong_parameters_are_named(tmp_path, wrong):
    with pytest.raises(ParameterError, match=next(iter(wrong))):
        judge_challenger(report_of(tmp_path, 1.0), None, **wrong)
