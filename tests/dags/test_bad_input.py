"""Bad input: the task fails, its last log line says what to do, and nothing is left behind."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from airflow.sdk import DAG

from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.operators import (
    BatchPredictOperator,
    CanaryRolloutOperator,
    CompactPredictionLogOperator,
    DeployModelOperator,
    DetectDriftOperator,
    EvaluateModelOperator,
    FeastApplyOperator,
    FeastHistoricalFeaturesOperator,
    FeastMaterializeOperator,
    JoinLabelsOperator,
    ProfileDatasetOperator,
    PromoteModelOperator,
    RegisterModelOperator,
    SnapshotDatasetOperator,
    SplitDatasetOperator,
    TrainModelOperator,
    TuneModelOperator,
    UndeployModelOperator,
    ValidateDataOperator,
)
from airflow_mlops_provider.records import ModelRef, ModelVersionRef, PredictionBatchRef
from airflow_mlops_provider.stack.service import free_ports
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.snapshot import write_dataset

BUNDLE = "bad-input"
ROWS = 60
FEAST = "project: {}\nprovider: local\noffline_store: {{type: duckdb}}\n"
VIEW = """
from feast import FeatureView, Field, FileSource
from feast.types import Float64

source = FileSource(path="/nowhere/weather.parquet", timestamp_field="event_timestamp")
view = FeatureView(name="weather", schema=[Field(name="temp", dtype=Float64)], source=source)
"""
LEARNING = {"estimator": "sklearn.linear_model.LogisticRegression", "target": "late"}
SPACE = {"C": {"type": "float", "low": 0.1, "high": 1.0}}
MONTH = {"start": "2013-01-01", "end": "2013-02-01"}
NOBODY = ModelVersionRef(
    name="nobody", version="3", model_uri="models:/nobody/3", model_id=None, run_id=None, aliases=[]
).to_xcom()
LOST_MODEL = ModelRef(
    model_uri="models:/m-0",
    model_id="m-0",
    run_id="r",
    target="late",
    features=["n"],
    params={},
    metrics={},
    train_hash="h",
).to_xcom()


def rows(n: int = ROWS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "event_timestamp": pd.date_range("2013-01-01", periods=n, freq="h", tz="UTC"),
            "n": [number * 7 % 11 / 3 for number in range(n)],
            "late": [number % 2 for number in range(n)],
        }
    )


@dataclass(frozen=True)
class Place:
    """Good and bad inputs outside a workspace, and what earlier tasks kept in it."""

    inputs: Path
    workspace: Path
    dags: Path
    dataset: dict[str, Any]
    gone: dict[str, Any]
    broken: dict[str, Any]
    predictions: dict[str, Any]
    profile: str

    def file(self, name: str) -> str:
        return str(self.inputs / name)

    def kept(self) -> dict[str, int]:
        """Return the files of the workspace and their sizes, all but MLflow's own database."""
        files = [path for path in self.workspace.rglob("*") if path.is_file()]
        return {str(file): file.stat().st_size for file in files if file.name != "mlflow.db"}


@pytest.fixture(scope="module")
def place(airflow_db: None, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("bad-input")
    inputs, workspace, dags = (folder / name for name in ("inputs", "workspace", "dags"))
    for each in (inputs, workspace, dags):
        each.mkdir()
    write_inputs(inputs)
    dataset, gone, broken = (
        write_dataset(rows(ROWS + n), name, str(workspace), "test")
        for n, name in enumerate(("good", "gone", "broken"))
    )
    Path(gone.uri).unlink()
    damage(Path(broken.uri))
    predictions = PredictionBatchRef(
        uri=dataset.uri, n_rows=ROWS, file_hash=dataset.file_hash, model_versions=[]
    )
    apply(str(inputs / "weather"), str(workspace))
    closed = f"http://127.0.0.1:{free_ports(1)[0]}"
    bundle = {
        "name": BUNDLE,
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(dags)},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__MLOPS__WORKSPACE", str(workspace))
        patch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps([bundle]))
        for name, kind in (("MLFLOW", "mlflow"), ("SERVING", "mlops_serving")):
            connection = json.dumps({"conn_type": kind, "host": closed})
            patch.setenv(f"AIRFLOW_CONN_CLOSED_{name}", connection)
        MlflowHook().get_conn().search_experiments()  # makes its tables
        yield Place(
            inputs=inputs,
            workspace=workspace,
            dags=dags,
            dataset=dataset.to_xcom(),
            gone=gone.to_xcom(),
            broken=broken.to_xcom(),
            predictions=predictions.to_xcom(),
            profile=profile_dataset(dataset, None, str(workspace)),
        )


