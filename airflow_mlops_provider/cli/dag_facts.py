"""Parse a DAGs folder in a process of its own, for ``airflow-mlops doctor``.

``python -m airflow_mlops_provider.cli.dag_facts FOLDER FILE`` writes to FILE. DAG files run any
code: they may print, log, or end the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.steps.doctor.facts import DagFacts, ProjectFacts, TaskFacts

if TYPE_CHECKING:
    from airflow.sdk import DAG

_OURS = "airflow_mlops_provider."
_NEVER = {"NullTimetable", "OnceTimetable", "AssetTriggeredTimetable", "PartitionedAtRuntime"}
_PATIENCE_SECONDS = 600
_LAST_WORDS = 500


def read_dags(folder: Path, workspace: str | None) -> ProjectFacts:
    """Return the DAGs of a folder and the errors of files that do not import.

    Args:
        folder: The DAGs folder; its modules are importable, as under Airflow.
        workspace: What DAG files get as ``[mlops] workspace``; by default what Airflow says.

    Raises:
        StackUnavailableError: a file ended the whole process, or it took over ten minutes.
    """
    with tempfile.TemporaryDirectory(prefix="mlops-doctor-") as scratch:
        file = Path(scratch) / "facts.json"
        command = [sys.executable, "-m", __name__, str(folder.resolve()), str(file)]
        try:
            done = subprocess.run(  # noqa: S603  # our own module
                command,
                env=_environment(folder, workspace, scratch),
                capture_output=True,
                text=True,
                timeout=_PATIENCE_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise StackUnavailableError(
                f"Parsing {folder} took over {_PATIENCE_SECONDS} seconds. Look which of its files "
                "works at import time."
            ) from error
        if not file.exists():
            raise StackUnavailableError(
                f"Parsing {folder} ended with exit code {done.returncode}: "
                f"{done.stderr[-_LAST_WORDS:].strip()}. One of its files ends the process."
            )
        return ProjectFacts.from_xcom(json.loads(file.read_text()))


def _environment(folder: Path, workspace: str | None, scratch: str) -> dict[str, str]:
    """Return an environment in which Airflow leaves nothing behind that was not there."""
    environment = {"AIRFLOW_HOME": f"{scratch}/airflow", **os.environ}
    environment |= {
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(folder.resolve()),
    }
    if workspace is not None:
        environment["AIRFLOW__MLOPS__WORKSPACE"] = workspace
    return environment


def parse(folder: Path) -> ProjectFacts:
    """Parse a DAGs folder in this process."""
    from airflow.dag_processing.dagbag import DagBag

    sys.path.insert(0, str(folder))
    bag = DagBag(folder, bundle_path=folder, bundle_name="doctor")
    return ProjectFacts(
        dags=[_dag(bag.dags[dag_id]) for dag_id in sorted(bag.dags)],
        import_errors={
            file: error.strip().splitlines()[-1] for file, error in bag.import_errors.items()
        },
    )


def _dag(dag: DAG) -> DagFacts:
    timetable: Any = dag.timetable
    assets = list(_assets(getattr(timetable, "asset_condition", None)))
    return DagFacts(
        dag_id=dag.dag_id,
        file=str(dag.relative_fileloc),
        tasks=[_task(task) for task in dag.tasks],
        schedule=_schedule(timetable),
        assets=[asset.uri for asset in assets],
        watchers=[_trigger(each.trigger) for asset in assets for each in asset.watchers],
    )


def _schedule(timetable: Any) -> str | None:
    timed = getattr(timetable, "timetable", timetable)
    if type(timed).__name__ in _NEVER:
        return None
    for word in ("expression", "_expression", "delta", "_delta"):
        if told := getattr(timed, word, None):
            return str(told)
    return type(timed).__name__


def _assets(condition: Any) -> Iterator[Any]:
    """Give the assets of a condition such as ``a | (b & c)``."""
    if hasattr(condition, "objects"):
        for each in condition.objects:
            yield from _assets(each)
    elif hasattr(condition, "watchers"):
        yield condition


def _trigger(trigger: Any) -> str:
    """Return the class name of a watcher's trigger, which Airflow keeps as ``classpath``."""
    path = trigger["classpath"] if isinstance(trigger, dict) else type(trigger).__name__
    return str(path).rpartition(".")[2]


def _task(task: Any) -> TaskFacts:
    kind: type = getattr(task, "operator_class", None) or type(task)
    outlets = [*getattr(task, "partial_kwargs", {}).get("outlets", ()), *task.outlets]
    return TaskFacts(
        task_id=task.task_id,
        operator=str(getattr(kind, "custom_operator_name", kind.__name__)),
        classes=[each.__name__ for each in kind.__mro__ if each.__module__.startswith(_OURS)],
        outlets=[each.uri for each in outlets if hasattr(each, "uri")],
        aliased=any(not hasattr(each, "uri") for each in outlets),
    )


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(parse(Path(sys.argv[1])).to_xcom()))
