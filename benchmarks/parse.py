"""Parsing ``dags/`` against parsing the same files with an empty operator for each of ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks import Measure, in_turns

RATIO = 1.2
DAGS = Path(__file__).resolve().parents[1] / "dags"

# As Airflow's DAG processor does it: as a job it loads the plugins, it imports what a file wants of
# Airflow, and then it forks for that file.
PARSE = """
import importlib, json, os, sys, time
from types import ModuleType
folder, empty, *files = sys.argv[1:]
sys.path.insert(0, folder)
from airflow.dag_processing.dagbag import DagBag
from airflow.listeners.listener import get_listener_manager
from airflow.providers.standard.decorators.python import python_task
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Asset, Param, XComArg, task
from airflow.utils.file import iter_airflow_imports

def empty_operator(task_id, outlets=None, **arguments):
    operator = EmptyOperator(task_id=task_id, outlets=outlets)
    for given in arguments.values():
        if isinstance(given, XComArg):
            given.operator >> operator
    return operator

def without_ours():
    stubs = {
        "airflow_mlops_provider.operators": lambda name: empty_operator,
        "airflow_mlops_provider.assets": lambda name: lambda of: Asset(f"x-{name[:3]}://{of}"),
    }
    for name, attribute in stubs.items():
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__getattr__ = attribute
    task.__dict__["mlflow_run"] = python_task

get_listener_manager()
for file in files:
    for name in iter_airflow_imports(file):
        importlib.import_module(name)
if empty == "empty":
    without_ours()

def parse(file):
    start = time.process_time()
    bag = DagBag(file, bundle_path=None)
    seconds = time.process_time() - start
    assert bag.dags and not bag.import_errors, bag.import_errors
    return seconds

total = 0.0
for file in files:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, str(parse(file)).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        total += float(answer.read())
    os.wait()
print(total)
"""


def run(quick: bool) -> list[Measure]:
    """Compare CPU seconds over all files of the folder."""
    n = 5 if quick else 21
    ours, theirs = in_turns(n, lambda: seconds("ours"), lambda: seconds("empty"))
    goal = f"ratio <= {RATIO}"
    return [Measure("parse: dags/", ours, theirs, "s", goal, ours <= RATIO * theirs, n)]


def seconds(operators: str) -> float:
    """Return the CPU seconds of parsing all files, each in a fork of its own."""
    command = [
        sys.executable,
        "-c",
        PARSE,
        str(DAGS),
        operators,
        *map(str, sorted(DAGS.glob("*.py"))),
    ]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(output.splitlines()[-1])
