"""What breaks a promotion in production, done to real processes and a real MLflow server.

After each: no version is champion that nobody decided for, and the next try ends whole.
"""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest.mock import MagicMock

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression

from airflow_mlops_provider.exceptions import (
    MlflowUnavailableError,
    ModelError,
    RegistryConflictError,
)
from airflow_mlops_provider.operators import EvaluateModelOperator, ValidateModelOperator
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.stack.local import mlflow_server
from airflow_mlops_provider.stack.service import free_ports, stop_all, wait_until_healthy
from airflow_mlops_provider.steps import promotion_lock
from airflow_mlops_provider.steps.evaluate import load_model
from airflow_mlops_provider.steps.promote import promote_version, roll_back
from airflow_mlops_provider.steps.register import find_version, register_model
from airflow_mlops_provider.steps.snapshot import write_dataset
from airflow_mlops_provider.steps.track import TaskRun
from tests.training import evaluate, train

ROOT = Path(__file__).resolve().parents[2]
PROCESS = """
import json, sys, time
import mlflow
from airflow_mlops_provider.exceptions import MlopsError
from airflow_mlops_provider.records import ModelRef, ModelVersionRef
from airflow_mlops_provider.steps.promote import promote_version
from airflow_mlops_provider.steps.register import register_model

def hang(*_, **__):
    print("here", flush=True)
    time.sleep(600)

uri, record, argument = sys.argv[1:]
mlflow.set_tracking_uri(uri)
client = mlflow.MlflowClient(uri, uri)
"""
PROMOTE = """
version = ModelVersionRef.from_xcom(json.loads(record))
act = lambda: promote_version(client, version, expected_champion=argument)
"""
REGISTER = """
model = ModelRef.from_xcom(json.loads(record))
act = lambda: register_model(client, model, name=argument)
"""
RACE = """
print("here", flush=True)
sys.stdin.readline()
try:
    print(act().version)
except MlopsError as error:
    print(type(error).__name__)
"""
KILL_AT = """
write, calls = getattr(client, {write!r}), []
def counted(*arguments, **named):
    calls.append(arguments)
    if len(calls) == {call}:
        hang()
    return write(*arguments, **named)
client.{write} = counted
act()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    url = f"http://127.0.0.1:{free_ports(1)[0]}"
    service = mlflow_server(folder, url, folder / "server.log")
    service.start()
    try:
        wait_until_healthy([service], 120, lambda line: None)
        service.url = url
        yield service
    finally:
        stop_all([service])


@pytest.fixture(scope="module")
def client(server):
    mlflow.set_tracking_uri(server.url)
    mlflow.set_registry_uri(server.url)
    return mlflow.MlflowClient(server.url, server.url)


@pytest.fixture(scope="module")
def new_run(client):
    experiment = client.create_experiment("faults")

    def opened():
        return TaskRun(client, client.create_run(experiment).info.run_id, experiment)

    return opened


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"hour": rng.normal(size=500)})
    frame["late"] = (frame["hour"] + rng.normal(size=500) > 0).astype(float)
    return write_dataset(frame, "flights", str(tmp_path_factory.mktemp("data")), "test")


@pytest.fixture(scope="module")
def models(new_run, dataset):
    fields = {"features": ["hour"], "target": "late"}
    return [train(dataset, LogisticRegression, run=new_run(), **fields) for _ in range(3)]


@pytest.fixture
def versions(client, models, request):
    """Three versions of a model of one's own; the first is champion, the third challenger."""
    return [register_model(client, model, name=request.node.name) for model in models]


def aliases(client, name):
    found = client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def in_process(code, server, record, argument):
    """Start a process, and wait until it says that it is where the test wants it."""
    command = [sys.executable, "-W", "ignore", "-c", PROCESS + code, server.url]
    streams = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    arguments = [json.dumps(record.to_xcom()), argument]
    return subprocess.Popen([*command, *arguments], cwd=ROOT, text=True, **streams)


def wait_for(process):
    while (line := process.stdout.readline()) and line.strip() != "here":
        pass
    assert process.poll() is None, process.stderr.read()


