"""Import each DAG file of a folder in a process of its own, and tell what is in it.

``python dag_files.py FOLDER ANSWER SECONDS``, in the environment of the pipeline. Airflow is
imported once, and forked for each file, as its own DAG processor does.
"""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

from airflow.dag_processing.dagbag import DagBag
from airflow.dag_processing.importers import get_importer_registry
from airflow.serialization.serialized_objects import DagSerialization


def look_into(file: str, folder: Path, pipe: Any) -> None:
    """Send ``{"error": text or None, "dags": {id: number of tasks}}``."""
    try:
        bag = DagBag(file, bundle_path=folder, bundle_name="checked", collect_dags=False)
        found = bag.process_file(str(file), only_if_updated=False)
        errors = list(bag.import_errors.values())
        ids = [dag.dag_id for dag in found]
        errors += [f"duplicate DAG id {each!r}" for each in set(ids) if ids.count(each) > 1]
        for dag in found:
            DagSerialization.to_dict(dag)
        dags = {dag.dag_id: len(dag.tasks) for dag in found}
        pipe.send({"error": "\n".join(errors) or None, "dags": dags})
    except BaseException as error:
        pipe.send({"error": f"{type(error).__name__}: {error}", "dags": {}})
        raise


def answer_of(file: str, folder: Path, seconds: float) -> Any:
    """Return what a process of its own says of a file."""
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe(duplex=False)
    process = fork.Process(target=look_into, args=(file, folder, there))
    process.start()
    there.close()
    try:
        if here.poll(seconds):
            return here.recv()
        return {"error": f"its import was not done after {seconds:g} s", "dags": {}}
    except EOFError:
        process.join()
        return {"error": f"its import ended the process ({process.exitcode})", "dags": {}}
    finally:
        process.kill()
        process.join()


def main(folder: Path, answer: Path, seconds: float) -> None:
    """Look into each file that Airflow would take for one with DAGs."""
    files = get_importer_registry().list_dag_files(folder, safe_mode=True)
    found = {
        str(Path(file).relative_to(folder)): answer_of(file, folder, seconds)
        for file in sorted(map(str, files))
    }
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), float(sys.argv[3]))
