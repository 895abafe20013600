from __future__ import annotations

from unittest.mock import patch

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.operators.evaluate import EvaluateModelOperator
from airflow_mlops_provider.records import EvaluationReport, EvaluationSpec, UnusableModel

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
        patch(f"{STEPS}.evaluate.judge.evaluate_model", return_value=REPORT) as step,
    ):
        assert operator(dataset, slices=["origin"]).execute(context) == REPORT.to_xcom()
    found.assert_called_once_with(run.client, "models:/a@champion", optional=False)
    spec = EvaluationSpec(dataset=dataset, target="late", slices=["origin"])
    step.assert_called_once_with("models:/a/1", spec, workspace="/w", run=run)


def test_a_champion_that_is_not_there_yet_gives_nothing(context, run, dataset):
    with patch(f"{STEPS}.register.model_uri", return_value=None):
        assert operator(dataset, optional=True).execute(context) is None


def test_something_that_is_no_model_fails_for_good(context, run, dataset):
    with pytest.raises(AirflowFailException, match="ModelRef"):
        operator(dataset, model={"uri": "x"}).execute(context)


def test_a_champion_that_cannot_be_judged_any_more_is_handed_to_the_gate(context, run, dataset):
    with (
        patch(f"{STEPS}.register.model_uri", return_value="models:/a/1"),
        patch(f"{STEPS}.evaluate.judge.evaluate_model", side_effect=ModelError("files are gone")),
    ):
        unusable = UnusableModel(model_uri="models:/a/1", reason="files are gone")
        assert operator(dataset, optional=True).execute(context) == unusable.to_xcom()
        with pytest.raises(AirflowFailException, match="files are gone"):
            operator(dataset).execute(context)
