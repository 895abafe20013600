"""Push-down to a real PostgreSQL, and what goes wrong on the way there."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import sqlalchemy as sa

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServiceError
from airflow_mlops_provider.stack.service import free_ports
from airflow_mlops_provider.steps.data_docs import data_docs_page
from airflow_mlops_provider.steps.database import DatabaseTable
from airflow_mlops_provider.steps.validate import validate

SECRET = "s3cr$t/word"


@pytest.fixture(scope="module")
def url(postgres):
    engine = sa.create_engine(postgres)
    frame = pd.DataFrame({"n": [1, 2, 3], "text": ["a", "b", None]})
    with engine.begin() as connection:
        connection.execute(sa.text('CREATE SCHEMA "other"'))
        frame.to_sql("rows", connection, index=False)
        frame.to_sql("Upper case", connection, index=False, schema="other")
        frame[:0].to_sql("rowless", connection, index=False)
    engine.dispose()
    return sa.make_url(postgres).set(password=SECRET).render_as_string(hide_password=False)


def entry(kind, severity="critical", **kwargs):
    return {"type": kind, "kwargs": kwargs, "severity": severity}


def ask(table, tmp_path, *entries):
    return validate(table, {"expectations": [*entries]}, suite_name="s", workspace=str(tmp_path))


@pytest.mark.parametrize(("name", "schema"), [("rows", None), ("Upper case", "other")])
def test_a_table_is_asked_where_it_lies(url, tmp_path, name, schema):
    found = ask(
        DatabaseTable(url, name, schema),
        tmp_path,
        entry("expect_table_row_count_to_equal", value=3),
        entry("expect_table_columns_to_match_set", column_set=["n", "text"], exact_match=True),
        entry("expect_column_values_to_be_between", "warning", column="n", max_value=2),
        entry("expect_column_max_to_be_between", "info", column="nonsense", max_value=2),
    )
    report = found.report
    assert (report.outcome, report.n_failed, report.n_errored) == ("retrain", 1, 1)
    assert report.dataset_uri.endswith(f"/postgres#{f'{schema}.' if schema else ''}{name}")
    told = [str(found), json.dumps(report.to_xcom()), data_docs_page(found)]
    told += [path.read_text() for path in Path(tmp_path).rglob("*.json")]
    assert not any(SECRET in text or "s3cr" in text for text in told)


def test_sqlite_is_asked_too(tmp_path):
    url = f"sqlite:///{tmp_path}/rows.db"
    pd.DataFrame({"n": [1, 2]}).to_sql("rows", sa.create_engine(url), index=False)
    asked = entry("expect_column_max_to_be_between", column="n", max_value=2)
    assert ask(DatabaseTable(url, "rows"), tmp_path, asked).report.outcome == "passed"


@pytest.mark.parametrize(
    ("name", "message"), [("nobody", "no table 'nobody'"), ("rowless", "no rows to validate")]
)
def test_a_table_that_is_missing_or_empty_is_named(url, tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        ask(DatabaseTable(url, name), tmp_path, entry("expect_column_to_exist", column="n"))


def test_a_database_that_does_not_answer_is_worth_a_retry_and_keeps_its_password(tmp_path):
    url = f"postgresql://somebody:secret@127.0.0.1:{free_ports(1)[0]}/d"
    with pytest.raises(ServiceError, match=r"127\.0\.0\.1.*does not answer") as error:
        ask(DatabaseTable(url, "t"), tmp_path, entry("expect_column_to_exist", column="n"))
    assert "secret" not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "url", ["nonsense", "nonsense://u:secret@h/d", "postgresql://u:secret@h:x/d"]
)
def test_what_is_no_database_is_named_without_its_password(url, tmp_path):
    with pytest.raises(ParameterError) as error:
        ask(DatabaseTable(url, "t"), tmp_path, entry("expect_column_to_exist", column="n"))
    assert "secret" not in str(error.value)
    assert "Correct" in str(error.value)


def test_a_database_that_goes_away_meanwhile_is_worth_a_retry(url):
    table = DatabaseTable(url, "rows")
    with pytest.raises(ServiceError, match=r"\*\*\*"):
        table.require_answers(f"(psycopg.OperationalError) {SECRET} server closed the connection")
    table.require_answers("(psycopg.errors.InvalidRegularExpression) brackets")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            entry(
                "expect_column_values_to_match_strftime_format", column="text", strftime_format="%Y"
            ),
            "no SQL for it",
        ),
        (entry("expect_column_values_to_match_regex", column="text", regex="["), "on no data"),
    ],
)
def test_what_the_database_cannot_evaluate_is_no_failure_of_the_data(url, tmp_path, asked, message):
    with pytest.raises(ParameterError, match=message):
        ask(DatabaseTable(url, "rows"), tmp_path, asked)
