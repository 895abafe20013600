"""Writers of a registry: Feast itself loses intervals of one view in SQL, too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from airflow_mlops_provider.exceptions import FeatureStoreUnavailableError
from airflow_mlops_provider.steps.features import registry
from airflow_mlops_provider.steps.features.repo import apply_features
from tests.feast_repos import (
    START,
    in_process,
    intervals_of,
    open_store,
    served,
    take_online,
    write_repo,
)

COMMITS = """
from airflow_mlops_provider.steps.features.registry import registry_lock

view = store.get_feature_view("weather")
for n in range(int(sys.argv[2]), int(sys.argv[2]) + 10):
    with registry_lock(store):
        store.registry.apply_materialization(
            view, "p", start + timedelta(days=n), start + timedelta(days=n + 1)
        )
"""


@pytest.fixture(params=["postgres", "sqlite"])
def repo(request, tmp_path, workspace, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_FEAST_DEFAULT", '{"conn_type": "feast"}')
    if request.param == "file":
        repo = write_repo(tmp_path / "repo")
        apply_features(open_store(repo), repo)
        return repo
    url = f"sqlite:///{tmp_path}/registry.sqlite"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").replace("://", "+psycopg2://")
    store = f"\nonline_store: {{type: sqlite, path: {tmp_path}/online.db}}\n"
    registry = f"registry: {{registry_type: sql, path: '{url}', cache_ttl_seconds: 0}}\n"
    repo = write_repo(tmp_path / "repo", config=registry)
    config = Path(repo, "feature_store.yaml")
    config.write_text(config.read_text().replace("\nonline_store: {type: sqlite}\n", store))
    apply_features(open_store(repo), repo)
    return repo


def test_rivals_on_one_view_lose_no_interval(repo):
    rivals = [in_process(COMMITS, repo, str(10 * n)) for n in range(3)]
    assert [rival.wait(180) for rival in rivals] == [0, 0, 0]
    assert len(intervals_of(repo)) == 30


def test_the_lock_keeps_others_out_and_dies_with_its_holder(repo, monkeypatch):
    monkeypatch.setattr(registry, "LOCK_SECONDS", 0.5)
    holder = in_process(
        "from airflow_mlops_provider.steps.features.registry import registry_lock\n"
        "with registry_lock(store):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)",
        repo,
    )
    while holder.stdout.readline().strip() != "held":
        assert holder.poll() is None
    with (
        pytest.raises(FeatureStoreUnavailableError),
        registry.registry_lock(open_store(repo)),
    ):
        pass
    holder.kill()
    holder.wait()
    monkeypatch.setattr(registry, "LOCK_SECONDS", 10)
    with registry.registry_lock(open_store(repo)):
        pass


@pytest.mark.parametrize("repo", ["sqlite", "file"], indirect=True)
@pytest.mark.parametrize("shared", [False, True], ids=["a store each", "one store"])
def test_threads_that_materialize_at_once_take_turns(repo, shared):
    days = [(START + timedelta(days=n)).to_pydatetime() for n in range(13)]
    store = open_store(repo)

    def take(n):
        return take_online(store if shared else open_store(repo), None, days[n], days[n + 1])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(take, [5, 11, 2, 8, 0, 3, 10, 1, 7, 4, 9, 6]))
    assert intervals_of(repo) == [(days[n], days[n + 1]) for n in range(12)]
    in_any_order = served(open_store(repo))
    take_online(open_store(repo), None, days[0], days[12])
    assert served(open_store(repo)) == in_any_order


@pytest.mark.parametrize("path", ["s3://bucket/registry.db", "gs://bucket/registry.db"])
def test_a_registry_that_cannot_be_locked_is_told_once(path, caplog):
    registry._warn_of.cache_clear()
    store = SimpleNamespace(
        config=SimpleNamespace(registry=SimpleNamespace(path=path, registry_type="file")),
        registry=SimpleNamespace(refresh=lambda project: None),
        project="p",
    )
    for _ in range(2):
        with registry.registry_lock(store):
            pass
    assert caplog.text.count("cannot be locked") == 1
    assert path in caplog.text


def test_mysql_is_asked_for_a_lock_of_the_connection_until_it_gives_it():
    asked, answers = [], iter([0, 0, 1])

    class Connection:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            asked.append("closed")

        def scalar(self, statement, key):
            asked.append(str(statement).partition("(")[0])
            return next(answers)

        def execute(self, statement, key):
            asked.append(str(statement).partition("(")[0])

        def commit(self):
            pass

    engine = SimpleNamespace(dialect=SimpleNamespace(name="mysql"), connect=Connection)
    path = "mysql+pymysql://feast:secret@db/feast"
    store = SimpleNamespace(
        config=SimpleNamespace(registry=SimpleNamespace(path=path, registry_type="sql")),
        registry=SimpleNamespace(refresh=lambda project: None, write_engine=engine),
        project="p",
    )
    with registry.registry_lock(store):
        asked.append("written")
    attempt, release = "SELECT GET_LOCK", "SELECT RELEASE_LOCK"
    assert asked == [attempt, attempt, attempt, "written", release, "closed"]
