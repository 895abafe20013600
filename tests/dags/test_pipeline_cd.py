"""How the DAG of CD is wired; it runs in ``tests/integration/test_pipeline_cd.py``."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from airflow_mlops_provider.records import PipelineEnvironment, PublishedPipeline
from level2_pipeline_cd import ENVIRONMENTS, dag

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pipeline-cd.md"


def upstream(task_id):
    return dag.get_task(task_id).upstream_task_ids


def test_environments_follow_one_another_in_the_order_of_the_file():
    assert "choose_version" in upstream("staging.promote")
    assert "staging.check" in upstream("pre-production.promote")
    assert "pre-production.check" in upstream("production.approve")
    assert "production.approve" in upstream("production.promote")
    assert upstream("delivered") == {"production.check"}


@pytest.mark.parametrize("name", ["staging", "pre-production", "production"])
def test_each_is_rolled_back_after_a_failure_and_only_then(name):
    roll_back = dag.get_task(f"{name}.roll_back")
    stages = {f"{name}.{stage}" for stage in ("promote", "wait", "check")}
    assert roll_back.upstream_task_ids >= stages
    assert roll_back.trigger_rule == "one_failed"
    assert not roll_back.downstream_task_ids


def test_a_person_is_asked_only_before_production():
    asked = [task.task_id for task in dag.tasks if task.task_id.endswith("approve")]
    assert asked == ["production.approve"]


def event(commit, at):
    version = PublishedPipeline(
        name="shop",
        version="1",
        commit=commit,
        manifest_uri="/m",
        wheel_uri="/w",
        wheel_sha256="w",
        source_uri="/s",
        repository="/forge",
    )
    return SimpleNamespace(extra=version.to_xcom(), timestamp=at)


def test_of_several_published_versions_the_last_is_delivered():
    choose = dag.get_task("choose_version").python_callable
    events = {"an asset": [event("b", 2), event("a", 1)]}
    assert choose({"manifest": None}, events)["commit"] == "b"
    with pytest.raises(ValueError, match="Give the param `manifest`"):
        choose({"manifest": None}, {})


def test_the_page_shows_environments_and_a_dag_as_they_are():
    text = PAGE.read_text()
    shown = yaml.safe_load(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1])
    assert [each.name for each in PipelineEnvironment.several_from_xcom(shown)] == [
        "staging",
        "production",
    ]
    found = {}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], found)  # noqa: S102 - our own page
    assert found["roll_back"].upstream_task_ids == {"promote", "wait", "check"}


def test_the_environments_come_from_a_file():
    assert Path(ENVIRONMENTS).exists()
