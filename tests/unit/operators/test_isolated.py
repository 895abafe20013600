"""Steps in another process: real ones, of an interpreter that finds no Airflow."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import pytest

from airflow_mlops_provider import environments, exceptions
from airflow_mlops_provider.exceptions import DataError, ParameterError, StepFailedError
from airflow_mlops_provider.operators import isolated, runtimes
from airflow_mlops_provider.operators.isolated import IsolatedMlopsOperator
from airflow_mlops_provider.operators.runtimes import LocalProcess, kind_of, python_of
from airflow_mlops_provider.records import DatasetRef
from airflow_mlops_provider.steps import remote

ROOT = Path(__file__).resolve().parents[3]
PACKAGES = Path(pytest.__file__).parents[1]
STEP = """
import logging, multiprocessing, os, signal, subprocess, sys, time
from airflow_mlops_provider import exceptions
from airflow_mlops_provider.records import DatasetRef

def echo(record, *, times, run=None):
    if run:
        run.records.append(record)
        run.datasets.append((record, run.pipeline_id))
    print("printed")
    logging.getLogger("a.step").info("logged")
    assert "airflow" not in sys.modules
    return [record] * times

def secret(name):
    return os.environ.get(name)

def fails(name):
    raise getattr(exceptions, name, RuntimeError)("no luck")

def dies(number):
    print("last words", flush=True)
    os.kill(os.getpid(), number)

def leaves(code):
    os._exit(code)

def needs(module):
    __import__(module)

def family(file):
    children = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
    pids = [os.getpid(), *(child.pid for child in children)]
    with open(file + ".tmp", "w") as out:
        out.write(" ".join(map(str, pids)))
    os.rename(file + ".tmp", file)
    time.sleep(600)

def orphans(file):
    child = subprocess.Popen(["sleep", "600"])
    open(file, "w").write(str(child.pid))
    return "done"
"""

MLFLOW = """
set_tracking_uri = set_registry_uri = MlflowClient = lambda *uris: None
"""
TRACK = """
from types import SimpleNamespace

def TaskRun(client, **given):
    return SimpleNamespace(records=[], datasets=[], **given)
