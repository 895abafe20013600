from __future__ import annotations

import os
import threading
import time

import pytest

from airflow_mlops_provider.exceptions import StepFailedError
from tests.forges import PYTHON, commands_in

SLEEPING = "import subprocess, sys; print('up', flush=True); subprocess.run(['sleep', '600'])"


def run(commands, code, tmp_path, seconds=60):
    return commands.run("a step", [PYTHON, "-c", code], folder=tmp_path, seconds=seconds)


def test_the_whole_output_is_in_the_log_and_its_end_in_the_error(tmp_path):
    said = []
    ended = run(commands_in(tmp_path, said=said), "for n in range(999): print(n)\n1/0", tmp_path)
    assert not ended.succeeded()
    assert len((tmp_path / "logs" / "a-step.log").read_text().splitlines()) > 999
    assert len(said) > 999
    assert len(ended.reason().splitlines()) < 50
    assert "ZeroDivisionError" in ended.reason()
    assert "exit code 1" in ended.reason()


def test_it_gets_only_the_environment_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_SECRET", "password")
    commands = commands_in(tmp_path, GIVEN="yes")
    code = "import os; print(os.environ.get('AIRFLOW_CONN_SECRET'), os.environ['GIVEN'])"
    assert run(commands, code, tmp_path).last_lines == "None yes"


def test_what_takes_too_long_is_ended(tmp_path):
    ended = run(commands_in(tmp_path), SLEEPING, tmp_path, seconds=1)
    assert not ended.succeeded()
    assert "was not done after 1 s" in ended.reason()


def test_a_kill_is_told_apart_from_a_failure(tmp_path):
    ended = run(commands_in(tmp_path), "import os; os.kill(os.getpid(), 9)", tmp_path)
    with pytest.raises(StepFailedError, match="killed by SIGKILL"):
        ended.succeeded()


def test_a_stopped_command_is_no_success(tmp_path):
    commands = commands_in(tmp_path)
    stopper = threading.Thread(target=_stop_when_up, args=(commands, tmp_path))
    stopper.start()
    with pytest.raises(StepFailedError, match="was stopped"):
        run(commands, SLEEPING, tmp_path)
    stopper.join()


def _stop_when_up(commands, tmp_path):
    log = tmp_path / "logs" / "a-step.log"
    while not (log.exists() and log.stat().st_size):
        time.sleep(0.05)
    commands.stop()


def test_nothing_outlives_a_killed_worker(tmp_path):
    pid = tmp_path / "pid"
    code = f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    worker = os.fork()
    if not worker:
        try:
            run(commands_in(tmp_path), code, tmp_path)
        finally:
            os._exit(0)
    while not (pid.exists() and pid.read_text()):
        time.sleep(0.05)
    os.kill(worker, 9)
    os.waitpid(worker, 0)
    while os.path.exists(f"/proc/{pid.read_text()}"):
        time.sleep(0.05)
