"""Commits of a new pipeline repository go through ``level2_pipeline_ci``, each its own way."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import pytest

from airflow_mlops_provider.cli.init import make_project
from airflow_mlops_provider.records import PublishedPipeline
from airflow_mlops_provider.workspace import file_hash, read_json
from tests.forges import Forge

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The DAGs of docs/pipeline-ci.md as they stand there."""
    from airflow.dag_processing.dagbag import DagBag

    folder = tmp_path_factory.mktemp("page")
    text = (ROOT / "docs" / "pipeline-ci.md").read_text()
    for n, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
        (folder / f"dag_{n}.py").write_text(code)
    return DagBag(folder, bundle_path=folder, bundle_name="page")


def test_the_dags_of_the_page_import(page):
    assert page.import_errors == {}
    assert set(page.dags) == {"ci", "on_push"}
    publish = page.dags["ci"].get_task("publish")
    assert publish.upstream_task_ids == {"build", "test", "stage"}


def event(*commits):
    return SimpleNamespace(extra={"from_trigger": True, "payload": {"commits": list(commits)}})


@pytest.mark.parametrize(
    ("asked", "events", "commits"),
    [
        (None, [event("a", "b")], ["a", "b"]),
        (None, [event("a", "b"), event("b", "c")], ["a", "b", "c"]),
        ("x", [event("a")], ["x"]),
        (None, [SimpleNamespace(extra={})], ["head"]),
        (None, [], ["head"]),
    ],
)
def test_every_pushed_commit_is_taken_once_and_in_order(asked, events, commits):
    import level2_pipeline_ci as ci

    with patch.object(ci, "_head", return_value="head"):
        chosen = ci.choose_commits.function({"commit": asked}, {ci.commits: events})
    assert chosen == commits


@pytest.fixture(scope="module")
def forge(tmp_path_factory):
    """A forge with the repository that ``airflow-mlops init`` makes, pushed."""
    forge = Forge(tmp_path_factory.mktemp("forge"))
    made = make_project("churn_model", forge.folder)
    shutil.copytree(made, forge.clone, dirs_exist_ok=True)
    # the whole training takes a minute, and the staging stage runs it
    shutil.rmtree(forge.clone / "tests" / "integration")
    forge.pushed({}, "Start")
    return forge


@pytest.fixture(scope="module")
def dag(airflow_db, environment, forge):
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    variables = {
        "MLOPS_PIPELINE_REPOSITORY": forge.address,
        "MLOPS_PIPELINE_PYTHON": sys.executable,
    }
    with patch.dict("os.environ", variables):
        folder = ROOT / "dags"
        DagBundlesManager().sync_bundles_to_db()
        file = folder / "level2_pipeline_ci.py"
        bag = BundleDagBag(str(file), bundle_name="dags-folder", bundle_path=folder)
        sync_bag_to_db(bag, "dags-folder", None)
        yield bag.dags["level2_pipeline_ci"]


def values(run, task):
    tis = [ti for ti in run.get_task_instances() if ti.task_id == f"ci.{task}"]
    return {
        ti.map_index: ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index)
        for ti in tis
        if ti.state == "success"
    }


@pytest.mark.slow
def test_the_head_of_a_new_project_is_published_with_its_reports(dag, forge):
    run = dag.test()
    assert run.state == "success"
    published = PublishedPipeline.from_xcom(values(run, "publish")[0])
    assert published.commit == forge.git("rev-parse", "main")
    manifest = read_json(published.manifest_uri)
    assert manifest["tests"]["n_tests"] == 6
    assert {each["name"]: each["outcome"] for each in manifest["tests"]["checks"]} == dict.fromkeys(
        ["tests", "lint", "dags", "features"], "passed"
    )
    assert {each["name"]: each["outcome"] for each in manifest["staging"]["checks"]} == (
        dict.fromkeys(["run", "finite", "convergence", "serving"], "passed")
    )
    assert manifest["staging"]["metrics"]["auc"] > 0.8
    files = [manifest["files"]["wheel"], *manifest["files"]["reports"]]
    assert all(file_hash(each["uri"]) == each["sha256"] for each in files)


@pytest.mark.slow
def test_a_training_that_fails_in_staging_is_not_published(dag, forge):
    train = (forge.clone / "dags" / "train.py").read_text()
    commit = forge.pushed(
        {"dags/train.py": train.replace('{"max_iter": 50}', '{"learning_rate": -1.0}')}, "Diverge"
    )
    run = dag.test(run_conf={"commit": commit})
    states = {ti.task_id: ti.state for ti in run.get_task_instances()}
    assert (states["ci.test"], states["ci.stage"]) == ("success", "failed")
    assert states["ci.publish"] == "upstream_failed"
