from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from types import SimpleNamespace

import httpx
import psutil
import pytest

from airflow_mlops_provider.exceptions import ModelError
from airflow_mlops_provider.serving import keeper, processes, workers
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.state import Deployment
from airflow_mlops_provider.serving.workers import Launcher, Worker

KEY, V1 = ("e", "v1"), Deployment(model_uri="models:/m/1")
SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


@pytest.fixture
def launcher(tmp_path):
    client = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: httpx.Response(200)))
    return Launcher(tmp_path, "uri", client)


@pytest.fixture
def scorer(tmp_path, monkeypatch):
    """Writes what plays the scorer: a shell script."""
    path = tmp_path / "scorer"
    monkeypatch.setattr(workers, "sys", SimpleNamespace(executable=str(path)))

    def write(script: str) -> None:
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o700)

    return write


@pytest.mark.parametrize(("outside", "seen"), [(None, 1), ("3", 3)])
async def test_scorer_predicts_with_one_thread_unless_told_otherwise(
    launcher, scorer, monkeypatch, outside, seen
):
    if outside is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", outside)
    scorer('echo "{\\"port\\": ${OMP_NUM_THREADS:-0}}"\nexec sleep 60')  # it reports what it sees
    worker = await launcher.start(KEY, V1, 0, 20)
    await processes.stop(worker.process)
    assert worker.port == seen


@pytest.mark.parametrize(
    ("script", "what"),
    [
        ("echo bad model >&2", "(?s)ended.*bad model"),
        ("echo '[]'; exec sleep 60", "ended"),
        ("echo slow model >&2; exec sleep 60", r"(?s)not ready in 0\.5 s.*slow model"),
    ],
)
async def test_scorer_that_does_not_come_up_is_told_and_gone(
    launcher, scorer, tmp_path, script, what
):
    scorer(script)
    with pytest.raises(ModelError, match=what):
        await launcher.start(KEY, V1, 0, 0.5)
    assert keeper.children_of(tmp_path) == []


def test_scorer_is_told_its_options(launcher):
    wanted = Deployment(model_uri="models:/m/1", options=DeploymentOptions.of({"native": False}))
    arguments = launcher.arguments(KEY, wanted, 3)
    (options,) = (each for each in arguments if each.startswith("--options="))
    assert DeploymentOptions.of(json.loads(options.partition("=")[2])) == wanted.options
    assert "--worker=3" in arguments
    assert arguments != launcher.arguments(KEY, V1, 3)


async def test_worker_is_found_again_by_who_it_is(tmp_path):
    process = await processes.spawn(SLEEP, tmp_path / "log", tmp_path)
    worker = Worker(process, processes.Born.of(process.pid), 1, 0, ["x"])
    described = worker.describe()
    found = Worker.find(described, tmp_path)
    assert (found.born, found.port, found.arguments) == (worker.born, 1, ["x"])
    assert found.process.returncode is None
    assert Worker.find(described, tmp_path / "other") is None
    later = {**described, "born": {**asdict(worker.born), "created": worker.born.created + 60}}
    assert Worker.find(later, tmp_path) is None
    found.process.kill()
    assert await asyncio.wait_for(found.process.wait(), 20) == -1
    assert Worker.find(described, tmp_path) is None
    await process.wait()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_children_of_a_host_that_died_are_ended(tmp_path, number):
    marked = {**os.environ, keeper.MARK: str(tmp_path)}
    child = subprocess.Popen(SLEEP, env=marked, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    command = [sys.executable, "-m", keeper.__name__, str(tmp_path), "0.1"]
    kept = subprocess.Popen(command, env=marked, stdin=subprocess.PIPE)
    assert psutil.pid_exists(child.pid)
    assert child.poll() is None
    if number == signal.SIGTERM:  # another host took over
        kept.terminate()
        assert kept.wait(20) != 0
        assert child.poll() is None
        child.kill()
    else:
        kept.stdin.close()
        assert kept.wait(30) == 0
    assert child.wait(20) != 0
    child.stdout.close()
    kept.stdin.close()


def test_keeper_is_known(tmp_path):
    command = [sys.executable, "-m", keeper.__name__, str(tmp_path), "0"]
    marked = {**os.environ, keeper.MARK: str(tmp_path)}
    with subprocess.Popen(command, env=marked, stdin=subprocess.PIPE) as kept:
        (found,) = keeper.children_of(tmp_path)
        assert keeper.is_keeper(found)
        assert not keeper.is_keeper(psutil.Process())
        assert os.getpid() in {each.pid for each in keeper.ancestors(found)}
        kept.stdin.close()
