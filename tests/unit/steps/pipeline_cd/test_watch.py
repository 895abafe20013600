from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError, PipelineStageError
from airflow_mlops_provider.records import PipelinePromotion, PipelineRunCheck
from airflow_mlops_provider.steps.pipeline_cd.watch import ask, judged_metrics, start_check

COMMIT = "c" * 40
DAG = {
    "bundle_name": "pipeline",
    "bundle_version": COMMIT,
    "is_stale": False,
    "has_import_errors": False,
    "is_paused": False,
}
RUN = {"state": "success", "bundle_version": COMMIT, "dag_run_id": "r"}
PROMOTION = PipelinePromotion(
    environment="production",
    kind="promotion",
    commit=COMMIT,
    previous=None,
    by="cd run-1",
    at="2026-01-01",
    entry="e" * 40,
)


def api_of(dag=DAG, run=RUN, errors=None, result=None):
    api = MagicMock()
    api.dag.return_value = dag
    api.run.return_value = run
    api.import_errors.return_value = errors or {}
    api.failed_tasks.return_value = ["fit"]
    api.result.return_value = result
    api.start_run.side_effect = lambda dag_id, run_id, conf: {"dag_run_id": run_id}
    return api


def served(api, environment, known_errors=()):
    arguments = {"commit": COMMIT, "known_errors": known_errors}
    return ask(api, environment, "served", arguments)


def finished(api, environment):
    return ask(api, environment, "finished", {"commit": COMMIT, "run_id": "r"})


def test_a_commit_is_served_once_its_dag_is_at_it(environment):
    assert served(api_of(), environment()).found == {
        "bundle": "pipeline",
        "bundle_version": COMMIT,
    }


@pytest.mark.parametrize(
    ("dag", "waits_for"),
    [
        (None, "it has no DAG 'train'"),
        ({**DAG, "bundle_version": "d" * 40}, "train is at dddd"),
        ({**DAG, "bundle_version": None}, "train is at None"),
        ({**DAG, "bundle_name": "other"}, "of the bundle 'other'"),
        ({**DAG, "is_stale": True}, "no longer in its file"),
        ({**DAG, "has_import_errors": True}, "has errors"),
    ],
)
def test_what_keeps_it_from_being_served_is_told(environment, dag, waits_for):
    answer = served(api_of(dag), environment())
    assert waits_for in answer.waits_for
    assert answer.found is None


def test_a_file_that_can_no_longer_be_imported_fails_the_version(environment):
    api = api_of(errors={"train.py": "SyntaxError: here"})
    with pytest.raises(PipelineStageError, match=r"train\.py cannot be imported.*SyntaxError"):
        served(api, environment())


@pytest.mark.parametrize("known", [["old.py"], None])
def test_a_file_that_was_broken_before_is_only_told(environment, known):
    errors = {"old.py": "ImportError"}
    assert served(api_of(errors=errors), environment(), known).found
    assert "old.py" in served(api_of(None, errors=errors), environment(), known).waits_for


def test_a_run_that_goes_on_is_waited_for(environment):
    assert (
        "is running" in finished(api_of(run={**RUN, "state": "running"}), environment()).waits_for
    )


def test_a_run_that_succeeded_gives_its_metrics(environment):
    judged = environment(metrics_task="evaluate", bounds={"auc": [0.8, None]})
    answer = finished(api_of(result={"metrics": {"auc": {"value": 0.9}, "n": 3}}), judged)
    assert PipelineRunCheck.from_xcom(answer.found).metrics == {"auc": 0.9}


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        ({**RUN, "state": "failed"}, PipelineStageError, r"failed in \['fit'\]"),
        ({**RUN, "bundle_version": "d" * 40}, PipelineStageError, "ran dddd"),
        (None, DataError, "was deleted"),
    ],
)
def test_a_run_that_does_not_do_fails_the_version(environment, run, error, message):
    with pytest.raises(error, match=message):
        finished(api_of(run=run), environment())


def test_a_run_that_returned_no_metrics_is_out_of_bounds(environment):
    judged = environment(metrics_task="evaluate", bounds={"auc": [0.8, None]})
    with pytest.raises(PipelineStageError, match="auc is None"):
        finished(api_of(result=None), judged)
    with pytest.raises(ParameterError, match="metrics_task parameter"):
        finished(api_of(), environment(bounds={"auc": [0.8, None]}))


@pytest.mark.parametrize(
    ("value", "limits", "holds"),
    [
        (0.8, [0.8, None], True),
        (0.79, [0.8, None], False),
        (0.5, [None, 0.5], True),
        (0.6, [None, 0.5], False),
        (7, [None, None], True),
        (float("nan"), [None, None], False),
        (float("inf"), [0, None], False),
        ("0.9", [0.8, None], False),
        (None, [0.8, None], False),
    ],
)
def test_bounds(environment, value, limits, holds):
    judged = environment(bounds={"auc": limits})
    if holds:
        assert judged_metrics(judged, {"auc": value}) == {"auc": value}
    else:
        with pytest.raises(PipelineStageError, match="out of bounds"):
            judged_metrics(judged, {"auc": value})


def test_bounds_are_pairs(environment):
    with pytest.raises(ParameterError, match="bounds parameter"):
        judged_metrics(environment(bounds={"auc": [0.8]}), {})


def test_the_first_run_of_a_promotion_is_always_the_same(environment):
    api = api_of()
    of = environment(conf={"rows": 3}, workspace="/w")
    run_id = start_check(api, of, PROMOTION)
    assert run_id == start_check(api, of, PROMOTION) == "promotion__cccccccccccc__eeeeeeeeeeee"
    api.start_run.assert_called_with("train", run_id, {"rows": 3, "workspace": "/w"})


def test_a_paused_dag_is_not_waited_for(environment):
    with pytest.raises(DataError, match="is paused"):
        start_check(api_of({**DAG, "is_paused": True}), environment(), PROMOTION)
