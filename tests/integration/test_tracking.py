"""Tracking through faults: real processes that are killed, a real server that goes away."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote

import mlflow
import psutil
import pytest

from airflow_mlops_provider.exceptions import MlflowUnavailableError
from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.stack.local import mlflow_server
from airflow_mlops_provider.stack.service import free_ports, stop_all, wait_until_healthy
from airflow_mlops_provider.steps.find_runs import find_runs
from airflow_mlops_provider.steps.runs import read_pipeline_run
from airflow_mlops_provider.steps.track import finish_pipeline_run, task_run
from tests.tracking_process import pipeline_of, task_of

ROOT = Path(__file__).resolve().parents[2]
DAGS = ROOT / "tests" / "tracking_dags"
SECONDS = 240
"""How long anything may take on a busy machine."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow, which tests may kill, and an Airflow whose tasks use it."""
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    service = mlflow_server(folder, url, folder / "server.log")
    bundle = {
        "name": "tracking",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(DAGS)},
    }
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        connection = {"conn_type": "mlflow", "host": url}
        patched.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps(connection))
        service.start()
        subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
        wait_until_healthy([service], SECONDS, lambda line: None)
        service.url = url
        yield service
        stop_all([service])


@pytest.fixture
def client(server):
    return mlflow.MlflowClient(server.url, server.url)


@pytest.fixture
def experiment(client):
    return experiment_named(client, "a_dag")


def experiment_named(client, name):
    found = client.get_experiment_by_name(name)
    return found.experiment_id if found else client.create_experiment(name)


@pytest.fixture
def process(server):
    """Start ``tests.tracking_process``; what is left of it is killed."""
    started = []

    def start(what, *arguments):
        command = [sys.executable, "-m", "tests.tracking_process", what, server.url]
        command += [json.dumps(each) for each in arguments]
        streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        started.append(subprocess.Popen(command, cwd=ROOT, text=True, **streams))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.communicate()


def statuses(client, experiment, run_id):
    """Return how often which MLflow run of a DAG run has which status."""
    runs = find_runs(client, experiment, {"airflow.run_id": run_id})
    return Counter((run.info.run_name, run.info.status) for run in runs)


def eventually(holds, seconds=SECONDS):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.2)


# --- whole DAG runs under Airflow's own task runner


@pytest.fixture(scope="module")
def dag(server):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(DAGS), bundle_name="tracking", bundle_path=DAGS)
    sync_bag_to_db(bag, "tracking", None)
    return bag.dags["tracked"]


def go_on(dag, run_id):
    """Run what is left of a DAG run, as ``dag.test()`` does; return its state."""
    from airflow.models import DagRun
    from airflow.sdk.definitions.dag import _run_task
    from airflow.serialization.serialized_objects import DagSerialization
    from airflow.utils.session import create_session
    from airflow.utils.state import DagRunState, TaskInstanceState

    with create_session() as session:
        run = session.query(DagRun).filter_by(run_id=run_id).one()
        run.dag = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
        run.set_state(DagRunState.RUNNING)
        while run.state == DagRunState.RUNNING:
            session.expire_all()
            for each in run.update_state(session=session)[0]:
                each.try_number += 1
                each.state = TaskInstanceState.SCHEDULED
            session.commit()
            for each in run.get_task_instances(state=["scheduled"], session=session):
                _run_task(ti=each, task=dag.task_dict[each.task_id])
        return run.state


def clear(dag, run_id, task_id):
    """Clear a task and what depends on it, as the API does."""
    from airflow.serialization.serialized_objects import DagSerialization

    scheduled = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    part = scheduled.partial_subset([task_id], include_downstream=True, include_upstream=False)
    part.clear(run_id=run_id, task_ids=list(part.task_dict))


def test_retries_mapped_tasks_and_clears_stay_in_one_run(dag, client):
    run = dag.test(run_conf={"fail": 1})
    assert run.state == "success"
    experiment = experiment_named(client, "tracked")
    once = {
        (run.run_id, "FINISHED"): 1,
        ("prepare", "FINISHED"): 1,
        ("work", "FINISHED"): 3,
        ("work", "FAILED"): 1,
        ("report", "FINISHED"): 1,
    }
    assert statuses(client, experiment, run.run_id) == once

    clear(dag, run.run_id, "work")
    assert go_on(dag, run.run_id) == "success"
    again = once | {("work", "FINISHED"): 6, ("report", "FINISHED"): 2}
    assert statuses(client, experiment, run.run_id) == again

    report = read_pipeline_run(client, f"tracked/{run.run_id}")
    (failed,) = (task for task in report.tasks if task.status == "FAILED")
    assert (failed.task_id, failed.map_index, failed.try_number) == ("work", 1, 1)
    tries = sorted(task.try_number for task in report.tasks if task.map_index == 1)
    assert tries == [1, 2, 3]
    check_what_is_told(report, failed)


