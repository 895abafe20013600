from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import version

import mlflow
import pytest

from airflow_mlops_provider.declared import Declared
from airflow_mlops_provider.environments import OUTSIDE, link_package
from airflow_mlops_provider.serving import environment


@pytest.fixture
def asked(monkeypatch):
    """What environments were asked for; the model declares scikit-learn and an own uvicorn."""
    found = []
    declared = Declared(["scikit-learn==1.2", "Uvicorn<1"], "3.12")
    monkeypatch.setattr(mlflow, "set_tracking_uri", lambda uri: None)
    monkeypatch.setattr(mlflow, "set_registry_uri", lambda uri: None)
    monkeypatch.setattr(environment, "declared_by", lambda uri: declared)

    def made(requirements, build, python):
        found.append((requirements, python))
        return "/e/bin/python"

    monkeypatch.setattr(environment, "environment_python", made)
    return found


def test_environment_has_what_the_model_declares_and_what_a_scorer_stands_on(asked):
    assert environment.declared_python("models:/m/1", "uri", ["feast"]) == "/e/bin/python"
    ((requirements, python),) = asked
    assert python == "3.12"
    assert requirements[:2] == ["scikit-learn==1.2", "Uvicorn<1"]
    assert f"mlflow=={version('mlflow')}" in requirements
    assert f"feast=={version('feast')}" in requirements
    assert not [each for each in requirements if each.startswith("uvicorn")]


def test_only_the_interpreter_is_reported():
    code = (
        "from airflow_mlops_provider.serving import environment\n"
        "environment.declared_python = lambda *given: print('noise', given) or '/e/python'\n"
        "environment.main(['models:/m/1', 'uri', 'feast'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"python": "/e/python"}
    assert "('models:/m/1', 'uri', ['feast'])" in done.stderr


def test_environment_is_made_by_pip_where_there_is_no_uv(tmp_path, monkeypatch):
    monkeypatch.setattr(environment.shutil, "which", lambda name: None)
    ran = []
    monkeypatch.setattr(environment, "_run", lambda *command: ran.append(command))
    python = environment.build(str(tmp_path / "e"), "python3.12", ["a==1"])
    assert python == str(tmp_path / "e" / "bin" / "python")
    assert ran[0] == ("python3.12", "-m", "venv", str(tmp_path / "e"))
    assert (ran[1][0], ran[1][-1]) == (python, "a==1")


def test_package_and_nothing_beside_it_is_importable_from_its_link(tmp_path):
    link_package(tmp_path / "package")
    link_package(tmp_path / "package")
    assert [each.name for each in (tmp_path / "package").iterdir()] == ["airflow_mlops_provider"]
    variables = {name: value for name, value in OUTSIDE.items() if value is not None}
    code = "import airflow_mlops_provider.serving as s; print(s.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**variables, "PYTHONPATH": str(tmp_path / "package")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(str(tmp_path / "package"))
