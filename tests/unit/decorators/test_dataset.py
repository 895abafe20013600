from __future__ import annotations

from unittest.mock import MagicMock

import pandas as pd
import pyarrow as pa
import pytest
from airflow.sdk import DAG, task

from airflow_mlops_provider.decorators.dataset import dataset_task
from airflow_mlops_provider.records import DatasetRef


def frame(n, ti=None):
    return pd.DataFrame({"n": range(n), "task": ti.task_id})


def pieces(n, *, ti):
    yield from (pa.table({"n": [each], "task": [ti.task_id]}) for each in range(n))


@pytest.mark.parametrize("function", [frame, pieces])
def test_the_rows_of_a_function_are_kept(workspace, function):
    with DAG("a_dag"):
        operator = dataset_task(function, name="numbers", experiment_name="a_dag")(3).operator
    ti = MagicMock(dag_id="a_dag", run_id="a_run", task_id="rows", map_index=-1, try_number=1)
    record = operator.execute({"ti": ti, "task": operator, "outlet_events": MagicMock()})
    ref = DatasetRef.from_xcom(record)
    assert (ref.name, ref.n_rows, [*ref.columns]) == ("numbers", 3, ["n", "task"])
    assert ref.source.endswith(f".{function.__name__}")


def test_airflow_offers_it_as_task_dataset():
    with DAG("a_dag"):

        @task.dataset(name="numbers", license="CC0")
        def numbers():
            return pd.DataFrame({"n": [1]})

        operator = numbers().operator
    assert (operator.task_id, operator.name, operator.license) == ("numbers", "numbers", "CC0")