def write_inputs(folder: Path) -> None:
    rows().to_parquet(folder / "good.parquet")
    rows(0).to_parquet(folder / "rowless.parquet")
    rows().to_parquet(folder / "broken.parquet")
    damage(folder / "broken.parquet")
    (folder / "text.parquet").write_text("this is no Parquet")
    for name in ("empty.parquet", "empty.csv", "empty.json", "empty.yaml"):
        (folder / name).touch()
    repositories = {
        "no-yaml": ("project: [\n  p", ""),
        "no-import": (FEAST.format("other"), "import nonsense"),
        "weather": (FEAST.format("applied"), VIEW),
    }
    for name, (config, code) in repositories.items():
        (folder / name).mkdir()
        (folder / name / "feature_store.yaml").write_text(config)
        (folder / name / "definitions.py").write_text(code)


def apply(repository: str, workspace: str) -> None:
    apply_features(FeastHook(repo_path=repository, workspace=workspace).get_conn(), repository)


def damage(parquet: Path) -> None:
    """Blank the pages of a Parquet file, and leave its footer."""
    raw = parquet.read_bytes()
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    parquet.write_bytes(raw[:4] + bytes(footer - 4) + raw[footer:])


@dataclass(frozen=True)
class Case:
    """A task, and what the last line of its log has to hold: who is at fault, and the remedy."""

    title: str
    task: Callable[[Place], object]
    says: tuple[str, ...]
    service: bool = False
    """A service is at fault: Airflow shall retry."""


