"""Feast for real: file registry, SQLite online store, DuckDB and Dask offline stores."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from feast.feature_view import FeatureViewState

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.features.registry import heal
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from tests.feast_repos import (
    DEFINITIONS,
    START,
    in_process,
    observations,
    online_rows,
    open_store,
    served,
    take_online,
    write_repo,
)


@pytest.fixture(params=["duckdb", "dask"])
def repo(request, tmp_path, workspace, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    return write_repo(tmp_path / "repo", request.param)


@pytest.fixture
def store(repo):
    opened = open_store(repo)
    assert apply_features(opened, repo) == ["weather"]
    return opened


def state_of(repo):
    return open_store(repo).get_feature_view("weather").state


def test_applying_and_materializing_again_change_nothing(store, repo):
    take_online(store, None, START, START + pd.Timedelta(days=20))
    first = online_rows(store)
    assert len(first) == 2
    apply_features(open_store(repo), repo)
    assert take_online(store, ["weather"], "2013-01-01", "2013-01-21T00:00:00+00:00") == ["weather"]
    assert online_rows(store) == first
    seen = observations().query("origin == 'JFK'").set_index("event_timestamp")["temp"]
    assert served(store) == seen[: START + pd.Timedelta(days=20)].iloc[-1]


def test_the_join_sees_what_was_known_then_and_nothing_newer(store, workspace):
    rng = np.random.default_rng(1)
    rows = 500
    times = START + pd.to_timedelta(rng.integers(0, 24 * 60 * 30, rows), unit="min")
    entities = pd.DataFrame(
        {
            "id": rng.permutation(rows),
            "origin": rng.choice(["EWR", "JFK", "LGA", None], rows),
            "event_timestamp": times.where(rng.random(rows) < 0.7, times.floor("h")),
            "late": pd.array(rng.choice([0, 1, None], rows), dtype="Int8"),
        }
    )
    ref = write_dataset(entities, "entities", workspace, "test", window_start=START)
    joined = historical_features(
        store, ref, name="joined", workspace=workspace, feature_service="service"
    )
    known = pd.merge_asof(
        entities.assign(event_timestamp=times_of(entities)).sort_values("event_timestamp"),
        observations().assign(event_timestamp=times_of).sort_values("event_timestamp"),
        on="event_timestamp",
        by="origin",
        tolerance=pd.Timedelta(hours=6),
    )
    found = read_dataset(joined)
    assert found["id"].tolist() == entities["id"].tolist()
    expected = known.set_index("id")["temp"].loc[found["id"]]
    np.testing.assert_array_equal(found["temp"], expected)
    assert 0.2 < found["temp"].notna().mean() < 0.5
    assert joined.columns == {**ref.columns, "temp": "double"}
    assert joined.window_start == ref.window_start


def times_of(frame):
    return frame["event_timestamp"].astype("datetime64[us, UTC]")


def test_references_do_as_well_as_a_service(store, workspace):
    frame = pd.DataFrame({"origin": ["JFK"], "event_timestamp": [START + pd.Timedelta(days=9)]})
    ref = write_dataset(frame, "entities", workspace, "test")
    by = [{"feature_service": "service"}, {"features": ["weather:temp"]}]
    hashes = {
        historical_features(store, ref, name="j", workspace=workspace, **which).logical_hash
        for which in by
    }
    assert len(hashes) == 1


FEAST_DIES = """
type(store.provider.batch_engine).materialize = die
store.materialize(start, start + timedelta(days=8), feature_views=["weather"])
"""


def killed(repo):
    """Let Feast's own materialization be killed, which announces itself in the registry."""
    assert in_process(FEAST_DIES, repo).wait(120) == -signal.SIGKILL
    assert state_of(repo) == FeatureViewState.MATERIALIZING


@pytest.mark.parametrize("repo", ["duckdb"], indirect=True)
def test_a_view_that_a_killed_run_left_is_healed_and_served(store, repo):
    take_online(store, None, "2013-01-01", "2013-01-08")
    before = served(store)
    killed(repo)
    with pytest.raises(ValueError, match="MATERIALIZING"):
        served(open_store(repo))
    assert heal(open_store(repo), ["weather"]) == ["weather"]
    assert served(open_store(repo)) == before
    assert heal(open_store(repo), ["weather"]) == []


