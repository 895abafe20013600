from __future__ import annotations

from unittest.mock import MagicMock

import pandas as pd
import pytest
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.records import ValidationReport


@pytest.mark.parametrize("severity", ["warning", "critical"])
def test_a_function_returns_the_suite_that_is_run(workspace, tmp_path, severity):
    import great_expectations.expectations as gxe

    pd.DataFrame({"n": [1, 2, 3]}).to_parquet(tmp_path / "rows.parquet")
    with DAG("a_dag"):

        @task.expectations(source=str(tmp_path / "rows.parquet"), experiment_name="a_dag")
        def flights(maximum) -> list:
            return [
                gxe.ExpectColumnMaxToBeBetween(column="n", max_value=maximum, severity=severity)
            ]

        operator = flights(2).operator
    ti = MagicMock(dag_id="a_dag", run_id="a_run", task_id="flights", map_index=-1, try_number=1)
    context = {"ti": ti, "task": operator, "outlet_events": MagicMock()}
    if severity == "critical":
        with pytest.raises(AirflowFailException, match="'flights'"):
            operator.execute(context)
    else:
        report = ValidationReport.from_xcom(operator.execute(context))
        assert (report.outcome, report.suite, report.n_failed) == ("retrain", "flights", 1)
