from __future__ import annotations

from unittest.mock import MagicMock, patch

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException, DownstreamTasksSkipped

from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.gate import ValidateModelOperator
from airflow_mlops_provider.records import (
    ArtifactCheck,
    EvaluationReport,
    GateReason,
    GateVerdict,
    UnusableModel,
    ValidationReport,
)
from airflow_mlops_provider.steps.gate import Rule

REPORT = EvaluationReport(
    model_uri="m",
    dataset_uri="d",
    task="classification",
    metrics={},
    slices=[],
    predictions_uri="p",
)


def verdict(outcome):
    reason = GateReason(check="floor:auc", passed=outcome != "refused", detail="auc 0.7", n=9)
    return GateVerdict(outcome=outcome, challenger_uri="m", champion_uri=None, reasons=[reason])


def judged(outcome):
    step = "airflow_mlops_provider.steps.gate.judge_challenger"
    return patch(step, return_value=verdict(outcome))


@pytest.fixture
def gate():
    with DAG("a_dag"):
        operator = ValidateModelOperator(task_id="gate", challenger=REPORT.to_xcom())
        work = MlopsOperator(task_id="register")
        end = MlopsOperator(task_id="finish").as_teardown()
        operator >> [work, end]
    return operator


def test_a_good_challenger_passes(context, run, gate):
    with judged("promote") as step:
        assert gate.execute(context) == verdict("promote").to_xcom()
    assert step.call_args.args == (REPORT, None, Rule())
    run.log_record.assert_called_once_with(verdict("promote"))


def test_no_better_model_skips_the_work_but_not_the_teardown(context, run, gate):
    with judged("keep_champion"), pytest.raises(DownstreamTasksSkipped) as skipped:
        gate.execute(context)
    assert skipped.value.tasks == ["register"]
    context["ti"].xcom_push.assert_any_call(
        key="return_value", value=verdict("keep_champion").to_xcom()
    )


def test_a_refusal_fails_for_good_with_its_reasons(context, run, gate):
    with judged("refused"), pytest.raises(AirflowFailException, match=r"floor:auc: auc 0\.7"):
        gate.execute(context)
    context["ti"].xcom_push.assert_called_once_with(
        key="return_value", value=verdict("refused").to_xcom()
    )


def test_a_refusal_may_end_well(context, run, gate):
    gate.on_refusal = "skip"
    with judged("refused"), pytest.raises(DownstreamTasksSkipped) as skipped:
        gate.execute(context)
    assert skipped.value.tasks == ["register"]
    context["ti"].xcom_push.assert_any_call(key="return_value", value=verdict("refused").to_xcom())


def test_a_refusal_has_no_third_way(context, run, gate):
    gate.on_refusal = "warn"
    with judged("promote"), pytest.raises(AirflowFailException, match="on_refusal"):
        gate.execute(context)


def test_the_gate_passes_its_knobs_on(context, run):
    data = ValidationReport(dataset_uri="d", suite="s", outcome="passed", n_expectations=1)
    artifact = ArtifactCheck(
        model_uri="m",
        environment="declared",
        outcome="passed",
        n=9,
        n_differing=0,
        largest_difference=0,
        tolerance=0,
        seconds=1,
        python="3.11.7",
    )
    operator = ValidateModelOperator(
        task_id="gate",
        challenger=REPORT.to_xcom(),
        champion=REPORT.to_xcom(),
        margin="0.01",
        floors={"auc": 0.6},
        data=[data.to_xcom()],
        artifact=artifact.to_xcom(),
    )
    with judged("promote") as step:
        operator.execute({**context, "task": MagicMock()})
    assert step.call_args.args == (REPORT, REPORT, Rule(margin=0.01, floors={"auc": 0.6}))
    assert [reason.check for reason in step.call_args.kwargs["evidence"]] == [
        "data:s",
        "artifact:declared",
    ]


def test_a_champion_that_cannot_be_judged_reaches_the_gate(context, run):
    unusable = UnusableModel(model_uri="m", reason="gone")
    operator = ValidateModelOperator(
        task_id="gate", challenger=REPORT.to_xcom(), champion=unusable.to_xcom()
    )
    with judged("promote") as step:
        operator.execute({**context, "task": MagicMock()})
    assert step.call_args.args == (REPORT, unusable, Rule())


def test_the_champion_is_kept_with_what_the_challenger_was_held_against(context, run, gate):
    with judged("promote"):
        gate.execute(context)
    run.log_champion.assert_not_called()
    operator = ValidateModelOperator(
        task_id="gate", challenger=REPORT.to_xcom(), champion=REPORT.to_xcom()
    )
    with judged("promote"):
        operator.execute(context)
    metrics = {name: metric.value for name, metric in REPORT.metrics.items()}
    run.log_champion.assert_called_once_with(REPORT.model_uri, metrics)