def race(server, code, records, argument):
    """Let processes do the same at the same moment; give what each said."""
    processes = [in_process(code + RACE, server, record, argument) for record in records]
    for process in processes:
        wait_for(process)
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    return [process.communicate(timeout=180)[0].split()[-1] for process in processes]


# --- processes that die, and rivals


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "call", "left"),
    [
        ("set_model_version_tag", 1, {"champion": "1"}),
        ("set_registered_model_alias", 1, {"champion": "1"}),
        ("set_registered_model_alias", 2, {"champion": "1", "previous": "1"}),
        ("delete_registered_model_alias", 1, {"champion": "3", "previous": "1"}),
    ],
)
def test_a_promotion_killed_at_any_write_is_whole_after_the_next_try(
    server, client, versions, monkeypatch, write, call, left
):
    monkeypatch.setattr(promotion_lock, "_STALE_SECONDS", 0.5)
    new = versions[2]
    process = in_process(PROMOTE + KILL_AT.format(write=write, call=call), server, new, "1")
    wait_for(process)
    process.kill()
    process.communicate()
    assert aliases(client, new.name) == {**left, "challenger": "3"}
    assert promote_version(client, new, expected_champion="1").version == "3"
    assert aliases(client, new.name) == {"champion": "3", "previous": "1"}
    assert roll_back(client, new.name, reason="r", by="b").version == "1"


def test_of_two_processes_against_one_champion_exactly_one_wins(server, client, versions):
    name = versions[0].name
    said = race(server, PROMOTE, versions[1:], "1")
    winner = aliases(client, name)["champion"]
    assert sorted(said) == [winner, "RegistryConflictError"]
    assert aliases(client, name)["previous"] == "1"


def test_the_same_registration_in_two_processes_makes_one_version(server, client, models):
    assert race(server, REGISTER, [models[0]] * 2, "twice") == ["1", "1"]
    assert len(client.search_model_versions("name = 'twice'")) == 1
    assert aliases(client, "twice") == {"champion": "1"}


def test_an_alias_moved_by_hand_between_gate_and_promotion_refuses_it(client, versions):
    name = versions[0].name
    client.set_registered_model_alias(name, "champion", "2")
    with pytest.raises(RegistryConflictError, match="found 2"):
        promote_version(client, versions[2], expected_champion="1")
    assert aliases(client, name) == {"champion": "2", "challenger": "3"}


# --- models that cannot be judged


@pytest.fixture
def tracked(new_run, monkeypatch):
    """Let operators log to a run of the server without Airflow's database."""

    @contextmanager
    def run_of(self, context):
        yield new_run()

    monkeypatch.setattr(MlopsOperator, "tracked_run", run_of)


def judge(model, dataset, workspace, *, optional):
    operator = EvaluateModelOperator(
        task_id="t",
        model=model,
        dataset=dataset.to_xcom(),
        target="late",
        optional=optional,
        workspace=str(workspace),
    )
    return operator.execute({"ti": MagicMock()})


@pytest.fixture
def champion(server, client, new_run, dataset, request):
    """A registered model, and the file that holds it on the server."""
    model = train(dataset, LogisticRegression, run=new_run(), features=["hour"], target="late")
    register_model(client, model, name=request.node.name)
    (folder,) = Path(server.log).parent.glob(f"artifacts/**/{model.model_id}")
    (file,) = folder.rglob("model.skops")
    return f"models:/{request.node.name}@champion", file


@pytest.mark.parametrize("damage", ["model gone", "all gone", "torn"])
def test_a_champion_that_is_gone_or_broken_is_unusable_and_keeps_its_place(
    client, champion, models, new_run, dataset, tmp_path, tracked, damage
):
    uri, file = champion
    if damage == "torn":
        file.write_bytes(file.read_bytes()[:100])
    elif damage == "model gone":
        file.unlink()
    else:
        for each in file.parent.iterdir():
            each.unlink()
    unusable = judge(uri, dataset, tmp_path, optional=True)
    assert unusable["reason"]
    challenger = evaluate(models[0].model_uri, dataset, run=new_run(), workspace=str(tmp_path))
    gate = {"challenger": challenger.to_xcom(), "champion": unusable, "floors": {"auc": 0.6}}
    with pytest.raises(Exception, match="champion:usable"):
        ValidateModelOperator(task_id="gate", **gate).execute({"ti": MagicMock()})
    allowed = ValidateModelOperator(task_id="gate", **gate, replace_unusable_champion=True)
    assert allowed.execute({"ti": MagicMock()})["outcome"] == "promote"


