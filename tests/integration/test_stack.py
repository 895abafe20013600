"""The local stack for real: it comes up, works, and nothing of it stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from airflow_mlops_provider.stack.local import LocalStack

TINY = """
from airflow.sdk import Param, dag, task

@dag(schedule=None, params={"month": Param("2013-01", type="string")})
def tiny():
    @task
    def remember(params=None):
        return {"month": params["month"]}

    @task
    def repeat(memory):
        print("The month was", memory["month"])

    repeat(remember())

tiny()
"""


def standalone(home: Path, dags: Path) -> list[str]:
    """Return the command that runs the stack."""
    options = ["--home", str(home), "--dags", str(dags)]
    return [sys.executable, "-m", "airflow_mlops_provider.cli", "standalone", *options]


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A home, and a folder with one tiny DAG."""
    home, dags = tmp_path / "home", tmp_path / "dags"
    dags.mkdir()
    (dags / "tiny.py").write_text(TINY)
    return home, dags


def processes_of(home: Path) -> list[str]:
    """Return the command line of every process that works in or for ``home``."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if str(home) in command or str(home / "airflow") in process.environ().values():
                found.append(command)
        except (psutil.NoSuchProcess, psutil.ZombieProcess, psutil.AccessDenied):
            continue
    return found


def test_the_stack_runs_a_dag_and_leaves_nothing_behind(folders):
    home, dags = folders
    with LocalStack(home, dags) as stack:
        client = stack.client()
        client.wait_for_dag("tiny")
        run_id = client.trigger("tiny", {"month": "2013-03"})
        changes: list[tuple[str, str]] = []
        assert client.wait("tiny", run_id, 90, lambda *each: changes.append(each)) == "success"
        assert ("repeat", "success") in changes
        assert client.results("tiny", run_id) == {"remember": {"month": "2013-03"}}
        assert "The month was 2013-03" in client.log_tail("tiny", run_id, "repeat")
        assert client.runs("tiny") == {run_id: "success"}
        assert client.import_errors() == {}
        check_services_page(stack)
        assert processes_of(home)
    assert processes_of(home) == []


def check_services_page(stack: LocalStack) -> None:
    """Strangers are turned away; users see each service's state, also of one that is gone."""
    url = f"{stack.airflow_url}/mlops/services"
    assert httpx.get(url).status_code == 401
    login = {"username": "admin", "password": stack.password}
    token = httpx.post(f"{stack.airflow_url}/auth/token", json=login).json()["access_token"]

    def states() -> dict[str, bool]:
        answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=60)
        return {each["name"]: each["up"] for each in answer.raise_for_status().json()}

    assert states() == {"MLflow": True, "Serving host": True}
    mlflow = stack.services[0]
    mlflow.release()
    mlflow.join()
    assert states() == {"MLflow": False, "Serving host": True}


@pytest.fixture
def started(folders) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes to clean up if a test fails half-way."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("Airflow is starting", signal.SIGKILL),
        ("MLflow is up", signal.SIGINT),
        ("Ctrl-C stops everything", signal.SIGTERM),
    ],
)
def test_an_interruption_leaves_nothing_behind(folders, started, moment, number):
    home, dags = folders
    command = standalone(home, dags)
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    started.append(process)
    assert process.stdout is not None
    assert any(moment in line for line in process.stdout), tail_of(home)
    process.send_signal(number)
    process.wait(timeout=60)
    deadline = time.monotonic() + 40
    while processes_of(home) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert processes_of(home) == []


def tail_of(home: Path) -> str:
    """Return what the services logged last, for a failing test's message."""
    return "\n".join(log.read_text()[-1000:] for log in (home / "logs").glob("*.log"))


@pytest.mark.slow
def test_a_home_survives_being_killed(folders, started):
    home, dags = folders
    process = subprocess.Popen(
        standalone(home, dags),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    started.append(process)
    assert process.stdout is not None
    assert any("Airflow is up" in line for line in process.stdout)
    process.kill()
    with LocalStack(home, dags) as stack:
        stack.client().wait_for_dag("tiny")
