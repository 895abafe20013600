from __future__ import annotations

import json

import httpx
import pytest

from airflow_mlops_provider import cli
from airflow_mlops_provider.cli import logs
from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.records import EndpointRef, PipelineRunReport, PipelineRunSummary
from airflow_mlops_provider.serving import service
from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.stack.service import free_ports


def test_serve_passes_its_options_on(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(service, "serve", lambda options, announce: seen.append(options))
    assert cli.main(["serve", "--workspace", str(tmp_path), "--port", "0"]) == 0
    (options,) = seen
    assert (options.workspace, options.port, options.admin_port) == (tmp_path, 0, 8600)
    assert options.host == "127.0.0.1"
    assert options == service.ServeOptions(
        workspace=tmp_path, tracking_uri=options.tracking_uri, port=0
    )
    assert options.tracking_uri == f"sqlite:///{tmp_path}/mlflow/mlflow.db"


def test_own_errors_are_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys):
    def fail(options, announce):
        raise ServingUnavailableError("port taken")

    monkeypatch.setattr(service, "serve", fail)
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

    workers = [{"healthy": True, "memory_mb": 310.2}, {"healthy": False, "memory_mb": 12.0}]
    status = {"v1": {"wanted": 2, "workers": workers, "restarts": {"memory": 3, "hung": 1}}}

    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.path.endswith("/status")
        return httpx.Response(200, json=status if asked else [ref.to_xcom()])

    client = ServingClient("http://admin", "")
    client._client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(ServingClient, "from_workspace", lambda workspace: client)
    assert cli.main(["status", "--workspace", "w"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "flights  http://router/endpoints/flights/invocations  generation 4"
    assert shown[1].split() == ["v1", "95", "%", "models:/m/1"]
    assert shown[2].strip() == "1 of 2 healthy, 310, 12 MB, restarts: 3 memory, 1 hung"
    assert shown[3].split() == ["v2", "5", "%,", "mirrors", "10", "%", "models:/m/2"]
    assert shown[4].strip() == "starting"


@pytest.fixture
def logged(tmp_path):
    """A workspace with logs of the endpoints e and ee."""
    processes = tmp_path / "serving" / "processes"
    predictions = tmp_path / "serving" / "logs" / "e"
    for folder in (processes, predictions):
        folder.mkdir(parents=True)
    for name in ("e.v1", "e.v1.1", "e.v2", "ee.v1"):
        (processes / f"{name}.log").write_text(f"{name} says\n")
    (predictions / "v1-17-000002.open").write_text('{"row": 2}\n{"torn')
    (predictions / "v1-17-000001.jsonl").write_text('{"row": 1}\n')
    (predictions / "v-2-17-000003.jsonl").write_text('{"row": 3}\n')
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "shown"),
    [
        (["e"], ["e.v1 says", "e.v1.1 says", "e.v2 says"]),
        (["e", "v1"], ["e.v1 says", "e.v1.1 says"]),
        (["e", "--predictions"], ['{"row": 1}', '{"row": 2}', '{"row": 3}']),
        (["e", "v1", "--predictions"], ['{"row": 1}', '{"row": 2}']),
        (["e", "v-2", "--predictions"], ['{"row": 3}']),
    ],
)
def test_logs_of_an_endpoint_are_shown(logged, capsys, asked, shown):
    assert cli.main(["logs", *asked, "--workspace", str(logged)]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(shown)


@pytest.mark.parametrize("asked", [["x"], ["e", "v3"], ["../e"], ["x", "--predictions"]])
def test_logs_that_are_none_are_named(logged, capsys, asked):
    assert cli.main(["logs", *asked, "--workspace", str(logged)]) == 1
    assert asked[0] in capsys.readouterr().err


def test_logs_are_followed_through_renames_and_into_new_files(logged, monkeypatch):
    folder = logged / "serving" / "logs" / "e"
    open_, closed = folder / "v1-17-000002.open", folder / "v1-17-000002.jsonl"

    def write(seconds):
        if open_.exists():
            open_.write_text('{"row": 2}\n{"torn": false}\n')
            open_.rename(closed)
        else:
            (folder / "v1-17-000004.open").write_text('{"row": 4}\n')

    monkeypatch.setattr(logs.time, "sleep", write)
    found = logs.lines(lambda: logs._predictions(logged / "serving", "e", "v1"), follow=True)
    assert [next(found).strip() for _ in range(4)] == [
        '{"row": 1}',
        '{"row": 2}',
        '{"torn": false}',
        '{"row": 4}',
    ]


def test_status_without_a_host_says_how_to_start_one(tmp_path, capsys):
    assert cli.main(["status", "--workspace", str(tmp_path)]) == 1
    assert "airflow-mlops serve --workspace" in capsys.readouterr().err


def test_no_command_prints_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([])
    assert stopped.value.code == 2
    assert "COMMAND" in capsys.readouterr().err


@pytest.fixture
def recorded(tmp_path):
    """A workspace whose embedded MLflow knows one DAG run; and the id of its task's run."""
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import Metric
    from airflow_mlops_provider.steps import track

    (tmp_path / "mlflow").mkdir()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow/mlflow.db")
    experiment = track.experiment_id(client, "flights", str(tmp_path / "artifacts"))
    pipeline = {"airflow.dag_id": "flights", "airflow.run_id": "r [1]"}
    facts = {"airflow.run_type": "manual", "mlops.git_commit": "0123456789abcdef"}
    track.start_pipeline_run(client, experiment, pipeline, name="r", extra_tags=facts)
    task = {"airflow.task_id": "train", "airflow.map_index": "2", "airflow.try_number": "1"}
    with track.task_run(client, experiment, pipeline, task, "train") as run:
        run.log_record(Metric(value=0.5, low=None, high=None, n=3))
        run.log_metrics({"auc": 0.71234})
    track.finish_pipeline_run(client, experiment, pipeline, "FINISHED")
    return tmp_path, run.run_id


def test_a_run_is_shown_as_a_table_and_as_json(recorded, capsys):
    workspace, run_id = recorded
    where = ["--workspace", str(workspace)]
    assert cli.main(["runs", "show", "flights/r [1]", *where]) == 0
    shown = capsys.readouterr().out
    for word in ("flights · r [1]", "run_type manual", "0123456789ab", "train[2]", "auc 0.7123"):
        assert word in shown
    assert cli.main(["runs", "show", run_id, "--json", *where]) == 0
    report = PipelineRunReport.from_xcom(json.loads(capsys.readouterr().out))
    assert (report.run_id, report.tasks[0].outputs["Metric"]["n"]) == ("r [1]", 3)


def test_runs_are_listed_as_a_table_and_as_json(recorded, capsys, monkeypatch):
    workspace, _ = recorded
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{workspace}/mlflow/mlflow.db")
    assert cli.main(["runs", "list", "--dag", "flights"]) == 0
    assert "FINISHED" in capsys.readouterr().out
    assert cli.main(["runs", "list", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert PipelineRunSummary.from_xcom(found).dag_id == "flights"
    assert cli.main(["runs", "list", "--dag", "none"]) == 0
    assert capsys.readouterr().out == "No runs yet.\n"


def test_without_a_place_to_look_for_runs_the_options_are_named(capsys, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert cli.main(["runs", "list"]) == 1
    assert "Give --tracking-uri or --workspace" in capsys.readouterr().err


def test_a_server_that_is_away_is_one_line(capsys):
    (port,) = free_ports(1)
    assert cli.main(["runs", "list", "--tracking-uri", f"http://127.0.0.1:{port}"]) == 1
    assert "MLflow does not answer" in capsys.readouterr().err


def test_feedback_sends_each_line(tmp_path, monkeypatch, capsys):
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.extend(json.loads(request.content)["feedback"])
        return httpx.Response(200, json={"feedback_ids": ["a", "b"]})

    client = ServingClient("http://admin", "")
    client._client = httpx.Client(transport=httpx.MockTransport(answer))
    monkeypatch.setattr(ServingClient, "from_workspace", lambda workspace: client)
    file = tmp_path / "outcomes.jsonl"
    file.write_text('{"request_id": "r1", "label": 1}\n\n{"request_id": "r2", "label": 0}\n')
    assert cli.main(["feedback", "e", str(file), "--workspace", "w"]) == 0
    assert sent == [{"request_id": "r1", "label": 1}, {"request_id": "r2", "label": 0}]
    assert "2 outcomes of e are kept." in capsys.readouterr().out
    file.write_text('{"request_id"')
    assert cli.main(["feedback", "e", str(file), "--workspace", "w"]) == 1
    assert cli.main(["feedback", "e", str(tmp_path), "--workspace", "w"]) == 1
    assert "Line 1 is not JSON" in capsys.readouterr().err