CASES = [
    Case(
        "missing file",
        lambda at: SnapshotDatasetOperator(name="d", source=at.file("none.parquet")),
        ("none.parquet", "check the path"),
    ),
    Case(
        "missing dataset",
        lambda at: TrainModelOperator(dataset=at.gone, features=["n"], **LEARNING),
        ("datasets/gone/", "Run the task that wrote it again"),
    ),
    Case(
        "missing suite",
        lambda at: ValidateDataOperator(dataset=at.dataset, suite=at.file("none.yaml")),
        ("suite parameter", "must be an existing file", "none.yaml"),
    ),
    Case(
        "missing profile",
        lambda at: DetectDriftOperator(dataset=at.dataset, profile_uri=at.file("none.json")),
        ("none.json", "Run the task that profiles the training data again"),
    ),
    Case(
        "missing prediction log",
        lambda at: CompactPredictionLogOperator(endpoint="nobody"),
        ("serving/logs/nobody", "check the endpoint's name"),
    ),
    Case(
        "empty Parquet file",
        lambda at: SnapshotDatasetOperator(name="d", source=at.file("empty.parquet")),
        ("empty.parquet as Parquet", "write it again"),
    ),
    Case(
        "empty CSV file",
        lambda at: SnapshotDatasetOperator(name="d", source=at.file("empty.csv")),
        ("empty.csv as CSV", "write it again"),
    ),
    Case(
        "file without rows",
        lambda at: SnapshotDatasetOperator(name="d", source=at.file("rowless.parquet")),
        ("No rows in", "rowless.parquet", "wait until the data has arrived"),
    ),
    Case(
        "empty suite",
        lambda at: ValidateDataOperator(dataset=at.dataset, suite=at.file("empty.yaml")),
        ("empty.yaml", "no list `expectations`", "Each entry needs"),
    ),
    Case(
        "empty profile",
        lambda at: DetectDriftOperator(dataset=at.dataset, profile_uri=at.file("empty.json")),
        ("empty.json", "Profile the data again"),
    ),
    Case(
        "no Parquet at all",
        lambda at: SnapshotDatasetOperator(name="d", source=at.file("text.parquet")),
        ("text.parquet as Parquet", "write it again"),
    ),
    Case(
        "Parquet with broken pages",
        lambda at: SnapshotDatasetOperator(name="d", source=at.file("broken.parquet")),
        ("broken.parquet as Parquet", "write it again"),
    ),
    Case(
        "dataset with broken pages",
        lambda at: SplitDatasetOperator(dataset=at.broken, column="event_timestamp"),
        ("datasets/broken/", "as Parquet", "write it again"),
    ),
    Case(
        "unknown column of a file",
        lambda at: SnapshotDatasetOperator(
            name="d", source=at.file("good.parquet"), columns=["nonsense"]
        ),
        ("good.parquet has no column ['nonsense']", "'late'", "Correct the name"),
    ),
    Case(
        "unknown column of a function",
        lambda at: SnapshotDatasetOperator(name="d", source=rows, columns=["nonsense"]),
        ("rows has no column ['nonsense']", "'late'", "Correct the name"),
    ),
    Case(
        "unknown column to split by",
        lambda at: SplitDatasetOperator(dataset=at.dataset, column="nonsense"),
        ("no column ['nonsense']", "'late'", "Correct the name"),
    ),
    Case(
        "unknown feature",
        lambda at: TrainModelOperator(dataset=at.dataset, features=["nonsense"], **LEARNING),
        ("['nonsense']", "'late'", "Correct `features`"),
    ),
    Case(
        "unknown feature to tune with",
        lambda at: TuneModelOperator(
            dataset=at.dataset, features=["nonsense"], search_space=SPACE, **LEARNING
        ),
        ("['nonsense']", "'late'", "Correct `features`"),
    ),
    Case(
        "unknown target",
        lambda at: EvaluateModelOperator(dataset=at.dataset, model=LOST_MODEL, target="nonsense"),
        ("'nonsense'", "'late'", "Correct `target`"),
    ),
    Case(
        "unknown column to profile",
        lambda at: ProfileDatasetOperator(dataset=at.dataset, columns=["nonsense"]),
        ("no column ['nonsense']", "'late'", "Correct the name"),
    ),
    Case(
        "unknown column to compare",
        lambda at: DetectDriftOperator(
            dataset=at.dataset, profile_uri=at.profile, columns=["nonsense"]
        ),
        ("['nonsense']", "'late'", "Correct `columns`"),
    ),
    Case(
        "unknown column to join on",
        lambda at: JoinLabelsOperator(
            predictions=at.predictions,
            labels=at.dataset,
            key="n",
            label_key="nonsense",
            label_column="late",
        ),
        ("['nonsense']", "'late'", "Correct the names"),
    ),
    Case(
        "parameter the estimator refuses",
        lambda at: TrainModelOperator(
            dataset=at.dataset, features=["n"], estimator_params={"C": -1.0}, **LEARNING
        ),
        ("LogisticRegression", "'C' parameter", "Correct its parameters"),
    ),
    Case(
        "MLflow down",
        lambda at: SplitDatasetOperator(
            dataset=at.dataset, column="event_timestamp", mlflow_conn_id="closed_mlflow"
        ),
        ("MLflow does not answer at http://127.0.0.1", "Start it with `mlflow server`"),
        service=True,
    ),
    Case(
        "Feast repository missing",
        lambda at: FeastApplyOperator(repo_path=at.file("no-repository")),
        ("no-repository/feature_store.yaml", "Let repo_path name"),
    ),
    Case(
        "Feast repository with broken YAML",
        lambda at: FeastApplyOperator(repo_path=at.file("no-yaml")),
        ("no-yaml/feature_store.yaml is not valid YAML", "Correct it"),
    ),
    Case(
        "Feast repository that does not import",
        lambda at: FeastApplyOperator(repo_path=at.file("no-import")),
        ("no-import cannot be applied", "'nonsense'", "Correct the definition"),
    ),
    Case(
        "feature view without its file",
        lambda at: FeastMaterializeOperator(repo_path=at.file("weather"), **MONTH),
        ("'weather' reads /nowhere/weather.parquet", "Write it"),
    ),
    Case(
        "unknown feature view",
        lambda at: FeastMaterializeOperator(
            repo_path=at.file("weather"), feature_views=["nonsense"], **MONTH
        ),
        ("no feature views ['nonsense']", "Apply the repository"),
    ),
    Case(
        "unknown feature service",
        lambda at: FeastHistoricalFeaturesOperator(
            repo_path=at.file("weather"), entities=at.dataset, name="d", feature_service="nonsense"
        ),
        ("nonsense", "Correct the name, or apply the repository"),
    ),
    Case(
        "unknown model to evaluate",
        lambda at: EvaluateModelOperator(
            dataset=at.dataset, model="models:/nobody@champion", target="late"
        ),
        ("'models:/nobody@champion'", "Check the name and the alias"),
    ),
    Case(
        "unknown model to predict with",
        lambda at: BatchPredictOperator(dataset=at.dataset, model_version=NOBODY),
        ("'models:/nobody/3'", "Check the name"),
    ),
    Case(
        "unknown model to promote",
        lambda at: PromoteModelOperator(model_version=NOBODY),
        ("'models:/nobody/3'", "Check the name"),
    ),
    Case(
        "unknown model to register",
        lambda at: RegisterModelOperator(model=LOST_MODEL, name="somebody"),
        ("models:/m-0", "Run the task that trained it again"),
    ),
    Case(
        "no serving host in the workspace",
        lambda at: DeployModelOperator(model_version=NOBODY, endpoint="e"),
        ("No serving host runs for", "Start it with `airflow-mlops serve --workspace"),
        service=True,
    ),
    *(
        Case(
            f"serving host down to {title}",
            task,
            ("serving host does not answer at http://127.0.0.1", "Start it with"),
            service=True,
        )
        for title, task in (
            (
                "deploy",
                lambda at: DeployModelOperator(
                    model_version=NOBODY, endpoint="e", serving_conn_id="closed_serving"
                ),
            ),
            (
                "undeploy",
                lambda at: UndeployModelOperator(
                    endpoint="e", deployment="v3", serving_conn_id="closed_serving"
                ),
            ),
            (
                "roll out",
                lambda at: CanaryRolloutOperator(
                    endpoint="e", candidate=NOBODY, serving_conn_id="closed_serving"
                ),
            ),
        )
    ),
]
RETRIES = {"task_id": "t", "retries": 1, "retry_delay": timedelta(0)}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_the_last_line_says_what_to_do_and_nothing_is_left(case, place, capfd):
    before = place.kept()
    instance = run_task(case.title, lambda: case.task(place), place.dags)
    assert instance.state == "failed"
    assert instance.try_number == (2 if case.service else 1)
    assert_says(last_line(capfd), case)
    assert place.kept() == before
    client = MlflowHook().get_conn()
    assert client.search_registered_models() == []
    experiments = [each.experiment_id for each in client.search_experiments()]
    assert client.search_logged_models(experiments) == []
    assert {run.info.status for run in client.search_runs(experiments)} <= {"FAILED"}


