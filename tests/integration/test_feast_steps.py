"""Plans, on-demand views, leakage, pushes and pins with Feast for real."""

from __future__ import annotations

import tracemalloc
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from mlflow import MlflowClient

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError
from airflow_mlops_provider.records import ModelVersionRef
from airflow_mlops_provider.steps.features.asked import asked_features
from airflow_mlops_provider.steps.features.freshness import newest_ends
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.features.leakage import require_known_then
from airflow_mlops_provider.steps.features.pin import (
    pin_feature_service,
    require_pinned_model,
    require_pinned_service,
)
from airflow_mlops_provider.steps.features.push import push_features
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.register import FEATURE_SERVICE_TAG, monitoring_tags
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from tests.feast_repos import (
    DEFINITIONS,
    SECOND_VIEW,
    START,
    observations,
    online_rows,
    open_store,
    redefine,
    served,
    take_online,
    write_repo,
)

ON_DEMAND = """
import pandas as pd
from feast import RequestSource
from feast.on_demand_feature_view import on_demand_feature_view

plan = RequestSource(name="plan", schema=[Field(name="offset", dtype=Float64)])

@on_demand_feature_view(sources=[weather, plan], schema=[Field(name="warmer", dtype=Float64)])
def warmer(inputs: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({{"warmer": inputs["temp"] + inputs["offset"]}})

derived = FeatureService(name="derived", features=[weather, warmer])
only_derived = FeatureService(name="only_derived", features=[warmer])
"""
PUSHED = DEFINITIONS.replace("import Entity", "import Entity, PushSource").replace(
    'schema=[Field(name="temp", dtype=Float64)], source=source',
    'schema=[Field(name="temp", dtype=Float64)],\n'
    '    source=PushSource(name="live", batch_source=source)',
)


