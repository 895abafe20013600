"""Parsing ``dags/`` against parsing the same graphs made of empty operators."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import Measure, in_turns

RATIO = 1.2
DAGS = Path(__file__).resolve().parents[1] / "dags"

# Airflow's DAG processor forks for each file, and imports what the file wants of Airflow before.
PARSE = """
import importlib, json, os, sys, time
sys.path.insert(0, sys.argv[1])
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG, BaseOperator, Param, task
from airflow.utils.file import iter_airflow_imports

for file in sys.argv[2:]:
    for name in iter_airflow_imports(file):
        importlib.import_module(name)

def parse(file):
    start = time.process_time()
    bag = DagBag(file, bundle_path=None)
    seconds = time.process_time() - start
    assert bag.dags and not bag.import_errors, bag.import_errors
    graphs = {
        dag.dag_id: {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks}
        for dag in bag.dags.values()
    }
    return {"seconds": seconds, "graphs": graphs}

results = []
for file in sys.argv[2:]:
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, json.dumps(parse(file)).encode() + b"\\n")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        results.append(json.loads(answer.read()))
    os.wait()
print(json.dumps(results))
"""


def run(quick: bool) -> list[Measure]:
    """Compare CPU seconds over all files of the folder."""
    n = 3 if quick else 11
    files = sorted(DAGS.glob("*.py"))
    with tempfile.TemporaryDirectory() as folder:
        empty = [
            _empty_twin(Path(folder) / file.name, parsed["graphs"])
            for file, parsed in zip(files, parse(files), strict=True)
        ]
        ours, theirs = in_turns(n, lambda: seconds(files), lambda: seconds(empty))
    goal = f"ratio <= {RATIO}"
    return [Measure("parse: dags/", ours, theirs, "s", goal, ours <= RATIO * theirs, n)]


def seconds(files: list[Path]) -> float:
    """Return the CPU seconds that parsing takes, summed over ``files``."""
    return sum(each["seconds"] for each in parse(files))


def parse(files: list[Path]) -> list[dict]:
    """Parse each file in a fork of its own; return its seconds and its graphs by DAG id."""
    command = [sys.executable, "-c", PARSE, str(DAGS), *map(str, files)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def _empty_twin(file: Path, graphs: dict[str, dict[str, list[str]]]) -> Path:
    """Write DAGs with the same tasks and edges, none of which does anything."""
    lines = [
        "from airflow.providers.standard.operators.empty import EmptyOperator",
        "from airflow.sdk import DAG",
    ]
    for dag_id, graph in graphs.items():
        lines += [f"with DAG({dag_id!r}, schedule=None):", "    tasks = {}"]
        lines += [f"    tasks[{task!r}] = EmptyOperator(task_id={task!r})" for task in graph]
        lines += [
            f"    tasks[{task!r}] >> tasks[{below!r}]" for task in graph for below in graph[task]
        ]
    file.write_text("\n".join(lines))
    return file