def check_what_is_told(report, task):
    assert report.trigger["run_type"] == "manual"
    assert report.trigger["user"] == "dag_test"
    assert report.trigger["conf"] == {"fail": 1}
    assert report.versions["environment_hash"] == task.versions["environment_hash"]
    assert task.airflow_url == f"{report.airflow_url}/tasks/work/mapped/1?try_number=1"
    assert report.airflow_url.endswith(f"/dags/tracked/runs/{quote(report.run_id)}")
    assert "hunter2" not in json.dumps(report.to_xcom())


@pytest.mark.slow
def test_a_task_that_is_told_to_stop_ends_its_run_itself(dag, client, server):
    code = (
        "from tests.tracking_dags.tracked import pipeline as dag; dag.test(run_conf={'hang': 600})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=os.environ)
    experiment = experiment_named(client, "tracked")

    def hanging():
        tags = {"airflow.task_id": "report", "airflow.try_number": "1", "hangs": "yes"}
        return [r for r in find_runs(client, experiment, tags) if r.info.status == "RUNNING"]

    try:
        eventually(hanging)
        (run,) = hanging()
        process.send_signal(signal.SIGTERM)
        eventually(lambda: not hanging())
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert client.get_run(run.info.run_id).info.status == "KILLED"
    run_id = run.data.tags["airflow.run_id"]
    give_back(run_id)
    assert go_on(dag, run_id) == "success"
    found = statuses(client, experiment, run_id)
    assert (found["report", "KILLED"], found["report", "FINISHED"]) == (1, 1)
    assert found[run_id, "FINISHED"] == 1
    assert not [status for _, status in found if status == "RUNNING"]


def give_back(run_id):
    """Let the tasks that lost their worker run again, as the scheduler does."""
    from airflow.models import TaskInstance
    from airflow.utils.session import create_session

    with create_session() as session:
        lost = session.query(TaskInstance).filter_by(run_id=run_id, state="running")
        for each in lost:
            each.state, each.end_date = "up_for_retry", datetime.now(UTC)


# --- the steps alone, in processes that die


def test_what_a_killed_worker_left_open_is_closed(process, client, experiment):
    worker = process("wait", "retried", "torn down")
    opened = [worker.stdout.readline().strip() for _ in range(2)]
    worker.kill()
    worker.wait()
    with task_run(client, experiment, pipeline_of("retried"), task_of("tune", 2), "tune"):
        found = statuses(client, experiment, "retried")
        assert (found["tune", "KILLED"], found["tune", "RUNNING"]) == (1, 1)
    assert finish_pipeline_run(client, experiment, pipeline_of("torn down"), "FAILED")[1] == 2
    for run_id in opened:
        (trial,) = find_runs(client, experiment, {"mlflow.parentRunId": run_id})
        assert trial.info.status == client.get_run(run_id).info.status == "KILLED"


def test_rivals_agree_on_one_pipeline_run_and_do_not_mix_two(process, client, experiment):
    run_ids = [f"race {number}" for number in range(6)]
    own = ["at once, 1", "at once, 2"]
    rivals = [process("race", run_ids, each) for each in own]
    assert [each.stdout.readline() for each in rivals] == ["ready\n", "ready\n"]
    at = time.time() + 1
    for each in rivals:
        each.stdin.write(f"{at}\n")
        each.stdin.flush()
    told = [each.communicate(timeout=SECONDS)[0].splitlines() for each in rivals]
    first, second = (json.loads(lines[-1]) for lines in told)
    assert first == second
    for run_id, agreed in zip(run_ids, first, strict=True):
        (run,) = find_runs(client, experiment, {"airflow.run_id": run_id})
        assert (run.info.run_id, run.info.status) == (agreed, "RUNNING")
    for run_id in own:
        check_whole(client, read_pipeline_run(client, f"a_dag/{run_id}"))


def check_whole(client, report):
    expected = [(task_id, "FINISHED") for task_id in ("a", "b", "c")]
    assert [(task.task_id, task.status) for task in report.tasks] == expected
    tags = [client.get_run(task.mlflow_run_id).data.tags for task in report.tasks]
    assert {each["mlflow.parentRunId"] for each in tags} == {report.mlflow_run_id}


@pytest.mark.slow
def test_a_server_that_goes_away_hides_no_error_and_leaves_nothing_open(
    process, server, client, experiment
):
    worker = process("wait", "away")
    opened = worker.stdout.readline().strip()
    for each in psutil.Process(server._process.pid).children(recursive=True):
        each.kill()
    server.join()
    with pytest.raises(MlflowUnavailableError):
        MlflowHook().get_conn()
    _, told = worker.communicate("go\n", timeout=SECONDS)
    assert told.splitlines()[-1] == "ValueError: the error of the task"
    server.start()
    wait_until_healthy([server], SECONDS, lambda line: None)
    assert client.get_run(opened).info.status == "RUNNING"
    finish_pipeline_run(client, experiment, pipeline_of("away"), "FAILED")
    assert set(statuses(client, experiment, "away")) == {("away", "FAILED"), ("tune", "KILLED")}
