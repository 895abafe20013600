"""Training-serving skew with a real Feast: what differs between both paths is found and named."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.hooks.feast import FeastHook
from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.features.materialize import materialize
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.features.skew import compare_logged, compare_online, skew_page
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.prediction_logs import record, write_segment

START = pd.Timestamp("2024-01-01", tz="UTC")
END = START + pd.Timedelta(days=10)
TANKS = range(20)
CONFIG = """
project: p
provider: local
offline_store: {type: duckdb}
online_store: {type: sqlite}
entity_key_serialization_version: 3
"""
DEFINITIONS = """
from datetime import timedelta
import pandas as pd
from feast import Entity, FeatureService, FeatureView, Field, FileSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float32, Float64, Int64, String, UnixTimestamp

source = FileSource(path="{source}", timestamp_field="event_timestamp")
tank = Entity(name="tank", value_type=ValueType.INT64)
tanks = FeatureView(
    name="tanks", entities=[tank], ttl=timedelta(days=5), source=source, schema=[
        Field(name="level", dtype=Float64), Field(name="visits", dtype=Int64),
        Field(name="colour", dtype=String), Field(name="active", dtype=Bool),
        Field(name="heat", dtype=Float32), Field(name="seen", dtype=UnixTimestamp),
    ],
)
asked = RequestSource(name="asked", schema=[Field(name="wanted", dtype=Float64)])

