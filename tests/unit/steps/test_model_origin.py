from __future__ import annotations

import pytest

from airflow_mlops_provider.steps.metadata import GIT_COMMIT
from airflow_mlops_provider.steps.model_card import ModelCard, Origin
from airflow_mlops_provider.steps.model_origin import keep_card, origin_of
from airflow_mlops_provider.steps.register import register_model
from airflow_mlops_provider.steps.reproduce_recorded import Store


def test_the_run_tells_where_the_model_came_from(client, models, run):
    client.set_tag(models[-1].run_id, GIT_COMMIT, "c0ffee")
    origin = origin_of(client, models[-1].run_id)
    assert origin.spec.target == "late"
    assert origin.spec.dataset.n_rows == 1_000
    assert origin.facts["DAG"] == "a_dag"
    assert origin.facts["Git commit"] == "c0ffee"
    assert origin.facts["Pipeline run"] == run.pipeline_id
    assert origin.links == {}  # a store in SQLite has no pages


def test_a_run_that_is_gone_leaves_the_card_without_it(client):
    assert origin_of(client, "0" * 32) == Origin()


@pytest.mark.parametrize("left", [{"target": "late"}, ["no record"]])
def test_a_record_that_cannot_be_read_is_left_out(client, run, left):
    client.log_dict(run.run_id, left, "records/TrainingSpec.json")
    origin = origin_of(client, run.run_id)
    assert origin.spec is None
    assert origin.facts["DAG"] == "a_dag"


def test_keeping_a_card_again_changes_nothing(client, models, run, name, tmp_path):
    version = register_model(client, models[-1], name=name)
    card = ModelCard(version, models[-1], "Tests.", origin=origin_of(client, models[-1].run_id))
    found = []
    for _ in range(2):
        keep_card(run, card)
        found.append(client.get_model_version(name, version.version).description)
    assert found[0] == found[1]
    assert "Tests." in found[0]
    root = client.get_run(run.run_id).info.artifact_uri
    for kept in ("model_card.md", "model_card.html"):
        assert "Tests." in Store(client).fetch(root, kept, str(tmp_path)).read_text()
