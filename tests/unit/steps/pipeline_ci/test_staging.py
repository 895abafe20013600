from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest

from airflow_mlops_provider.exceptions import ParameterError, PipelineStageError
from airflow_mlops_provider.steps.pipeline_ci.commands import Commands, Ended
from airflow_mlops_provider.steps.pipeline_ci.rooms import Room
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


class Answering:
    """Commands whose staging ends with this answer, or with none."""

    def __init__(self, folder, answer, code=0):
        self.logs, self.answer, self.code = folder, answer, code

    def run(self, what, command, **options):
        self.command = [str(each) for each in command]
        if self.answer is not None:
            (self.logs / "staging.json").write_text(json.dumps(self.answer))
        return Ended(what, self.code, "its last line")

    refusal = Commands.refusal
    stage = "stage"


TOLD = {
    "state": "success",
    "tasks": {"fit": "success"},
    "metrics": [metric("auc", 0.8)],
    "asked": [{"endpoint": "e", "n": 1, "answers": [0.5]}],
}


@pytest.fixture
def staged(tmp_path):
    (tmp_path / "artifacts").mkdir()
    room = Room(tmp_path, tmp_path / "w.whl", "/python")
    build = SimpleNamespace(commit="c" * 40, wheel_sha256="w")

    def stage(commands, **options):
        return stage_build(commands, build, Staging(dag_id="train", **options), room)

    return tmp_path / "artifacts", stage


def test_a_run_is_asked_for_with_its_conf_and_judged(staged):
    folder, stage = staged
    commands = Answering(folder, TOLD)
    report = stage(commands, conf={"rows": 9}, bounds={"auc": [0.7, None]})
    assert commands.command[0] == "/python"
    assert commands.command[3:5] == ["train", '{"rows": 9}']
    assert commands.command[-1] == "--serve"
    assert [each.name for each in report.checks] == ["run", "finite", "convergence", "serving"]
    assert {each.outcome for each in report.checks} == {"passed"}
    assert (report.metrics, report.endpoints) == ({"auc": 0.8}, ["e"])


def test_a_run_that_failed_is_not_told_twice(staged):
    folder, stage = staged
    told = {**TOLD, "state": "failed", "tasks": {"fit": "failed"}, "asked": []}
    report = stage(Answering(folder, told))
    assert [each.name for each in report.checks if each.outcome == "failed"] == ["run"]


@pytest.mark.parametrize(("answer", "code"), [(None, 0), (TOLD, 1)])
def test_a_staging_that_does_not_answer_is_refused(staged, answer, code):
    folder, stage = staged
    with pytest.raises(PipelineStageError, match=r"(?s)stage stage refused.*its last line"):
        stage(Answering(folder, answer, code))