class Wrong(mlflow.pyfunc.PythonModel):
    """Answers with what it was told to."""

    def __init__(self, answer):
        self.answer = answer

    def predict(self, context, model_input, params=None):
        n = len(model_input)
        return {"short": np.zeros(3), "nan": np.full(n, np.nan), "text": ["a"] * n}[self.answer]


@pytest.mark.parametrize(
    ("answer", "said"),
    [("short", "500 predictions"), ("nan", "NaN or infinity for 500"), ("text", "numbers")],
)
def test_a_model_that_answers_nonsense_is_refused(
    client, new_run, dataset, tmp_path, tracked, answer, said
):
    rows = pd.DataFrame({"hour": [0.0]})
    with mlflow.start_run(run_id=new_run().run_id):
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=Wrong(answer),
            signature=infer_signature(rows),
            pip_requirements=[],
        )
    with pytest.raises(ModelError, match=said):
        judge(logged.model_uri, dataset, tmp_path, optional=False)
    assert judge(logged.model_uri, dataset, tmp_path, optional=True)["reason"]


class Malicious:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def test_a_malicious_file_that_nobody_registered_is_not_even_opened(client, new_run, tmp_path):
    mark, folder = tmp_path / "mark", tmp_path / "model"
    rows = pd.DataFrame({"hour": [0.0, 1.0]})
    model = LogisticRegression().fit(rows, [0, 1])
    mlflow.sklearn.save_model(
        model, str(folder), serialization_format="cloudpickle", pip_requirements=[]
    )
    (folder / "model.pkl").write_bytes(pickle.dumps(Malicious(mark)))
    with suppress(Exception):
        mlflow.pyfunc.load_model(str(folder))
    assert mark.exists()  # it does harm whoever loads it
    mark.unlink()
    run = new_run().run_id
    for uri in (
        str(folder),
        f"file://{folder}",
        f"runs:/{run}/../../../../..{folder}",
        f"models:/../..{folder}",
        f"models:/m-0/../../..{folder}",
        f"mlflow-artifacts:/../..{folder}",
    ):
        with pytest.raises(ModelError):
            load_model(uri)
    client.create_registered_model("malicious")
    with pytest.raises(MlflowException):
        client.create_model_version("malicious", str(folder))
    assert not mark.exists()


# --- a server that goes away


@pytest.mark.slow
def test_without_mlflow_a_champion_is_never_taken_for_unusable(
    server, client, versions, models, new_run, dataset, tmp_path, tracked, monkeypatch
):
    """Nothing is promoted while it is away, and all goes on once it is back."""
    name, run = versions[0].name, new_run()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setattr(promotion_lock, "_STALE_SECONDS", 0.5)

    @contextmanager
    def run_of(self, context):
        yield run

    monkeypatch.setattr(MlopsOperator, "tracked_run", run_of)
    set_alias = type(client).set_registered_model_alias

    def down_before(self, model, alias, version):
        if alias == "champion":
            stop_all([server])
        return set_alias(self, model, alias, version)

    monkeypatch.setattr(type(client), "set_registered_model_alias", down_before)
    with pytest.raises(MlflowException):
        promote_version(client, versions[1], expected_champion="1")
    monkeypatch.setattr(type(client), "set_registered_model_alias", set_alias)
    with pytest.raises(MlflowUnavailableError):
        load_model(f"models:/{name}/1")
    with pytest.raises((MlflowException, MlflowUnavailableError)):
        judge(f"models:/{name}@champion", dataset, tmp_path, optional=True)
    with pytest.raises(MlflowException):
        register_model(client, models[0], name="while down")
    server.start()
    wait_until_healthy([server], 120, lambda line: None)
    assert aliases(client, name) == {"champion": "1", "previous": "1", "challenger": "3"}
    assert promote_version(client, versions[1], expected_champion="1").version == "2"
    assert find_version(client, name, "previous").version == "1"
    assert judge(f"models:/{name}@champion", dataset, tmp_path, optional=True)["metrics"]
