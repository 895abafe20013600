from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError, RecordError
from airflow_mlops_provider.steps.pipeline_cd.environments import read_environments

EXAMPLE = Path(__file__).resolve().parents[4] / "dags" / "flights" / "environments.yaml"


def one(**changes):
    given = {"name": "a", "repository": "/r", "ref": "x", "airflow_conn_id": "c"}
    return {**given, "bundle": "b", "dag_id": "d", **changes}


def test_the_example_is_read_in_order():
    found = read_environments(str(EXAMPLE))
    assert [each.name for each in found] == ["staging", "pre-production", "production"]
    assert [each.approval for each in found] == [False, False, True]


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{}", DataError, "must be a list of environments"),
        ("[]", DataError, "with at least one"),
        ("[", DataError, "must be a YAML or JSON list"),
        (json.dumps([one(), one()]), DataError, "names an environment twice"),
        (json.dumps([one(name="../a")]), ParameterError, "name parameter"),
        (json.dumps([one(approve=True)]), RecordError, "approve"),
        (json.dumps([{"name": "a"}]), RecordError, "repository"),
    ],
)
def test_a_file_that_is_wrong_is_refused(tmp_path, content, error, message):
    file = tmp_path / "environments.yaml"
    file.write_text(content)
    with pytest.raises(error, match=message):
        read_environments(str(file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.yaml"):
        read_environments(str(tmp_path / "nothing.yaml"))
