"""Run a DAG once in an Airflow of its own, ask what it served, and tell how it went.

``python staging_run.py DAGS_FOLDER DAG_ID CONF ANSWER [--serve]``, in the environment of the
pipeline; ``AIRFLOW_HOME`` and the workspace are those of the staging. ``CONF`` is JSON, the answer
a file of JSON. MLflow is that of the Connection ``mlflow_default``, else one in the workspace.
"""

import argparse
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ENDPOINT = "staging"
READY_SECONDS = 180
ROWS = 20


@contextlib.contextmanager
def serving_host(workspace: str, logs: Path) -> Iterator[None]:
    """Serve the workspace on free ports of this machine."""
    from airflow_mlops_provider.hooks.mlflow import MlflowHook
    from airflow_mlops_provider.stack import local
    from airflow_mlops_provider.stack.service import free_ports, stop_all, wait_until_healthy

    router, admin = (f"http://127.0.0.1:{port}" for port in free_ports(2))
    uri = MlflowHook().tracking_uri
    host = local.serving_host(Path(workspace), router, admin, uri, logs / "serving.log")
    host.start()
    try:
        wait_until_healthy([host], READY_SECONDS, print)
        yield
    finally:
        stop_all([host])


def run_dag(folder: Path, dag_id: str, conf: dict[str, Any]) -> Any:
    """Run a DAG as ``airflow dags test`` does; return its run."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    DagBundlesManager().sync_bundles_to_db()
    bag = BundleDagBag(str(folder), bundle_path=folder, bundle_name="dags-folder")
    if dag_id not in bag.dags:
        sys.exit(f"There is no DAG {dag_id!r}, only {sorted(bag.dags)} {bag.import_errors}")
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.dags[dag_id].test(run_conf=conf)


def metrics_of(run: Any) -> list[dict[str, Any]]:
    """Return for each metric of each MLflow run of a DAG run its values, oldest first."""
    from airflow_mlops_provider.hooks.mlflow import MlflowHook

    client = MlflowHook().get_conn()
    experiments = [each.experiment_id for each in client.search_experiments()]
    found = client.search_runs(
        experiments,
        f"tags.`airflow.run_id` = '{run.run_id}'",
        order_by=["attributes.start_time ASC"],
    )
    return [
        {"name": name, "values": [each.value for each in values]}
        for each in found
        for name in each.data.metrics
        if (values := client.get_metric_history(each.info.run_id, name))
    ]


def ask(workspace: str, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Ask each endpoint that the run served for its model's input example, or serve the model."""
    from airflow_mlops_provider.serving.client import ServingClient

    served = [each for each in records if {"endpoint", "url", "deployments"} <= each.keys()]
    uris = [each["model_uri"] for each in records if each.get("model_uri")]
    with ServingClient.from_workspace(workspace) as client:
        if served:
            return [ask_one(client, each["endpoint"], each["deployments"]) for each in served]
        return [ask_one(client, ENDPOINT, {"candidate": uris[-1]}, serve=True)] if uris else []


def ask_one(
    client: Any, endpoint: str, deployments: dict[str, str], *, serve: bool = False
) -> dict[str, Any]:
    """Return the answers of an endpoint, made if need be, or what went wrong."""
    import mlflow

    from airflow_mlops_provider.exceptions import MlopsError

    name, model_uri = next(iter(deployments.items()))
    example = mlflow.pyfunc.load_model(model_uri).input_example
    if not hasattr(example, "to_json"):
        return {"endpoint": endpoint, "problem": "its model has no input example with columns"}
    rows = example.head(ROWS)
    payload = {"dataframe_split": json.loads(rows.to_json(orient="split"))}
    try:
        if serve:
            client.create_endpoint(endpoint)
            ref = client.create_deployment(endpoint, name, model_uri, timeout=READY_SECONDS)
            client.set_traffic(endpoint, {name: 100}, generation=ref.generation)
        answers = client.predict(endpoint, payload)["predictions"]
    except MlopsError as error:
        return {"endpoint": endpoint, "problem": str(error)}
    return {"endpoint": endpoint, "n": len(rows), "answers": answers}


def main(options: argparse.Namespace) -> None:
    """Migrate, run, ask, tell."""
    from airflow_mlops_provider.hooks.settings import workspace_uri

    subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=True)
    workspace, answer = workspace_uri(), Path(options.answer)
    with serving_host(workspace, answer.parent) if options.serve else contextlib.nullcontext():
        run = run_dag(Path(options.dags).resolve(), options.dag_id, json.loads(options.conf))
        tasks = run.get_task_instances()
        values = [each.xcom_pull(task_ids=each.task_id, key="return_value") for each in tasks]
        records = [value for value in values if isinstance(value, dict)]
        succeeded = str(run.state) == "success"
        told = {
            "state": str(run.state),
            "tasks": {each.task_id: str(each.state) for each in tasks},
            "metrics": metrics_of(run),
            "asked": ask(workspace, records) if options.serve and succeeded else [],
        }
    answer.write_text(json.dumps(told, default=str))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("dags")
    parser.add_argument("dag_id")
    parser.add_argument("conf")
    parser.add_argument("answer")
    parser.add_argument("--serve", action="store_true")
    main(parser.parse_args())
