from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from airflow.providers.standard.utils import python_virtualenv

from airflow_mlops_provider.exceptions import StepFailedError
from airflow_mlops_provider.operators.virtualenvs import virtualenv_python


@pytest.fixture
def made(monkeypatch):
    """What Airflow's mechanism was asked for; it makes an empty file instead of an interpreter."""
    asked = []

    def prepare(**given):
        asked.append(given)
        python = Path(given["venv_directory"], "bin", "python")
        python.parent.mkdir(parents=True)
        python.touch()
        return str(python)

    monkeypatch.setattr(python_virtualenv, "prepare_virtualenv", prepare)
    return asked


def test_the_same_requirements_share_an_environment(made, tmp_path):
    first = virtualenv_python(["b==1", "a"], cache=tmp_path)
    assert virtualenv_python(["a", "b==1"], cache=tmp_path) == first
    assert len(made) == 1
    assert made[0]["python_bin"] == sys.executable
    assert virtualenv_python(["a"], cache=tmp_path) != first
    virtualenv_python(["a"], "3.12", cache=tmp_path)
    assert made[2]["python_bin"] == "python3.12"


def test_an_environment_that_was_deleted_is_made_again(made, tmp_path):
    first = Path(virtualenv_python(["a"], cache=tmp_path))
    first.unlink()
    second = Path(virtualenv_python(["a"], cache=tmp_path))
    assert second.exists()
    assert not first.parent.exists()


def test_an_installer_that_fails_is_told_and_leaves_nothing_in_use(made, tmp_path, monkeypatch):
    def fail(**given):
        raise subprocess.CalledProcessError(1, ["pip", "install", "nonsense"])

    with monkeypatch.context() as broken:
        broken.setattr(python_virtualenv, "prepare_virtualenv", fail)
        with pytest.raises(StepFailedError, match=r"\['nonsense'\].*pip"):
            virtualenv_python(["nonsense"], cache=tmp_path)
    assert Path(virtualenv_python(["nonsense"], cache=tmp_path)).exists()


def slowly(cache, told):
    """Make an environment slowly, and tell which one it is."""

    def prepare(venv_directory, **given):
        python = Path(venv_directory, "bin", "python")
        python.parent.mkdir(parents=True)
        time.sleep(1)
        python.touch()
        return str(python)

    python_virtualenv.prepare_virtualenv = prepare
    told.put(virtualenv_python(["a"], cache=cache))


def test_two_tasks_at_once_make_it_once(tmp_path):
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    tasks = [context.Process(target=slowly, args=(tmp_path, told)) for _ in range(2)]
    for task in tasks:
        task.start()
    pythons = {told.get(timeout=60) for _ in tasks}
    for task in tasks:
        task.join()
    assert len(pythons) == 1
    assert len([each for each in tmp_path.iterdir() if each.is_dir()]) == 1


def test_what_a_killed_task_left_is_never_used(made, tmp_path):
    code = f"""
        import time
        from pathlib import Path
        from airflow.providers.standard.utils import python_virtualenv
        from airflow_mlops_provider.operators.virtualenvs import virtualenv_python

        def prepare(venv_directory, **given):
            Path(venv_directory, "bin").mkdir(parents=True)
            Path(venv_directory, "bin", "python").write_text("broken")
            print("half", flush=True)
            time.sleep(600)

        python_virtualenv.prepare_virtualenv = prepare
        virtualenv_python(["a"], cache=Path({str(tmp_path)!r}))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as task:
        while task.stdout.readline() != "half\n":
            pass
        os.kill(task.pid, signal.SIGKILL)
    python = Path(virtualenv_python(["a"], cache=tmp_path))
    assert python.read_text() == ""
    assert len([each for each in tmp_path.iterdir() if each.is_dir()]) == 1


def test_airflow_makes_an_interpreter_that_runs(tmp_path):
    python = virtualenv_python([], cache=tmp_path)
    command = [python, "-c", "import sys; print(sys.prefix)"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(printed).parent == tmp_path
