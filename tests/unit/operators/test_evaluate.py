from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators.evaluate import EvaluateModelOperator
from airflow_mlops_provider.records import EvaluationReport

STEPS = "airflow_mlops_provider.steps"
REPORT = EvaluationReport(
    model_uri="models:/a/1",
    dataset_uri="d",
    task="classification",
    metrics={},
    slices=[],
    predictions_uri="p",
)


def operator(dataset, **changes):
    given = {"model": "models:/a@champion", "dataset": dataset.to_xcom(), "target": "late"}
    return EvaluateModelOperator(task_id="t", workspace="/w", **{**given, **changes})


def test_the_version_behind_an_alias_is_judged(context, run, dataset):
    with (
        patch(f"{STEPS}.register.model_uri", return_value="models:/a/1") as found,
        patch(f"{STEPS}.evaluate.evaluate_model", return_value=REPORT) as step,
    ):
        assert operator(dataset, slices=["origin"]).execute(context) == REPORT.to_xcom()
    found.assert_called_once_with(run.client, "models:/a@champion", optional=False)
    assert step.call_args.args == ("models:/a/1", dataset)
    assert step.call_args.kwargs["workspace"] == "/w"
    assert step.call_args.kwargs["slices"] == ["origin"]


def test_a_champion_that_is_not_there_yet_gives_nothing(context, run, dataset):
    with patch(f"{STEPS}.register.model_uri", return_value=None):
        assert operator(dataset, optional=True).execute(context) is None


def test_something_that_is_no_model_fails_for_good(context, run, dataset):
    with pytest.raises(AirflowFailException, match="ModelRef"):
        operator(dataset, model={"uri": "x"}).execute(context)
