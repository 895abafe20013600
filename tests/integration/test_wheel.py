"""The wheel: what it holds, and that it is enough in a new environment that has only Airflow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
AIRFLOW = next(
    line.strip()
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.startswith("apache-airflow==")
)

WHEEL_DAG = """
import os
from airflow.sdk import DAG
from airflow_mlops_provider.operators.snapshot import SnapshotDatasetOperator
from airflow_mlops_provider.operators.split import SplitDatasetOperator

with DAG("wheel"):
    snapshot = SnapshotDatasetOperator(
        task_id="snapshot", name="numbers", source=os.environ["NUMBERS"]
    )
    SplitDatasetOperator(task_id="split", dataset=snapshot.output, column="x")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this repository."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def programs(wheel: Path) -> Path:
    """The ``bin`` folder of an environment with Airflow, and then the wheel."""
    folder = wheel.parent
    run(sys.executable, "-m", "venv", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    run(*pip, AIRFLOW)
    run(*pip, wheel)
    run(python, "-m", "pip", "check")
    return python.parent


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command and return its output; a failure shows all of it."""
    result = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert result.returncode == 0, f"{command}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


@pytest.fixture
def env(programs: Path, tmp_path: Path, mlflow_server: str) -> dict[str, str]:
    """The environment of a new Airflow that knows nothing of this repository."""
    pd.DataFrame({"x": range(100)}).to_parquet(tmp_path / "numbers.parquet")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "wheel.py").write_text(WHEEL_DAG)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
    kept.pop("PYTHONPATH", None)
    return {
        **kept,
        "PATH": f"{programs}{os.pathsep}{kept['PATH']}",
        "AIRFLOW_HOME": str(tmp_path / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__MLOPS__WORKSPACE": str(tmp_path / "workspace"),
        "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "mlflow", "host": mlflow_server}),
        "NUMBERS": str(tmp_path / "numbers.parquet"),
    }


def test_the_wheel_holds_every_file_of_the_package(wheel):
    package = ROOT / "airflow_mlops_provider"
    files = {
        file.relative_to(ROOT).as_posix()
        for file in package.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    with ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if not name.startswith("airflow_provider")}
    assert held == files


@pytest.mark.slow
def test_airflow_finds_provider_and_plugin(programs, env):
    listed = run(programs / "airflow", "providers", "list", env=env)
    assert "airflow-provider-mlops" in listed
    assert "mlops" in run(programs / "airflow", "plugins", env=env)


@pytest.mark.slow
def test_operators_run(programs, env, tmp_path):
    run(programs / "airflow", "db", "migrate", env=env)
    run(programs / "airflow", "dags", "test", "wheel", env=env)
    parts = sorted(
        len(pd.read_parquet(file)) for file in (tmp_path / "workspace").rglob("*.parquet")
    )
    assert parts == [20, 80, 100]
