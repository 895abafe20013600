from __future__ import annotations

from unittest.mock import patch

import pandas as pd
import pyarrow as pa
import pytest
from airflow.sdk import DAG, Asset, AssetAlias
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.links import DataCardLink
from airflow_mlops_provider.operators.snapshot import SnapshotDatasetOperator
from airflow_mlops_provider.records import DatasetRef


def numbers(n):
    return pd.DataFrame({"n": range(n), "m": 0})


def numbers_one_by_one(n):
    yield from (pa.table({"n": [each]}) for each in range(n))


@pytest.fixture
def landing(tmp_path):
    days = pd.date_range("2013-01-30", periods=4, freq="D", tz="UTC")
    pd.DataFrame({"at": days, "n": range(4)}).to_parquet(tmp_path / "in.parquet")
    return str(tmp_path / "*.parquet")


def snapshot(tmp_path, **arguments):
    given = {"task_id": "t", "name": "flights", "workspace": str(tmp_path / "w"), **arguments}
    return SnapshotDatasetOperator(**given)


def test_files_are_kept_logged_and_announced(context, run, tmp_path, landing):
    alias = AssetAlias("datasets")
    operator = snapshot(
        tmp_path,
        source=landing,
        time_column="at",
        window_start="2013-01-01",
        window_end="2013-02-01",
        columns=["n"],
        owner="data team",
        license="CC0",
        description="Some flights",
        outlets=[alias],
    )
    dataset = DatasetRef.from_xcom(operator.execute(context))
    assert (dataset.n_rows, dataset.columns) == (2, {"n": "int64"})
    run.log_record.assert_called_once_with(dataset)
    run.log_dataset.assert_called_once_with(dataset, "snapshot")
    context["outlet_events"].__getitem__.assert_called_once_with(alias)
    context["outlet_events"][alias].add.assert_called_once_with(
        Asset("mlops-dataset://flights"), extra=dataset.to_xcom()
    )


def test_the_card_is_logged_with_its_button(context, run, tmp_path, landing):
    run.client.tracking_uri = "http://mlflow"
    operator = snapshot(
        tmp_path, source=landing, owner="data team", license="CC0", description="Some flights"
    )
    operator.execute(context)
    page, name = run.log_page.call_args.args
    assert name == "data_card.html"
    for said in ["data team", "CC0", "Some flights", "in.parquet", "a_dag", "a_run"]:
        assert said in page
    url = "http://mlflow/#/experiments/1/runs/run-1/artifacts/data_card.html"
    context["ti"].xcom_push.assert_called_once_with(key=DataCardLink.xcom_key, value=url)
    assert "Data card" in [link.name for link in operator.operator_extra_links]


@pytest.mark.parametrize("source", [numbers, numbers_one_by_one])
def test_a_function_gives_the_rows(context, run, tmp_path, source):
    operator = snapshot(tmp_path, source=source, op_kwargs={"n": 3}, columns=["n"])
    record = operator.execute(context)
    assert record["n_rows"] == 3
    assert record["columns"] == {"n": "int64"}
    assert record["source"].endswith(f".{source.__name__}")
    assert record["source"] in run.log_page.call_args.args[0]
    context["outlet_events"].__getitem__.assert_not_called()


def test_a_query_is_streamed_with_its_parameters_bound(context, run, tmp_path):
    rows = [pa.table({"n": [1]}), pa.table({"n": [2]})]
    operator = snapshot(
        tmp_path,
        sql="SELECT n\nFROM t WHERE n > :least",
        conn_id="db",
        parameters={"least": 0},
    )
    with patch("airflow_mlops_provider.hooks.sql.stream_query", return_value=rows) as stream:
        record = operator.execute(context)
    stream.assert_called_once_with("db", operator.sql, {"least": 0})
    assert (record["n_rows"], record["source"]) == (2, "db: SELECT n FROM t WHERE n > :least")
    assert "SELECT n\nFROM t" in run.log_page.call_args.args[0].replace("&gt;", ">")


def test_a_query_may_lie_in_a_file_and_is_rendered(tmp_path, context):
    (tmp_path / "flights.sql").write_text("SELECT '{{ ti.dag_id }}'")
    with DAG("a_dag", template_searchpath=[str(tmp_path)]) as dag:
        operator = snapshot(tmp_path, sql="flights.sql", conn_id="db")
    operator.resolve_template_files()
    operator.render_template_fields({**context, "dag": dag})
    assert operator.sql == "SELECT 'a_dag'"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "exactly one of source and sql"),
        ({"source": "a", "sql": "SELECT 1"}, "exactly one of source and sql"),
        ({"sql": "SELECT 1"}, "conn_id parameter .* given with sql"),
        ({"source": "a", "table_format": "hudi"}, "table_format parameter .*'delta', 'iceberg'"),
    ],
)
def test_arguments_that_do_not_fit_are_named(context, run, tmp_path, arguments, said):
    with pytest.raises(AirflowFailException, match=said):
        snapshot(tmp_path, **arguments).execute(context)


@pytest.mark.parametrize(
    ("table_format", "module"), [("delta", "deltalake"), ("iceberg", "pyiceberg.catalog")]
)
def test_a_missing_library_is_told_with_the_extra_to_install(
    context, run, tmp_path, table_format, module
):
    operator = snapshot(tmp_path, source="t", table_format=table_format)
    missing = patch.dict("sys.modules", {module: None})
    with (
        missing,
        pytest.raises(AirflowFailException, match=rf"airflow-provider-mlops\[{table_format}\]"),
    ):
        operator.execute(context)
