from __future__ import annotations

import pandas as pd
import yaml

from airflow_mlops_provider.steps.drift.compare import reference_sample
from airflow_mlops_provider.steps.profile import keep_reference, log_reference
from airflow_mlops_provider.steps.suites import load_suite


def test_profile_and_suite_are_kept_by_content(dataset, workspace):
    first, again = (keep_reference(dataset, workspace=workspace) for _ in range(2))
    assert first == again
    assert first.suite_uri.startswith(f"{workspace}/suites/")
    suite = load_suite(first.suite_uri)
    assert suite == yaml.safe_load(first.suite)
    assert suite["name"] == "flights"
    assert reference_sample(first.profile_uri) is None


def test_all_that_was_asked_for_is_kept(dataset, workspace):
    kept = keep_reference(
        dataset,
        workspace=workspace,
        columns=["hour", "origin"],
        segments=["origin"],
        sample_rows=10,
        suite_name="baseline",
    )
    assert load_suite(kept.suite_uri)["name"] == "baseline"
    sample = reference_sample(kept.profile_uri)
    assert isinstance(sample, pd.DataFrame)
    assert sample.shape == (10, 2)


def test_the_suite_is_there_to_be_reviewed(dataset, workspace, run, client):
    kept = keep_reference(dataset, workspace=workspace)
    log_reference(run, kept)
    assert "suite.yaml" in {each.path for each in client.list_artifacts(run.run_id)}
    tags = client.get_run(run.run_id).data.tags
    assert tags["mlops.profile_uri"] == kept.profile_uri
    assert tags["mlops.suite_uri"] == kept.suite_uri
