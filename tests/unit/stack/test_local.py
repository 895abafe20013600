import fcntl
import json
import os
import stat

import pytest

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.stack import local
from airflow_mlops_provider.stack.local import LocalStack


@pytest.fixture
def stack(tmp_path):
    (tmp_path / "home").mkdir()
    return LocalStack(tmp_path / "home", tmp_path / "dags", lambda line: None)


def test_settings_of_another_airflow_do_not_leak_in(monkeypatch):
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", "CeleryExecutor")
    monkeypatch.setenv("AIRFLOW_HOME", "/elsewhere")
    assert not [name for name in local.base_env() if name.startswith("AIRFLOW_")]


def test_everything_listens_on_loopback_only(stack):
    env = stack.airflow_env()
    assert env["AIRFLOW__API__HOST"] == "127.0.0.1"
    mlflow = json.loads(env["AIRFLOW_CONN_MLFLOW_DEFAULT"])
    assert mlflow == {"conn_type": "mlflow", "host": stack.mlflow_url}


def test_keys_are_made_once_and_only_their_owner_reads_them(stack):
    first, second = stack.airflow_env(), stack.airflow_env()
    assert first["AIRFLOW__CORE__FERNET_KEY"] == second["AIRFLOW__CORE__FERNET_KEY"]
    assert stat.S_IMODE(os.stat(stack.home / "secrets.json").st_mode) == 0o600


def test_a_home_in_use_is_refused(stack, monkeypatch):
    monkeypatch.setattr(local, "_LOCK_SECONDS", 0)
    with (stack.home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(StackUnavailableError, match="Another stack runs in"):
            stack.__enter__()


def test_a_fresh_stack_forgets_what_was(stack):
    (stack.home / "airflow").mkdir()
    (stack.home / "airflow" / "airflow.db").touch()
    (stack.home / "secrets.json").touch()
    local._empty(stack.home)
    assert list(stack.home.iterdir()) == []
