"""What breaks a materialization in production, done to real processes, files and servers.

After each: no interval lost, what was served is served, and the next try completes.
"""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import hypothesis.strategies as st
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings

from airflow_mlops_provider.exceptions import (
    DataError,
    FeatureStoreUnavailableError,
    ParameterError,
    PermanentError,
)
from airflow_mlops_provider.steps.features import registry
from airflow_mlops_provider.steps.features.historical import historical_features
from airflow_mlops_provider.steps.features.registry import registry_lock
from airflow_mlops_provider.steps.features.repo import apply_features
from airflow_mlops_provider.steps.snapshot import write_dataset
from tests.feast_repos import (
    DEFINITIONS,
    NOW,
    SECOND_VIEW,
    START,
    in_process,
    intervals_of,
    observations,
    online_rows,
    open_store,
    redefine,
    served,
    take_online,
    write_repo,
)
from tests.servers import need, redis_server

ROW_BY_ROW = "materialization: {online_write_batch_size: 1}\n"


def day(n: int) -> datetime:
    return (START + pd.Timedelta(days=n)).to_pydatetime()


@pytest.fixture
def make_repo(tmp_path, workspace, monkeypatch):
    """Write and apply a repository."""
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')

    def made(name="repo", **options):
        repo = write_repo(tmp_path / name, **options)
        apply_features(open_store(repo), repo)
        return repo

    return made


@pytest.fixture
def repo(make_repo):
    return make_repo(config=ROW_BY_ROW)


WEEK_TWO = """
materialize(store, None, start + timedelta(days=7), start + timedelta(days=14), now=now)
"""
STAGES = {
    "before Feast is called": "from feast import FeatureStore as c\nc.materialize = die",
    "before a row is read": "type(store.provider.batch_engine).materialize = die",
    "while rows are written": (
        "from airflow_mlops_provider.steps.features.writers import SqliteWriter as c\n"
        "write = c._write\n"
        "def once(*a, **k):\n"
        "    c._write = die\n"
        "    return write(*a, **k)\n"
        "c._write = once"
    ),
    "between rows and registry": (
        "from feast.infra.registry.registry import Registry as c\nc.apply_materialization = die"
    ),
    "while the registry is written": "os.fsync = die",
    "before the registry is in place": "from pathlib import Path as c\nc.replace = die",
}


def newest(until: datetime, origin: str = "JFK") -> float:
    """Return what is to be served after a materialization up to ``until``."""
    rows = observations().query(f"origin == '{origin}'").set_index("event_timestamp")
    return rows["temp"][:until].iloc[-1]


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_at_any_stage_loses_nothing_and_stops_no_serving(repo, stage):
    take_online(open_store(repo), None, day(0), day(7))
    assert in_process(STAGES[stage] + WEEK_TWO, repo).wait(120) == -signal.SIGKILL
    assert intervals_of(repo) == [(day(0), day(7))]
    assert served(open_store(repo)) in (newest(day(7)), newest(day(14)))
    take_online(open_store(repo), None, day(7), day(14))
    assert intervals_of(repo) == [(day(0), day(7)), (day(7), day(14))]
    assert served(open_store(repo)) == newest(day(14))
    assert served(open_store(repo), "EWR") == newest(day(14), "EWR")


CHUNKED = """
def keep(done):
    print(done["until"]["weather"], flush=True)
    if "2013-01-05" in done["until"]["weather"]:
        die()

materialize(store, None, start, start + timedelta(days=9), now=now, chunk="P1D", keep=keep)
"""


def test_a_killed_window_goes_on_where_it_was(repo):
    process = in_process(CHUNKED, repo)
    output = process.communicate(timeout=120)[0]
    reached = [line for line in output.splitlines() if line.startswith("2013-")][-1]
    assert process.returncode == -signal.SIGKILL
    assert intervals_of(repo) == [(day(n), day(n + 1)) for n in range(4)]
    kept = []
    take_online(
        open_store(repo),
        None,
        day(0),
        day(9),
        chunk="P1D",
        done={
            "window": [moment.isoformat() for moment in (day(0), day(9), day(1))],
            "until": {"weather": reached},
        },
        keep=kept.append,
    )
    assert len(kept) == 5
    assert intervals_of(repo) == [(day(n), day(n + 1)) for n in range(9)]


THREE_DAYS = """
for n in range(int(sys.argv[2]), int(sys.argv[2]) + 3):
    begin = start + timedelta(days=n)
    materialize(store, sys.argv[3:], begin, begin + timedelta(days=1), now=now)
"""


