from __future__ import annotations

import httpx
import pytest

from airflow_mlops_provider import cli
from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.records import EndpointRef
from airflow_mlops_provider.serving import admin
from airflow_mlops_provider.serving.client import ServingClient


def test_serve_passes_its_options_on(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(admin, "serve", lambda options, announce: seen.append(options))
    assert cli.main(["serve", "--workspace", str(tmp_path), "--port", "0"]) == 0
    (options,) = seen
    assert (options.workspace, options.port, options.admin_port) == (tmp_path, 0, 8600)
    assert options.host == "127.0.0.1"
    assert options.tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_own_errors_are_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys):
    def fail(options, announce):
        raise ServingUnavailableError("port taken")

    monkeypatch.setattr(admin, "serve", fail)
    assert cli.main(["serve", "--workspace", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "airflow-mlops: port taken\n"


def test_status_shows_deployments_and_traffic(monkeypatch, capsys):
    ref = EndpointRef(
        endpoint="flights",
        url="http://router/endpoints/flights",
        deployments={"v1": "models:/m/1", "v2": "models:/m/2"},
        traffic={"v1": 95, "v2": 5},
        mirror_traffic={"v2": 10},
        generation=4,
    )

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=[ref.to_xcom()])

    client = ServingClient("http://admin", "")
    client._client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(ServingClient, "from_workspace", lambda workspace: client)
    assert cli.main(["status", "--workspace", "w"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "flights  http://router/endpoints/flights/invocations  generation 4"
    assert shown[1].split() == ["v1", "95", "%", "models:/m/1"]
    assert shown[2].split() == ["v2", "5", "%,", "mirrors", "10", "%", "models:/m/2"]


def test_status_without_a_host_says_how_to_start_one(tmp_path, capsys):
    assert cli.main(["status", "--workspace", str(tmp_path)]) == 1
    assert "airflow-mlops serve --workspace" in capsys.readouterr().err


def test_no_command_prints_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 2
    assert "COMMAND" in capsys.readouterr().err