"""
"""MLflow itself takes seconds to import; the integration tests have the real one."""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An interpreter with our packages, save Airflow, and with steps made for these tests."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = folder.glob("lib/*/site-packages")
    # a line that imports is run, unlike a sitecustomize that comes after the system's own
    (packages / "ours.pth").write_text(f"{PACKAGES}\nimport no_airflow\n")
    (packages / "mlflow.py").write_text(MLFLOW)
    (packages / "no_airflow.py").write_text(
        textwrap.dedent(
            """
            import sys
            class NoAirflow:
                def find_spec(self, name, path=None, target=None):
                    if name.partition(".")[0] == "airflow":
                        raise ModuleNotFoundError(f"No module named {name!r}")
            sys.meta_path.insert(0, NoAirflow())
            """
        )
    )
    return str(folder / "bin" / "python")


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """A copy of the package that has the steps of these tests."""
    copy = tmp_path / "copy" / "airflow_mlops_provider"
    copy.mkdir(parents=True)
    ours = ROOT / "airflow_mlops_provider"
    for each in [*ours.glob("*.py"), ours / "records"]:
        (copy / each.name).symlink_to(each)
    (copy / "steps").mkdir()
    for name in ("__init__", "remote"):
        (copy / "steps" / f"{name}.py").symlink_to(ours / "steps" / f"{name}.py")
    (copy / "steps" / "track.py").write_text(TRACK)
    (copy / "steps" / "odd.py").write_text(STEP)
    monkeypatch.setattr(
        environments, "airflow_mlops_provider", SimpleNamespace(__file__=str(copy / "__init__.py"))
    )


@pytest.fixture
def said():
    return []


@pytest.fixture
def call(python, steps, said):
    """Call a step of these tests in the other interpreter."""

    def ask(step, *arguments, run=None, environment=None, **named):
        request = remote.request_of(
            f"odd.{step}", arguments, named, tracking_uri="sqlite://", run=run
        )
        answer = LocalProcess(python, environment or {}, said.append).run(request)
        return remote.result_of(answer, run)

    return ask


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pids):
    """Wait a while for the end of all of ``pids``."""
    for _ in range(100):
        if not any(map(alive, pids)):
            return True
        time.sleep(0.1)
    return False


def family_of(file):
    while not file.exists():
        time.sleep(0.05)
    return [int(pid) for pid in file.read_text().split()]


def test_records_go_there_and_come_back_and_output_is_passed_on(call, said, dataset):
    run = SimpleNamespace(run_id="r", experiment_id="1", pipeline_id="p", records=[], datasets=[])
    assert call("echo", dataset, times=2, run=run) == [dataset, dataset]
    assert (run.records, run.datasets) == ([dataset], [(dataset, "p")])
    assert "printed" in said
    assert "INFO a.step: logged" in said
    assert not any("Fatal" in line for line in said)


@pytest.mark.parametrize("name", ["DataError", "SchemaSkewError", "MlflowUnavailableError"])
def test_our_errors_come_back_as_what_they_are(call, name):
    with pytest.raises(getattr(exceptions, name), match=r"^no luck$"):
        call("fails", name)


def test_another_error_is_one_that_a_retry_may_mend(call, said):
    with pytest.raises(StepFailedError, match="RuntimeError: no luck"):
        call("fails", "nothing")
    assert any(line.startswith("Traceback") for line in said)


@pytest.mark.parametrize(
    ("step", "argument", "reason"),
    [
        ("dies", int(signal.SIGKILL), r"killed by SIGKILL.*memory(.|\n)*last words"),
        ("dies", int(signal.SIGSEGV), r"killed by SIGSEGV(.|\n)*last words"),
        ("leaves", 3, "exit code 3"),
    ],
)
def test_how_the_process_ended_is_said(call, step, argument, reason):
    with pytest.raises(StepFailedError, match=reason):
        call(step, argument)


def test_a_package_that_is_not_there_is_named(call):
    with pytest.raises(ParameterError, match=r"No module named 'airflow'.*requirements"):
        call("needs", "airflow")


def test_an_environment_without_our_packages_is_said(tmp_path, steps):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    request = remote.request_of("odd.secret", ["A"], {}, tracking_uri="sqlite://", run=None)
    with pytest.raises(ParameterError, match="lacks a package"):
        LocalProcess(str(tmp_path / "bare/bin/python"), {}, print).run(request)


def test_credentials_travel_by_environment_only(call, monkeypatch):
    asked = []
    write = runtimes.write_json
    monkeypatch.setattr(
        runtimes, "write_json", lambda uri, value: (asked.append(str(value)), write(uri, value))
    )
    given = {"MLFLOW_TRACKING_TOKEN": "s3cret"}
    assert call("secret", "MLFLOW_TRACKING_TOKEN", environment=given) == "s3cret"
    assert "s3cret" not in asked[0]


def test_stopping_ends_the_process_and_its_children(python, steps, tmp_path):
    file = tmp_path / "pids"
    request = remote.request_of("odd.family", [str(file)], {}, tracking_uri="sqlite://", run=None)
    process = LocalProcess(python, {}, print)
    raised = []

    def run():
        try:
            process.run(request)
        except StepFailedError as error:
            raised.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    pids = family_of(file)
    process.stop()
    thread.join(20)
    assert gone(pids)
    assert "SIGTERM" in raised[0]


def test_a_killed_task_leaves_no_process_behind(python, tmp_path, steps):
    file = tmp_path / "pids"
    copy = environments.airflow_mlops_provider.__file__
    code = f"""
        from types import SimpleNamespace
        from airflow_mlops_provider import environments
        from airflow_mlops_provider.operators import runtimes
        from airflow_mlops_provider.steps import remote
        environments.airflow_mlops_provider = SimpleNamespace(__file__={copy!r})
        request = remote.request_of("odd.family", [{str(file)!r}], {{}}, tracking_uri="x", run=None)
        runtimes.LocalProcess({python!r}, {{}}, print).run(request)
    """
    task = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    pids = family_of(file)
    task.kill()
    task.wait()
    assert gone(pids)


def test_children_that_a_step_leaves_are_not_waited_for(call, tmp_path):
    assert call("orphans", str(tmp_path / "pid")) == "done"
    assert gone(family_of(tmp_path / "pid"))


def test_sigterm_to_the_task_ends_the_step(context, monkeypatch):
    elsewhere = MagicMock()
    operator = IsolatedMlopsOperator(task_id="t", runtime={"python": "p"})
    operator._elsewhere = elsewhere
    operator.on_kill()
    elsewhere.stop.assert_called_once_with()


@pytest.mark.parametrize("step", ["os.system", "track._source_type", "train.mlflow", "../a.b"])
def test_only_our_steps_are_called(step):
    request = remote.request_of(step, ["true"], {}, tracking_uri="sqlite://", run=None)
    with pytest.raises(ParameterError):
        remote.result_of(remote.call(request))


@pytest.mark.parametrize("value", [object(), float("nan"), b"x", {"a": [{1, 2}]}])
def test_what_is_no_json_cannot_go(value):
    with pytest.raises(ParameterError, match="params parameter of an isolated step"):
        remote.request_of("train.train_model", [], {"params": value}, tracking_uri="x", run=None)


def test_a_function_cannot_go_and_the_way_out_is_said():
    with pytest.raises(ParameterError, match="import path"):
        remote.request_of("train.train_model", [], {"factory": print}, tracking_uri="x", run=None)


@pytest.mark.parametrize(
    "runtime",
    [
        {"venv": "x"},
        {"python": "p", "image": "i"},
        {"python": "p", "python_version": "3.12"},
        {"requirements": [], "pip": 1},
    ],
)
def test_a_runtime_we_do_not_understand_is_refused(runtime):
    with pytest.raises(ParameterError, match="runtime parameter of an operator"):
        kind_of(runtime)


def test_an_interpreter_that_is_not_there_is_refused():
    with pytest.raises(ParameterError, match="interpreter on the worker"):
        python_of({"python": "/nowhere/python"}, "train")


def test_what_a_step_imports_is_added_unless_it_is_named(monkeypatch):
    asked = []
    monkeypatch.setattr(runtimes, "virtualenv_python", lambda *given: asked.append(given))
    runtime = {"requirements": ["scikit_learn==1.7.2", "mlflow-skinny>=3"], "cache": "/c"}
    python_of(runtime | {"python_version": "3.12"}, "tune")
    ((requirements, version, cache),) = asked
    names = [each.partition("==")[0] for each in requirements]
    assert names[:2] == ["scikit_learn", "mlflow-skinny>=3"]
    assert {"scikit-learn", "mlflow"}.isdisjoint(names)
    assert {"optuna", "pandas", "skops", "pydantic"} <= set(names)
    assert (version, cache) == ("3.12", Path("/c"))


def test_code_beside_the_dags_can_be_imported_but_no_installed_package(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(tmp_path))
    folders = runtimes._code_folders()
    assert str(tmp_path) in folders
    assert str(PACKAGES) not in folders
    assert os.path.dirname(os.__file__) not in folders


@pytest.fixture
def pods(monkeypatch):
    """Kubernetes' provider, as far as we see it; gives the operators that were made."""
    made = []
    module = ModuleType("airflow.providers.cncf.kubernetes.operators.pod")

    class KubernetesPodOperator(MagicMock):
        def __init__(self, **given):
            super().__init__()
            self.given = given
            made.append(self)

        def execute(self, context):
            remote.main(self.given["arguments"][2:])

    module.KubernetesPodOperator = KubernetesPodOperator
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(isolated, "get_current_context", lambda: {"ti": None})
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "mlflow", "host": "m:1"}')
    return made