def test_rivals_on_the_same_and_other_views_lose_no_interval_and_stop_no_serving(make_repo):
    repo = make_repo(definitions=DEFINITIONS + SECOND_VIEW)
    take_online(open_store(repo), None, day(-1), day(0))
    rivals = [
        in_process(THREE_DAYS, repo, "0", "weather"),
        in_process(THREE_DAYS, repo, "3", "weather", "climate"),
        in_process(THREE_DAYS, repo, "6", "climate", "weather"),
        in_process(THREE_DAYS, repo, "0", "climate"),
    ]
    reads = 0
    while any(rival.poll() is None for rival in rivals):
        served(open_store(repo))
        reads += 1
    assert [rival.wait() for rival in rivals] == [0] * 4
    assert reads > 10
    expected = [(day(n), day(n + 1)) for n in range(-1, 9)]
    assert intervals_of(repo, "weather") == intervals_of(repo, "climate") == expected


HOLD = """
from airflow_mlops_provider.steps.features.registry import registry_lock

with registry_lock(store):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_is_waited_for_and_let_go_by_a_dead_process(repo, monkeypatch, caplog):
    holder = in_process(HOLD, repo)
    while holder.stdout.readline().strip() != "held":
        assert holder.poll() is None
    monkeypatch.setattr(registry, "LOCK_SECONDS", 1.5)
    with caplog.at_level("INFO"), pytest.raises(FeatureStoreUnavailableError, match=r"1\.5 s"):
        take_online(open_store(repo), None, day(0), day(7))
    assert "Waiting for another process" in caplog.text
    holder.kill()
    holder.wait()
    take_online(open_store(repo), None, day(0), day(7))
    assert intervals_of(repo) == [(day(0), day(7))]


def test_threads_wait_for_each_other(repo):
    def commit(n):
        store = open_store(repo)
        view = store.get_feature_view("weather")
        with registry_lock(store):
            store.registry.apply_materialization(view, "p", day(n), day(n + 1))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(commit, range(30)))
    assert intervals_of(repo) == [(day(n), day(n + 1)) for n in range(30)]


def test_an_online_store_that_goes_down_costs_a_try_and_nothing_else(make_repo):
    need("redis", "pip install redis hiredis")
    repo = make_repo(config="")
    config = Path(repo, "feature_store.yaml")
    done: list[dict] = []
    with redis_server() as server:
        redis = f'{{type: redis, connection_string: "{server.address}"}}'
        config.write_text(config.read_text().replace("{type: sqlite}", redis))
        apply_features(open_store(repo), repo)

        def keep(progress):
            done.append(progress)
            if len(done) == 3:
                server.stop()

        with pytest.raises(Exception, match=r"(?i)connect") as error:
            take_online(open_store(repo), None, day(0), day(9), chunk="P1D", keep=keep)
        assert not isinstance(error.value, PermanentError)
        assert intervals_of(repo) == [(day(n), day(n + 1)) for n in range(3)]
        server.start()
        take_online(open_store(repo), None, day(0), day(9), chunk="P1D", done=done[-1])
        assert intervals_of(repo) == [(day(n), day(n + 1)) for n in range(9)]
        assert served(open_store(repo)) == newest(day(9))


def test_the_future_is_refused_and_records_nothing(repo):
    store = open_store(repo)
    with pytest.raises(ParameterError, match="in the past"):
        take_online(store, None, day(0), day(7), now=day(6))
    take_online(store, None, day(0), day(7), now=day(7) - timedelta(seconds=30))
    assert intervals_of(repo) == [(day(0), day(7))]


def test_a_window_without_rows_is_recorded_and_changes_no_row(repo):
    store = open_store(repo)
    take_online(store, None, day(0), day(7))
    before = online_rows(store)
    take_online(store, None, day(100), day(101))
    assert online_rows(store) == before
    assert intervals_of(repo)[-1] == (day(100), day(101))


def test_naive_and_mixed_zones_mean_the_same_moment(repo):
    store = open_store(repo)
    take_online(store, None, "2013-01-02", "2013-01-03")
    before = online_rows(store)
    take_online(
        store,
        None,
        "2013-01-02T05:30:00+05:30",
        datetime(2013, 1, 2, 19, tzinfo=ZoneInfo("America/New_York")),
    )
    take_online(store, None, pd.Timestamp("2013-01-01T19:00", tz="America/New_York"), day(2))
    assert online_rows(store) == before
    assert intervals_of(repo) == [(day(1), day(2))]


def test_an_overlap_brings_rows_that_came_late(make_repo):
    rows = observations()
    late = rows["event_timestamp"].between(START + pd.Timedelta(days=6), day(7))
    repo = make_repo(rows=rows[~late])
    store = open_store(repo)
    take_online(store, None, day(0), day(7))
    without = served(store)
    rows.to_parquet(Path(repo, "weather.parquet"), coerce_timestamps="us")
    nothing_new = rows["event_timestamp"].between(day(7), day(7) + timedelta(minutes=30))
    assert not nothing_new.any()
    take_online(store, None, day(7), day(7) + timedelta(minutes=30), overlap="P2D")
    assert served(store) == newest(day(7)) != without
    assert intervals_of(repo)[-1] == (day(5), day(7) + timedelta(minutes=30))


def test_an_entity_twice_at_one_moment_is_served_and_joined_the_same_way(make_repo, workspace):
    rows = observations()
    twice = rows.assign(temp=rows["temp"] + 100)
    repo = make_repo(rows=pd.concat([rows, twice]))
    store = open_store(repo)
    take_online(store, None, day(0), day(7))
    first = online_rows(store)
    assert len(first) == 2
    take_online(store, None, day(0), day(7))
    assert online_rows(store) == first
    frame = pd.DataFrame({"origin": ["JFK"], "event_timestamp": [day(7)]})
    ref = write_dataset(frame, "entities", workspace, "test")
    joined = historical_features(
        store, ref, name="joined", workspace=workspace, feature_service="service"
    )
    assert joined.n_rows == 1


def test_a_changed_type_is_refused_until_it_is_allowed(repo):
    take_online(open_store(repo), None, day(0), day(7))
    before = served(open_store(repo))
    redefine(repo, DEFINITIONS.replace("Float64", "String"))
    with pytest.raises(DataError, match="type of temp of feature view weather"):
        apply_features(open_store(repo), repo)
    assert served(open_store(repo)) == before
    apply_features(open_store(repo), repo, allow_destructive=True)
    assert intervals_of(repo) == [(day(0), day(7))]
    redefine(repo, DEFINITIONS)
    apply_features(open_store(repo), repo, allow_destructive=True)
    take_online(open_store(repo), None, day(7), day(14))
    assert intervals_of(repo) == [(day(0), day(7)), (day(7), day(14))]


def test_a_source_of_other_types_than_declared_is_named(repo):
    take_online(open_store(repo), None, day(0), day(7))
    source = Path(repo, "weather.parquet")
    observations().assign(temp="warm").to_parquet(source, coerce_timestamps="us")
    with pytest.raises(DataError, match=r"'weather'.*Correct"):
        take_online(open_store(repo), None, day(7), day(14))
    assert intervals_of(repo) == [(day(0), day(7))]
    assert served(open_store(repo)) == newest(day(7))


def test_a_missing_source_loses_nothing(repo):
    take_online(open_store(repo), None, day(0), day(7))
    source = Path(repo, "weather.parquet")
    kept = source.read_bytes()
    source.unlink()
    with pytest.raises(DataError, match=r"weather\.parquet, which does not exist"):
        take_online(open_store(repo), None, day(7), day(14))
    assert served(open_store(repo)) is not None
    assert intervals_of(repo) == [(day(0), day(7))]
    source.write_bytes(kept)
    take_online(open_store(repo), None, day(7), day(14))
    assert intervals_of(repo) == [(day(0), day(7)), (day(7), day(14))]


MONTHS = [pd.Timestamp(2013, month, 1, tzinfo=UTC).to_pydatetime() for month in range(1, 13)]


@pytest.mark.slow
@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.permutations(range(12)))
def test_twelve_months_in_any_order_are_one_straight_year(
    tmp_path_factory, workspace, monkeypatch, order
):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    windows = list(zip(MONTHS, [*MONTHS[1:], NOW], strict=True))
    repos = []
    for name in ("straight", "backfilled"):
        folder = tmp_path_factory.mktemp("year") / name
        store = f"online_store: {{type: sqlite, path: {folder}.online}}\nregistry: {folder}.r\n"
        repo = write_repo(folder, rows=observations(365, 600))
        config = Path(repo, "feature_store.yaml")
        config.write_text(config.read_text().replace("online_store: {type: sqlite}\n", store))
        apply_features(open_store(repo), repo)
        repos.append(repo)
    straight, backfilled = (open_store(repo) for repo in repos)
    take_online(straight, None, MONTHS[0], NOW)
    for month in order:
        take_online(backfilled, None, *windows[month])
    assert intervals_of(repos[1]) == windows
    assert online_rows(backfilled) == online_rows(straight)