@on_demand_feature_view(
    sources=[tanks, asked], schema=[Field(name="lacking", dtype=Float64)], mode="pandas"
)
def need(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({{"lacking": rows["wanted"] - rows["level"]}})

service = FeatureService(name="service", features=[tanks])
derived = FeatureService(name="derived", features=[tanks[["level"]], need])
"""


def observations() -> pd.DataFrame:
    """Return what is seen of each tank every twelve hours."""
    rng = np.random.default_rng(0)
    times = pd.date_range(START, END, freq="12h", unit="us")
    rows = len(TANKS) * len(times)
    return pd.DataFrame(
        {
            "tank": np.repeat(list(TANKS), len(times)),
            "event_timestamp": np.tile(times, len(TANKS)),
            "level": np.where(rng.random(rows) < 0.2, np.nan, rng.normal(size=rows)),
            "visits": rng.integers(0, 2**60, rows),
            "colour": rng.choice(["red", "blue"], rows),
            "active": rng.random(rows) < 0.5,
            "heat": rng.normal(size=rows),
            "seen": np.tile(times + pd.Timedelta(milliseconds=1500), len(TANKS)),
        }
    )


def write_source(frame: pd.DataFrame, repo: str) -> None:
    frame.to_parquet(Path(repo, "tanks.parquet"), coerce_timestamps="us")


@pytest.fixture
def repo(tmp_path, workspace, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(CONFIG)
    definitions = DEFINITIONS.format(source=folder / "tanks.parquet")
    (folder / "definitions.py").write_text(definitions)
    write_source(observations(), str(folder))
    return str(folder)


@pytest.fixture
def store(repo):
    apply_features(FeastHook(repo_path=repo).get_conn(), repo)
    opened = FeastHook(repo_path=repo).get_conn()
    materialize(opened, None, START, END, now=END)
    return opened


@pytest.fixture
def entities(workspace):
    frame = pd.DataFrame({"label": 1, "tank": [*TANKS, *TANKS, None], "wanted": 2.0})
    return write_dataset(frame.astype({"tank": "Int64"}), "entities", workspace, "test")


def by_feature(report):
    return {each.feature: each for each in report.features}


def rows_of(store) -> sqlite3.Connection:
    return sqlite3.connect(store.config.online_store.path)


def test_equal_stores_show_no_skew(store, entities):
    report = compare_online(store, entities, at=END, feature_service="service")
    assert (report.verdict, report.skewed, report.n_rows) == ("same", [], 20)
    found = by_feature(report)
    assert {name: each.n_different for name, each in found.items()} == dict.fromkeys(found, 0)
    assert [*sorted(found)] == ["active", "colour", "heat", "level", "seen", "visits"]
    assert found["visits"].n == 20
    assert found["level"].n < 20  # where both are null there is nothing to compare
    assert found["level"].materialized_until == END.isoformat()


def test_an_on_demand_view_is_compared_on_both_paths(store, entities):
    report = compare_online(store, entities, at=END.isoformat(), feature_service="derived")
    assert report.verdict == "same"
    assert by_feature(report)["lacking"].n > 10


def test_a_value_that_was_tampered_with_is_found_and_named(store, entities):
    before = compare_online(store, entities, at=END, features=["tanks:visits", "tanks:colour"])
    assert before.verdict == "same"
    store.write_to_online_store(
        "tanks",
        observations()
        .query("tank == 7 and event_timestamp == @END")
        .assign(visits=lambda rows: rows["visits"] + 1),
    )
    report = compare_online(store, entities, at=END, features=["tanks:visits", "tanks:colour"])
    assert (report.verdict, report.skewed) == ("skewed", ["visits"])
    visits = by_feature(report)["visits"]
    assert (visits.n, visits.n_different, visits.share) == (20, 1, 0.05)
    assert [example.entity for example in visits.examples] == [{"tank": "7"}]
    tolerant = compare_online(
        store, entities, at=END, features=["tanks:visits", "tanks:colour"], max_share=0.05
    )
    assert tolerant.verdict == "same"


def test_a_view_materialized_to_an_older_window_is_found(repo, entities):
    apply_features(FeastHook(repo_path=repo).get_conn(), repo)
    store = FeastHook(repo_path=repo).get_conn()
    materialize(store, None, START, START + timedelta(days=8), now=END)
    report = compare_online(store, entities, at=END, feature_service="service")
    visits = by_feature(report)["visits"]
    assert (report.verdict, visits.share, len(visits.examples)) == ("skewed", 1.0, 5)
    assert visits.materialized_until == (START + timedelta(days=8)).isoformat()
    assert visits.largest_difference > 1
    then = START + timedelta(days=8)
    assert compare_online(store, entities, at=then, feature_service="service").verdict == "same"


def test_values_beyond_their_ttl_are_told_apart(store, entities):
    late = END + timedelta(days=6)
    report = compare_online(store, entities, at=late, features=["tanks:visits"])
    visits = by_feature(report)["visits"]
    assert (report.verdict, visits.n, visits.n_expired, visits.n_only_online) == (
        "skewed", 20, 20, 20,
    )  # fmt: skip
    report = compare_online(
        store, entities, at=late, features=["tanks:visits"], count_expired=False
    )
    assert report.verdict == "insufficient_data"
    assert by_feature(report)["visits"].n_expired == 20


def test_what_is_newer_online_is_not_compared(store, entities):
    report = compare_online(store, entities, at=END - timedelta(days=1), features=["tanks:visits"])
    visits = by_feature(report)["visits"]
    assert (report.verdict, visits.n, visits.n_newer) == ("insufficient_data", 0, 20)


def test_entities_that_are_not_served_are_nulls_on_one_side(store, workspace, entities):
    with rows_of(store) as connection:
        connection.execute("DELETE FROM p_tanks WHERE feature_name = 'heat'")
    report = compare_online(store, entities, at=END, feature_service="service")
    heat = by_feature(report)["heat"]
    assert report.skewed == ["heat"]
    assert (heat.n_only_offline, heat.online_type) == (20, None)


def test_a_type_change_is_found_whatever_the_values(store, repo, entities):
    write_source(observations().assign(heat=lambda rows: rows["heat"].astype(str)), repo)
    report = compare_online(
        store, entities, at=END, features=["tanks:heat", "tanks:active"], max_share=1.0
    )
    heat = by_feature(report)["heat"]
    assert (report.skewed, heat.type_changed) == (["heat"], True)
    assert (heat.offline_type, heat.online_type) == ("text", "float")


def test_an_integer_widened_to_a_float_is_the_same(store, repo, entities):
    write_source(observations().assign(active=lambda rows: rows["active"].astype(float)), repo)
    report = compare_online(store, entities, at=END, features=["tanks:active"])
    active = by_feature(report)["active"]
    assert (report.verdict, active.offline_type, active.online_type) == ("same", "float", "bool")


def logged(workspace, tmp_path, change, **fields):
    """Return the compacted log of a model that was asked about each tank at three times."""
    records = []
    for number, row in enumerate(known_rows().to_dict("records")):
        inputs = {name: row[name] for name in ("tank", "level", "visits", "colour")}
        change(inputs)
        inputs = {key: None if value != value else value for key, value in inputs.items()}
        at = (row["event_timestamp"] + pd.Timedelta(hours=1)).isoformat()
        records.append(record(number, ts=at, inputs=inputs, **fields))
    write_segment(tmp_path / "log", "1", records)
    return compact_log(str(tmp_path / "log"), endpoint="tanks", workspace=workspace)


def known_rows() -> pd.DataFrame:
    days = [START + timedelta(days=n) for n in (2, 5, 9)]
    return observations()[lambda rows: rows["event_timestamp"].isin(days)]


def test_logged_features_are_compared_with_what_was_known_at_each_prediction(
    store, workspace, tmp_path
):
    predictions = logged(workspace, tmp_path, lambda inputs: None)
    report = compare_logged(store, predictions, feature_service="service")
    assert (report.verdict, report.n_rows, report.n_left_out) == ("same", 60, 0)
    assert report.not_logged == ["active", "heat", "seen"]
    assert by_feature(report)["visits"].n == 60


def test_a_feature_computed_differently_in_serving_is_found(store, workspace, tmp_path):
    def in_percent(inputs):
        inputs["level"] *= 100

    predictions = logged(workspace, tmp_path, in_percent)
    report = compare_logged(store, predictions, feature_service="service")
    level = by_feature(report)["level"]
    assert (report.skewed, level.share) == (["level"], 1.0)
    assert level.examples[0].at == "2024-01-03T01:00:00+00:00"


def test_the_join_key_may_lie_in_another_column(store, workspace, tmp_path):
    predictions = logged(workspace, tmp_path, lambda inputs: inputs.update(id=inputs.pop("tank")))
    with pytest.raises(DataError, match=r"'tank'|entity_id"):
        compare_logged(store, predictions, features=["tanks:visits"], keys={"tank": "nonsense"})
    keys = {"tank": "input.id"}
    report = compare_logged(store, predictions, features=["tanks:visits"], keys=keys)
    assert (report.verdict, report.n_rows) == ("same", 60)


def test_shadows_and_refusals_are_left_out(store, workspace, tmp_path):
    predictions = logged(workspace, tmp_path, lambda inputs: None, shadow=True)
    report = compare_logged(store, predictions, feature_service="service")
    assert (report.verdict, report.n_rows, report.n_left_out) == ("insufficient_data", 0, 60)


def test_a_retried_prediction_counts_once_and_any_answer_does(store, workspace, tmp_path):
    row = known_rows().to_dict("records")[0]
    at = row["event_timestamp"].isoformat()
    inputs = {"tank": row["tank"], "visits": row["visits"]}
    wrong = {**inputs, "visits": row["visits"] + 1}
    log = [
        record(0, ts=at, inputs=wrong, attempt=1),
        record(0, ts=at, inputs=inputs, attempt=2, status=206),
        record(1, ts=at, inputs=wrong, status=503),
    ]
    write_segment(tmp_path / "log", "1", log)
    predictions = compact_log(str(tmp_path / "log"), endpoint="tanks", workspace=workspace)
    report = compare_logged(store, predictions, features=["tanks:visits"])
    assert (report.verdict, report.n_rows, report.n_left_out) == ("same", 1, 2)


def test_what_cannot_be_compared_is_named(store, entities, workspace, tmp_path):
    with pytest.raises(ParameterError, match="exactly one"):
        compare_online(store, entities, at=END)
    with pytest.raises(ParameterError, match=r"at parameter.*soon"):
        compare_online(store, entities, at="soon", feature_service="service")
    with pytest.raises(DataError, match="nonsense"):
        compare_online(store, entities, at=END, feature_service="nonsense")
    with pytest.raises(DataError, match="nonsense"):
        compare_online(store, entities, at=END, features=["nonsense:level"])
    with pytest.raises(DataError, match="Feature nonsense does not exist"):
        compare_online(store, entities, at=END, features=["tanks:nonsense"])
    without = write_dataset(pd.DataFrame({"label": [1]}), "entities", workspace, "test")
    with pytest.raises(DataError, match="tank"):
        compare_online(store, without, at=END, feature_service="service")
    predictions = logged(workspace, tmp_path, lambda inputs: inputs.pop("visits"))
    with pytest.raises(DataError, match=r"no input of any.*visits"):
        compare_logged(store, predictions, features=["tanks:visits"])


def test_the_page_shows_examples_and_escapes_them(store, entities):
    with rows_of(store) as connection:
        connection.execute("DELETE FROM p_tanks WHERE feature_name = 'colour'")
    page = skew_page(compare_online(store, entities, at=END, feature_service="service"))
    assert "colour" in page
    assert "&#39;red&#39;" in page
    assert "skewed" in page