@pytest.fixture
def make_repo(tmp_path, workspace, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')

    def made(definitions=DEFINITIONS, **options):
        repo = write_repo(tmp_path / "repo", definitions=definitions, **options)
        apply_features(open_store(repo), repo)
        return repo

    return made


def test_the_plan_says_what_would_be_destroyed_and_nothing_is(make_repo):
    repo = make_repo(DEFINITIONS + SECOND_VIEW)
    plans = []
    apply_features(open_store(repo), repo, show=plans.append)
    assert str(plans[0]) == "  no changes"
    changed = (
        DEFINITIONS.replace("ttl=timedelta(hours=6)", "ttl=timedelta(hours=7)")
        .replace("temp", "dewp")
        .replace("ValueType.STRING", "ValueType.INT64")
    )
    redefine(repo, changed)
    Path(repo, "weather.parquet").unlink()
    observations().rename(columns={"temp": "dewp"}).to_parquet(Path(repo, "weather.parquet"))
    with pytest.raises(DataError, match="Nothing was changed") as error:
        apply_features(open_store(repo), repo, show=plans.append)
    lines = str(plans[1]).splitlines()
    assert "! delete feature view climate" in lines
    assert "! remove temp of feature view weather" in lines
    assert "! remove weather:temp of feature service service" in lines
    assert "! change the type of origin of entity origin from STRING to INT64" in lines
    assert any(line.startswith("  update feature view weather: ") for line in lines)
    assert all(line[2:] in str(error.value) for line in lines if line.startswith("!"))
    store = open_store(repo)
    assert {view.name for view in store.list_batch_feature_views()} == {"climate", "weather"}
    assert store.get_feature_view("weather").ttl == timedelta(hours=6)


@pytest.mark.parametrize("removed", ["origin", "service"])
def test_removing_an_entity_or_service_destroys(make_repo, removed):
    extra = 'carrier = Entity(name="carrier", value_type=ValueType.STRING)\n'
    repo = make_repo(DEFINITIONS + extra)
    without = DEFINITIONS
    if removed == "service":
        without = DEFINITIONS.partition("service = ")[0] + extra
    redefine(repo, without)
    with pytest.raises(DataError, match=f"delete .*{'service' if removed == 'service' else 'car'}"):
        apply_features(open_store(repo), repo)


def test_what_only_adds_is_applied_and_keeps_intervals_and_rows(make_repo):
    repo = make_repo()
    take_online(open_store(repo), None, "2013-01-01", "2013-01-08")
    before = served(open_store(repo))
    redefine(repo, DEFINITIONS.replace("hours=6", "hours=7") + SECOND_VIEW)
    assert apply_features(open_store(repo), repo) == ["climate", "weather"]
    assert served(open_store(repo)) == before
    ends = newest_ends(open_store(repo), None)
    assert ends == {"climate": None, "weather": "2013-01-08T00:00:00+00:00"}


@pytest.fixture
def entities(workspace):
    times = START + pd.to_timedelta(np.arange(300) * 2, unit="h")
    frame = pd.DataFrame(
        {
            "origin": np.resize(["JFK", "EWR"], 300),
            "event_timestamp": times,
            "offset": np.arange(300.0),
        }
    )
    return write_dataset(frame, "entities", workspace, "test")


@pytest.mark.parametrize("offline", ["duckdb", "dask"])
def test_on_demand_views_are_the_same_offline_and_online(make_repo, entities, workspace, offline):
    repo = make_repo(DEFINITIONS + ON_DEMAND, offline=offline)
    store = open_store(repo)
    options = {"name": "joined", "workspace": workspace}
    found = read_dataset(historical_features(store, entities, **options, feature_service="derived"))
    assert 10 < found["temp"].notna().sum() < 300
    np.testing.assert_allclose(found["warmer"], found["temp"] + found["offset"])
    alone = historical_features(store, entities, **options, feature_service="only_derived")
    np.testing.assert_allclose(read_dataset(alone)["warmer"], found["warmer"])
    take_online(store, None, "2013-01-01", "2013-01-08")
    online = store.get_online_features(
        features=store.get_feature_service("derived"),
        entity_rows=[{"origin": "JFK", "offset": 3.0}],
    ).to_dict()
    assert online["warmer"][0] == pytest.approx(online["temp"][0] + 3)


def test_an_on_demand_view_asks_for_its_request(make_repo, entities, workspace):
    repo = make_repo(DEFINITIONS + ON_DEMAND)
    frame = read_dataset(entities).drop(columns="offset")
    without = write_dataset(frame, "without", workspace, "test")
    with pytest.raises(DataError, match=r"no column \['offset'\]"):
        historical_features(
            open_store(repo), without, name="j", workspace=workspace, feature_service="derived"
        )


@pytest.mark.parametrize("shift", [timedelta(hours=9), timedelta(hours=-9)])
def test_a_join_that_looks_elsewhere_than_at_its_time_is_caught(
    make_repo, entities, workspace, monkeypatch, shift
):
    store = open_store(make_repo())
    join = store.get_historical_features

    def shifted(entity_df, features):
        moved = entity_df.assign(event_timestamp=entity_df["event_timestamp"] + shift)
        return join(entity_df=moved, features=features)

    monkeypatch.setattr(store, "get_historical_features", shifted)
    options = {"name": "joined", "workspace": workspace, "feature_service": "service"}
    with pytest.raises(
        DataError, match=r"weather:temp of the row \(origin='\w+'\) at 2013-"
    ) as error:
        historical_features(store, entities, **options)
    assert ("newer than the row" in str(error.value)) == (shift > timedelta(0))
    assert not list(Path(workspace).glob("datasets/joined/*"))
    assert historical_features(store, entities, **options, check_rows=0).n_rows == 300


@pytest.mark.parametrize("offline", ["duckdb", "dask"])
@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
def test_the_check_knows_zones_and_the_edge_of_the_ttl(make_repo, workspace, offline, zone):
    rows = observations()
    known = rows["event_timestamp"]
    written = known.dt.tz_localize(None) if zone is None else known.dt.tz_convert(zone)
    repo = make_repo(rows=rows.assign(event_timestamp=written), offline=offline)
    frame = rows.assign(event_timestamp=known + timedelta(hours=6))[["origin", "event_timestamp"]]
    frame = pd.concat([frame, rows[["origin", "event_timestamp"]]])
    ref = write_dataset(frame, "edges", workspace, "test")
    options = {"name": "joined", "workspace": workspace, "feature_service": "service"}
    joined = historical_features(open_store(repo), ref, **options, check_rows=10**6)
    assert read_dataset(joined)["temp"].notna().all()


@pytest.mark.parametrize("n_entities", [2, 100_000])
def test_the_check_holds_no_more_of_the_source_than_its_sample(make_repo, workspace, n_entities):
    n_rows = 600_000
    rows = pd.DataFrame(
        {
            "origin": np.resize([f"airport {n}" for n in range(n_entities)], n_rows),
            "event_timestamp": START + pd.to_timedelta(np.arange(n_rows), unit="s"),
            "temp": np.arange(float(n_rows)),
        }
    )
    store = open_store(make_repo(rows=rows))
    asked = asked_features(store, "service", None)
    sample = pa.Table.from_pandas(rows.tail(1000))
    tracemalloc.start()
    require_known_then(store, asked.views, sample, n_rows=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000 < n_rows * 3 * 8


@pytest.fixture
def pushed(make_repo, workspace):
    repo = make_repo(PUSHED)
    new = pd.DataFrame(
        {
            "origin": ["JFK", "JFK", "EWR"],
            "event_timestamp": START + pd.to_timedelta([902, 901, 900], unit="h"),
            "temp": [1.0, 2.0, 3.0],
        }
    )
    return repo, write_dataset(new, "new", workspace, "test")


def test_a_push_done_twice_is_a_push_done_once(pushed):
    repo, rows = pushed
    source = Path(repo, "weather.parquet")
    before = len(pd.read_parquet(source))
    for _ in range(2):
        options = {"push_source": "live", "to": "online_and_offline"}
        assert push_features(open_store(repo), rows, **options) == 3
        assert served(open_store(repo)) == 1.0
        assert served(open_store(repo), "EWR") == 3.0
        assert len(online_rows(open_store(repo))) == 2
        assert len(pd.read_parquet(source)) == before + 3


@pytest.mark.parametrize("to", ["online", "offline"])
def test_a_push_goes_where_it_should(pushed, to):
    repo, rows = pushed
    source = Path(repo, "weather.parquet")
    before = len(pd.read_parquet(source))
    push_features(open_store(repo), rows, push_source="live", to=to)
    assert len(online_rows(open_store(repo))) == (2 if to == "online" else 0)
    assert len(pd.read_parquet(source)) == before + (3 if to == "offline" else 0)


def test_what_cannot_be_pushed_is_named(pushed, workspace):
    repo, rows = pushed
    store = open_store(repo)
    with pytest.raises(DataError, match="'nonsense'"):
        push_features(store, rows, push_source="nonsense")
    with pytest.raises(ParameterError, match="to parameter of push_features"):
        push_features(store, rows, push_source="live", to="nowhere")
    frame = read_dataset(rows)
    bare = write_dataset(frame.drop(columns="temp"), "bare", workspace, "test")
    with pytest.raises(DataError, match=r"no column \['temp'\].*'weather'"):
        push_features(store, bare, push_source="live")
    wide = write_dataset(frame.assign(more=1), "wide", workspace, "test")
    with pytest.raises(DataError, match="more"):
        push_features(store, wide, push_source="live", to="offline")


def test_a_version_knows_whether_its_features_are_still_those(make_repo):
    repo = make_repo(DEFINITIONS + ON_DEMAND)
    pin = pin_feature_service(open_store(repo), "derived")

    def version(pinned):
        return ModelVersionRef(
            name="m",
            version="3",
            model_uri="models:/m/3",
            model_id=None,
            run_id=None,
            aliases=[],
            tags=monitoring_tags(None, None, None, pinned),
        )

    assert require_pinned_service(open_store(repo), version(pin)) == "derived"
    assert require_pinned_service(open_store(repo), version(None)) is None
    redefine(repo, (DEFINITIONS + ON_DEMAND).replace("hours=6", "hours=7"))
    apply_features(open_store(repo), repo)
    assert require_pinned_service(open_store(repo), version(pin)) == "derived"
    for changed in (
        (DEFINITIONS + ON_DEMAND).replace('inputs["offset"]', '2 * inputs["offset"]'),
        (DEFINITIONS + ON_DEMAND).replace("[weather, warmer]", "[warmer]"),
        (DEFINITIONS + ON_DEMAND).replace(
            'schema=[Field(name="temp", dtype=Float64)]',
            'schema=[Field(name="temp", dtype=Float64), Field(name="temp2", dtype=Float64)]',
        ),
    ):
        redefine(repo, changed)
        apply_features(open_store(repo), repo, allow_destructive=True)
        with pytest.raises(ModelError, match=r"Version 3 of 'm' learned from .*derived@"):
            require_pinned_service(open_store(repo), version(pin))
    redefine(repo, DEFINITIONS)
    apply_features(open_store(repo), repo, allow_destructive=True)
    with pytest.raises(DataError, match="derived"):
        require_pinned_service(open_store(repo), version(pin))


def test_predicting_asks_the_registry_which_version_an_alias_names(make_repo, tmp_path):
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    client = MlflowClient(uri, uri)
    repo = make_repo()
    pin = pin_feature_service(open_store(repo), "service")
    client.create_registered_model("m")
    for tags in ({}, {FEATURE_SERVICE_TAG: pin}):
        version = client.create_model_version("m", source=str(tmp_path), tags=tags).version
        client.set_registered_model_alias("m", "champion", version)
    champion = "models:/m@champion"
    assert require_pinned_model(open_store(repo), client, champion) == "models:/m/2"
    assert require_pinned_model(open_store(repo), client, "runs:/1/model") == "runs:/1/model"
    redefine(repo, DEFINITIONS.replace("Float64", "Float32"))
    apply_features(open_store(repo), repo, allow_destructive=True)
    with pytest.raises(ModelError, match="Version 2 of 'm' learned from"):
        require_pinned_model(open_store(repo), client, champion)
    assert require_pinned_model(open_store(repo), client, "models:/m/1") == "models:/m/1"
    with pytest.raises(ModelError, match="models:/m/9"):
        require_pinned_model(open_store(repo), client, "models:/m/9")
