"""Level 0: each step as a person takes it, by hand and once.

Press Trigger, fill in the form, look at the result, and tick *deploy* when you like it.
Running it again with the same form gives the same data and the same numbers.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_mlops_provider.operators import (
    DeployModelOperator,
    EvaluateModelOperator,
    RegisterModelOperator,
    SnapshotDatasetOperator,
    SplitDatasetOperator,
    TrainModelOperator,
)
from flights.columns import BASIC, TARGET, TIME
from flights.settings import ENDPOINT, ESTIMATOR, LANDED_FLIGHTS, MODEL

with DAG(
    "level0_manual_process",
    description="Analyse, prepare, train, evaluate, hand over and deploy by hand",
    schedule=None,
    params={
        "month": Param("2013-01", type="string", pattern=r"^\d{4}-\d{2}$", title="Month"),
        "learning_rate": Param(0.1, type="number", exclusiveMinimum=0, maximum=1),
        "max_iter": Param(50, type="integer", minimum=1, maximum=1000),
        "deploy": Param(True, type="boolean", description="Hand over and deploy as well"),
    },
    render_template_as_native_obj=True,
    doc_md=__doc__,
    tags=["mlops", "level-0", "flights"],
):

    @task.mlflow_run
    def analyse(dataset: dict[str, Any]) -> dict[str, float]:
        """Look at the data: how often is a flight late, by airport and hour?"""
        import mlflow

        from flights.analysis import late_rates

        table, summary = late_rates(dataset)
        mlflow.log_table(table, "late_rates.json")
        mlflow.log_metrics(summary)
        return summary

    @task.short_circuit
    def wanted(params: dict[str, Any]) -> bool:
        """Go on to the hand-over only if the person ticked it."""
        return bool(params["deploy"])

    extract = SnapshotDatasetOperator(
        task_id="extract",
        name="flights",
        source=LANDED_FLIGHTS,
        time_column=TIME,
        window_start="{{ params.month }}-01",
        window_end="{{ macros.ds_add(params.month ~ '-28', 4)[:7] }}-01",
    )
    prepare = SplitDatasetOperator(task_id="prepare", dataset=extract.output, column=TIME)
    train = TrainModelOperator(
        task_id="train",
        dataset=prepare.output["train"],
        estimator=ESTIMATOR,
        features=BASIC,
        target=TARGET,
        estimator_params={
            "learning_rate": "{{ params.learning_rate }}",
            "max_iter": "{{ params.max_iter }}",
        },
    )
    evaluate = EvaluateModelOperator(
        task_id="evaluate",
        model=train.output,
        dataset=prepare.output["test"],
        target=TARGET,
        slices=["origin", "carrier"],
    )
    hand_over = RegisterModelOperator(task_id="hand_over", model=train.output, name=MODEL)
    deploy = DeployModelOperator(
        task_id="deploy", model_version=hand_over.output, endpoint=ENDPOINT
    )

    [analyse(extract.output), evaluate] >> wanted() >> hand_over
