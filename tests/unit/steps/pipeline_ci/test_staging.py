from __future__ import annotations

import math

import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.pipeline_ci.staging import (
    Staging,
    judge_answers,
    judge_convergence,
    judge_finite,
    judge_run,
    stage_build,
)

NAN, INF = math.nan, math.inf


def metric(name, *values):
    return {"name": name, "values": list(values)}


@pytest.mark.parametrize(
    ("metrics", "outcome"),
    [
        ([metric("auc", 0.7)], "passed"),
        ([], "passed"),
        ([metric("auc", NAN)], "failed"),
        ([metric("auc", 0.7), metric("loss", 1, INF, 0.5)], "failed"),
    ],
)
def test_a_metric_that_was_ever_not_finite_fails(metrics, outcome):
    assert judge_finite(metrics).outcome == outcome


@pytest.mark.parametrize(
    ("metrics", "bounds", "reason"),
    [
        ([metric("auc", 0.7)], {"auc": [0.6, None]}, None),
        ([metric("auc", 0.5)], {"auc": [0.6, None]}, "auc is 0.5, at least 0.6 was asked"),
        ([metric("rmse", 9)], {"rmse": [None, 8]}, "rmse is 9, at most 8 was asked"),
        ([metric("auc", 0.5), metric("auc", 0.9)], {"auc": [0.6, None]}, None),
        ([], {"auc": [0.6, None]}, "auc was not logged"),
        ([metric("auc", NAN)], {"auc": [0.6, None]}, "auc was not logged, or is not finite"),
        ([metric("train_loss", 1, 0.5)], {}, None),
        ([metric("train_loss", 1, 3)], {}, "train_loss rose from 1 to 3: training diverges"),
        ([metric("train_loss", 2)], {}, None),
    ],
)
def test_training_has_to_converge(metrics, bounds, reason):
    check = judge_convergence(metrics, bounds, ["loss"])
    assert check.outcome == ("failed" if reason else "passed")
    assert reason is None or reason in check.reason


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ([{"endpoint": "e", "n": 2, "answers": [0.1, 0.9]}], None),
        ([{"endpoint": "e", "n": 1, "answers": [[0.1, 0.9]]}], None),
        ([], "no model that could be served"),
        ([{"endpoint": "e", "problem": "answered 500"}], "e: answered 500"),
        ([{"endpoint": "e", "n": 2, "answers": [0.1]}], "expected 2 answers"),
        ([{"endpoint": "e", "n": 1, "answers": [NAN]}], "not finite"),
        ([{"endpoint": "e", "n": 1, "answers": [{"p": None}]}], "missing"),
    ],
)
def test_each_row_needs_a_sound_answer(asked, reason):
    check = judge_answers(asked)
    assert check.outcome == ("failed" if reason else "passed")
    assert reason is None or reason in check.reason


def test_a_run_that_failed_names_task_and_error(tmp_path):
    log = tmp_path / "staging.log"
    log.write_text("fine\nValueError: overflow in fit\nmore\n")
    check = judge_run("failed", {"fit": "failed", "gate": "upstream_failed"}, log)
    assert check.outcome == "failed"
    assert "['fit']" in check.reason
    assert "ValueError: overflow in fit" in check.reason
    assert judge_run("success", {"fit": "success"}, log).outcome == "passed"


@pytest.mark.parametrize("limits", [0.6, [0.6], ["a", None], [1, 2, 3]])
def test_bounds_are_pairs(limits):
    with pytest.raises(ParameterError, match="bounds parameter"):
        stage_build(None, None, Staging(dag_id="d", bounds={"auc": limits}), None)
