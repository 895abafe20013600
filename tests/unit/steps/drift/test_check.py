from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.drift.check import check_drift, log_check
from airflow_mlops_provider.steps.drift.history import find_drift
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.snapshot import write_dataset

ROWS = 2_000


def frame_of(shift=0.0, rows=ROWS):
    rng = np.random.default_rng(0)
    return pd.DataFrame({"hour": rng.normal(shift, size=rows), "to/from <x>": rng.random(rows)})


@pytest.fixture
def profile(workspace):
    return profile_dataset(write_dataset(frame_of(), "flights", workspace, "test"), None, workspace)


@pytest.fixture
def check(workspace, profile):
    def check(shift=0.0, day=1, rows=ROWS, **options):
        current = write_dataset(frame_of(shift, rows), "flights", workspace, "test")
        known = {"name": None, "window": f"2013-07-0{day}", "max_share": 0.5}
        return check_drift(
            options.pop("current", current),
            options.pop("profile_uri", profile),
            workspace=workspace,
            checked_at=datetime(2013, 7, 9, tzinfo=UTC),
            **{**known, **options},
        )

    return check


def test_a_second_drifted_window_asks_for_retraining(check, workspace):
    first, again, second = check(2.0, day=1), check(2.0, day=1), check(2.0, day=2)
    assert [each.report.streak for each in (first, again, second)] == [1, 1, 2]
    assert [each.report.retrain for each in (first, again, second)] == [False, False, True]
    assert find_drift(workspace, "flights") == second.report
    assert [*second.pictures] == ["hour"]
    assert "retraining is asked for" in second.page


def test_files_are_checked_under_a_name(check, tmp_path):
    path = tmp_path / "now.csv"
    frame_of().to_csv(path, index=False)
    found = check(current=str(path), name="landing")
    assert (found.name, found.report.verdict) == ("landing", "stable")
    with pytest.raises(ParameterError, match="The name parameter"):
        check(current=str(path))


@pytest.mark.parametrize(("rows", "ours"), [(ROWS, False), (100, True)])
def test_evidently_draws_only_what_there_are_enough_rows_for(
    check, workspace, monkeypatch, rows, ours
):
    dataset = write_dataset(frame_of(), "flights", workspace, "test")
    sampled = profile_dataset(dataset, None, workspace, sample_rows=500)
    found = check(rows=rows, profile_uri=sampled, renderer="evidently")
    assert ("Drift of flights" in found.page) is ours


def test_nothing_is_published_that_cannot_be_drawn(check, workspace):
    with pytest.raises(DataError, match="keeps no sample"):
        check(2.0, consecutive=1, renderer="evidently")
    assert find_drift(workspace, "flights") is None


@pytest.mark.parametrize(
    ("options", "name"),
    [({"renderer": "pdf"}, "renderer"), ({"name": "a/b"}, "name"), ({"consecutive": 0}, "consec")],
)
def test_a_parameter_out_of_range_is_named(check, options, name):
    with pytest.raises(ParameterError, match=f"The {name}"):
        check(**options)


def test_a_run_keeps_record_figures_page_and_pictures(check, run, client):
    found = check(2.0)
    odd = replace(found, pictures={"to/from <x>": b"png", "../../x": b"png", **found.pictures})
    log_check(run, odd)
    artifacts = {each.path for each in client.list_artifacts(run.run_id)}
    assert {"drift_report.html", "drift", "records"} <= artifacts
    drawn = [each.path for each in client.list_artifacts(run.run_id, "drift")]
    assert drawn == ["drift/01-to_from_x_.png", "drift/02-.._.._x.png", "drift/03-hour.png"]
    metrics = client.get_run(run.run_id).data.metrics
    assert metrics["share_drifted"] == found.report.share_drifted
    assert metrics["max_psi"] > 0.2


def test_a_run_without_pictures_or_figures_has_a_page(check, run, client):
    log_check(run, check(rows=100))
    assert "drift_report.html" in {each.path for each in client.list_artifacts(run.run_id)}
    assert "max_psi" not in client.get_run(run.run_id).data.metrics