def test_an_unknown_model_is_deployed_nowhere(place, services, capfd, monkeypatch):
    for name, value in services.items():
        monkeypatch.setenv(name, value)
    case = Case(
        "unknown model to deploy",
        lambda at: DeployModelOperator(model_version=NOBODY, endpoint="nobody"),
        ("models:/nobody/3", "Check that"),
    )
    instance = run_task(case.title, lambda: case.task(place), place.dags)
    assert (instance.state, instance.try_number) == ("failed", 1)
    assert_says(last_line(capfd), case)
    endpoint = ServingHook().get_conn().get_state("nobody")
    assert (endpoint.deployments, endpoint.traffic) == ({}, {})


@pytest.mark.parametrize("option", ["--port", "--admin-port"])
def test_a_taken_port_is_one_line_and_exit_code_1(option, tmp_path):
    other = {"--port": "--admin-port", "--admin-port": "--port"}[option]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "airflow_mlops_provider.cli", "serve"]
        command += ["--workspace", str(tmp_path), option, str(port), other, "0"]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert ended.stdout == ""
    (line,) = ended.stderr.splitlines()
    assert f"Cannot listen on 127.0.0.1:{port}" in line
    assert option in line
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"lock"}


def run_task(title: str, make: Callable[[], object], folder: Path) -> Any:
    """Run one task as Airflow does, retries and all; return its task instance."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    with DAG(title.replace(" ", "_"), default_args=RETRIES) as dag:
        make()
    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(folder), bundle_name=BUNDLE, bundle_path=folder)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, BUNDLE, None)
    (instance,) = dag.test().get_task_instances()
    return instance


def last_line(capfd: pytest.CaptureFixture[str]) -> str:
    """Return the last line of the traceback with which a task's log ends."""
    log = capfd.readouterr().out.rpartition("Task failed with exception")[2]
    traceback = log.partition("::group::Post Execute")[0].rpartition("\n")[0]
    return traceback.rstrip().rpartition("\n")[2]


def assert_says(line: str, case: Case) -> None:
    name, _, message = line.partition(": ")
    assert name.endswith("UnavailableError" if case.service else "AirflowFailException"), line
    for part in case.says:
        assert part in message