@pytest.mark.parametrize("repo", ["duckdb"], indirect=True)
def test_materializing_after_a_kill_goes_on(store, repo):
    take_online(store, None, "2013-01-01", "2013-01-08")
    killed(repo)
    take_online(open_store(repo), None, "2013-01-01", "2013-01-09")
    assert state_of(repo) == FeatureViewState.AVAILABLE_ONLINE
    killed(repo)
    apply_features(open_store(repo), repo)
    assert state_of(repo) == FeatureViewState.AVAILABLE_ONLINE


def test_what_cannot_be_joined_or_materialized_is_named(store, repo, workspace):
    def join(frame, **which):
        ref = write_dataset(frame, "entities", workspace, "test")
        historical_features(store, ref, name="joined", workspace=workspace, **which)

    frame = pd.DataFrame({"origin": ["JFK"], "event_timestamp": [START]})
    with pytest.raises(DataError, match="nonsense"):
        join(frame, feature_service="nonsense")
    with pytest.raises(DataError, match="nonsense"):
        join(frame, features=["nonsense:temp"])
    with pytest.raises(DataError, match="nonsense"):
        join(frame, features=["weather:nonsense"])
    with pytest.raises(DataError, match="origin"):
        join(frame.drop(columns="origin"), feature_service="service")
    with pytest.raises(DataError, match=r"no column \['event_timestamp'\]"):
        join(frame.drop(columns="event_timestamp"), feature_service="service")
    with pytest.raises(ParameterError, match="exactly one"):
        join(frame)
    with pytest.raises(DataError, match=r"\['nonsense'\].*\['weather'\]"):
        take_online(store, ["nonsense"], "2013-01-01", "2013-01-02")
    with pytest.raises(ParameterError, match="later than start"):
        take_online(store, None, "2013-01-02", "2013-01-02")
    with pytest.raises(ParameterError, match=r"start.*soon"):
        take_online(store, None, "soon", "2013-01-02")
    Path(repo, "weather.parquet").unlink()
    with pytest.raises(DataError, match=r"weather\.parquet"):
        join(frame, feature_service="service")
    with pytest.raises(DataError, match=r"weather\.parquet"):
        take_online(store, None, "2013-01-01", "2013-01-02")
    assert not list(Path(workspace).glob("datasets/joined/*"))


@pytest.mark.parametrize(
    ("definitions", "message"),
    [
        ("import nonsense", "ModuleNotFoundError.*nonsense"),
        ("this is no Python", "SyntaxError"),
    ],
)
def test_a_broken_repository_is_named_and_registers_nothing(
    tmp_path, workspace, monkeypatch, definitions, message
):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    repo = write_repo(tmp_path / "repo", definitions=definitions)
    store = open_store(repo)
    before = Path.cwd()
    with pytest.raises(DataError, match=message) as error:
        apply_features(store, repo)
    assert repo in str(error.value)
    assert Path.cwd() == before
    assert open_store(repo).list_batch_feature_views() == []


def test_code_that_does_not_import_leaves_no_file(tmp_path, workspace, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    repo = write_repo(tmp_path / "repo", definitions="import nonsense")
    with pytest.raises(DataError, match="nonsense"):
        apply_features(open_store(repo), repo)
    assert [path for path in Path(workspace).rglob("*") if path.is_file()] == []


def test_repositories_do_not_mix_their_modules(tmp_path, workspace, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    one = write_repo(tmp_path / "one")
    other = write_repo(
        tmp_path / "other", definitions=DEFINITIONS.replace('name="weather"', 'name="climate"')
    )
    assert apply_features(open_store(one), one) == ["weather"]
    with pytest.raises(DataError, match="delete feature view weather"):
        apply_features(open_store(other), other)
    assert apply_features(open_store(other), other, allow_destructive=True) == ["climate"]