def test_a_pod_answers_like_a_process(pods, tmp_path, dataset):
    operator = IsolatedMlopsOperator(
        task_id="t", runtime={"image": "i", "namespace": "n"}, workspace=str(tmp_path)
    )
    with pytest.raises(DataError, match="gone"):
        operator.run_step("snapshot.read_dataset", dataset)
    (pod,) = pods
    assert pod.given["image"] == "i"
    assert pod.given["namespace"] == "n"
    assert pod.given["arguments"][:2] == ["-m", "airflow_mlops_provider.steps.remote"]
    assert list((tmp_path / "exchange").iterdir()) == []
    operator.on_kill()
    pod.on_kill.assert_called_once_with()


def test_a_pod_that_writes_no_answer_is_said(pods, tmp_path, monkeypatch):
    operator = IsolatedMlopsOperator(task_id="t", runtime={"image": "i"}, workspace=str(tmp_path))
    monkeypatch.setattr(remote, "main", lambda arguments: 0)
    with pytest.raises(StepFailedError, match="wrote no answer"):
        operator.run_step("snapshot.read_dataset", "x")


def test_a_pod_cannot_use_the_embedded_store(tmp_path, monkeypatch):
    monkeypatch.setattr(isolated, "get_current_context", dict)
    operator = IsolatedMlopsOperator(task_id="t", runtime={"image": "i"}, workspace=str(tmp_path))
    with pytest.raises(ParameterError, match="embedded store"):
        operator.run_step("snapshot.read_dataset", "x")


def test_what_a_step_needs_is_told_by_a_command():
    command = [sys.executable, "-m", "airflow_mlops_provider.steps", "requirements", "tune"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert {each.partition("==")[0] for each in told} >= {"scikit-learn", "mlflow", "optuna"}


def test_a_dataset_is_still_a_dataset_after_the_journey(dataset):
    request = remote.request_of("a.b", [{"d": [dataset]}], {}, tracking_uri="x", run=None)
    assert remote._decoded(request["arguments"]) == [{"d": [dataset]}]
    assert isinstance(dataset, DatasetRef)
