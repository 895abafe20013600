import importlib
import json
import subprocess
import sys
from importlib.resources import files

import jsonschema
import pytest

from airflow_mlops_provider.get_provider_info import get_provider_info

CONNECTIONS = {each["connection-type"]: each for each in get_provider_info()["connection-types"]}


def airflow(*arguments):
    command = [sys.executable, "-m", "airflow", *arguments, "--output", "json"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output[output.index("[") :])


def test_it_is_what_airflow_expects():
    schema = json.loads((files("airflow") / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_each_connection_type_has_its_hook(kind):
    module, _, name = CONNECTIONS[kind]["hook-class-name"].rpartition(".")
    hook = getattr(importlib.import_module(module), name)
    assert hook.conn_type == kind
    assert hook.hook_name == CONNECTIONS[kind]["hook-name"]
    assert hook.default_conn_name
    assert callable(hook.test_connection)


def test_airflow_lists_the_provider():
    found = {each["package_name"]: each["version"] for each in airflow("providers", "list")}
    assert found["airflow-provider-mlops"] == get_provider_info()["versions"][0]


def test_airflow_lists_the_hooks():
    found = {each["connection_type"]: each["class"] for each in airflow("providers", "hooks")}
    expected = {kind: each["hook-class-name"] for kind, each in CONNECTIONS.items()}
    assert expected.items() <= found.items()
