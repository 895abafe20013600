"""Watchers of new data: nothing is lost or told twice, also over a restart of the triggerer."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import time

import pytest
import sqlalchemy as sa

from airflow_mlops_provider.hooks import sql
from airflow_mlops_provider.triggers import data
from airflow_mlops_provider.triggers.data import NewFilesEventTrigger, NewRowsEventTrigger


class Store:
    """What Airflow keeps with an asset."""

    def __init__(self):
        self.values = {}

    async def aget(self, key, default=None):
        return json.loads(self.values[key]) if key in self.values else default

    async def aset(self, key, value):
        self.values[key] = json.dumps(value)


@pytest.fixture
def store():
    return Store()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr(data, "_HAND_OVER_SECONDS", 0)


class Triggerer:
    """Runs a trigger as the triggerer does, and keeps the payloads of its events."""

    def __init__(self, trigger, store):
        self.trigger = type(trigger)(**trigger.serialize()[1])
        self.trigger.asset_state_store = store
        self.payloads = []

    async def __aenter__(self):
        self.running = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)

    async def _run(self):
        async for event in self.trigger.run():
            self.payloads.append(event.payload)

    async def looks(self, n):
        """Wait until it has looked ``n`` more times."""
        done = asyncio.Event()
        original, count = self.trigger._look, 0

        def look(seen):
            nonlocal count
            count += 1
            if count > n:
                loop.call_soon_threadsafe(done.set)
            return original(seen)

        loop = asyncio.get_running_loop()
        self.trigger._look = look
        await asyncio.wait_for(done.wait(), 10)
        self.trigger._look = original

    async def told(self, n):
        async with asyncio.timeout(10):
            while len(self.payloads) < n:
                await asyncio.sleep(0.005)
        return self.payloads


def land(path, age=60):
    path.touch()
    os.utime(path, (time.time() - age,) * 2)


@pytest.fixture
def files(tmp_path):
    return NewFilesEventTrigger(path=f"{tmp_path}/*.parquet", poke_interval=0.005)


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A table of flights in a database that Airflow has a Connection to."""
    database = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    database.execute('create table "the flights" (n integer, landed text)')
    engine = sa.create_engine(f"sqlite:///{tmp_path}/a.db", poolclass=sa.NullPool)
    monkeypatch.setattr(sql, "_engine", lambda conn_id: engine)
    yield lambda n: database.execute('insert into "the flights" values (?, ?)', (n, f"t{n}"))
    database.close()


@pytest.fixture
def rows(table):
    return NewRowsEventTrigger(
        conn_id="flights", table="the flights", column="n", poke_interval=0.005
    )


async def test_files_that_land_are_told_and_those_that_were_there_are_not(tmp_path, files, store):
    land(tmp_path / "a.parquet")
    async with Triggerer(files, store) as triggerer:
        await triggerer.looks(2)
        assert triggerer.payloads == []
        land(tmp_path / "b.parquet")
        (payload,) = await triggerer.told(1)
        await triggerer.looks(2)
    assert payload["files"] == [f"file://{tmp_path}/b.parquet"]
    assert len(triggerer.payloads) == 1


async def test_files_are_told_once_all_of_them_settled(tmp_path, files, store):
    async with Triggerer(files, store) as triggerer:
        await triggerer.looks(1)
        land(tmp_path / "a.parquet")
        land(tmp_path / "b.parquet", age=-3600)
        await triggerer.looks(2)
        assert [each["n_files"] for each in triggerer.payloads] in ([], [1])
        land(tmp_path / "b.parquet", age=30)
        async with asyncio.timeout(10):
            while sum(each["n_files"] for each in triggerer.payloads) < 2:
                await asyncio.sleep(0.005)


async def test_what_lands_while_the_triggerer_is_away_is_told_afterwards(tmp_path, files, store):
    async with Triggerer(files, store) as triggerer:
        await triggerer.looks(2)
    land(tmp_path / "a.parquet")
    async with Triggerer(files, store) as triggerer:
        (payload,) = await triggerer.told(1)
        await triggerer.looks(2)
    async with Triggerer(files, store) as again:
        await again.looks(2)
    assert payload["n_files"] == 1
    assert len(triggerer.payloads) == 1
    assert again.payloads == []


async def test_a_restart_before_the_event_was_written_down_tells_it_again_under_the_same_id(
    tmp_path, files, store, monkeypatch
):
    async with Triggerer(files, store) as triggerer:
        await triggerer.looks(2)
    land(tmp_path / "a.parquet")
    monkeypatch.setattr(data, "_HAND_OVER_SECONDS", 3600)
    async with Triggerer(files, store) as killed:
        (first,) = await killed.told(1)
    async with Triggerer(files, store) as restarted:
        (second,) = await restarted.told(1)
    assert first == second


async def test_rows_that_are_added_are_told_once(table, rows, store):
    table(1)
    async with Triggerer(rows, store) as triggerer:
        await triggerer.looks(2)
        assert triggerer.payloads == []
        table(2)
        (payload,) = await triggerer.told(1)
        await triggerer.looks(2)
    assert (payload["after"], payload["up_to"], payload["n_rows"]) == (1, 2, 1)
    table(3)
    table(4)
    async with Triggerer(rows, store) as restarted:
        (payload,) = await restarted.told(1)
        await restarted.looks(2)
    assert (payload["after"], payload["up_to"], payload["n_rows"]) == (2, 4, 2)
    assert len(restarted.payloads) == 1


async def test_the_first_rows_of_an_empty_table_are_told(table, rows, store):
    async with Triggerer(rows, store) as triggerer:
        await triggerer.looks(2)
        table(7)
        (payload,) = await triggerer.told(1)
    assert (payload["after"], payload["up_to"]) == (None, 7)


async def test_two_watchers_of_one_asset_do_not_share_their_memory(tmp_path, files, rows, store):
    for watcher in (files, rows):
        async with Triggerer(watcher, store) as triggerer:
            await triggerer.looks(2)
    assert len(store.values) == 2


async def test_a_source_that_fails_is_looked_at_again(store):
    rows = NewRowsEventTrigger(conn_id="nowhere", table="t", column="n", poke_interval=0.005)
    async with Triggerer(rows, store) as triggerer:
        await triggerer.looks(2)
        assert not triggerer.running.done()
    assert triggerer.payloads == []
    assert store.values == {}


@pytest.mark.parametrize(
    "trigger",
    [
        NewFilesEventTrigger(path="s3://b/p/*", settle_seconds=3, poke_interval=7),
        NewRowsEventTrigger(conn_id="c", table="t", column="n", schema="s", poke_interval=7),
    ],
    ids=lambda trigger: type(trigger).__name__,
)
def test_triggers_are_made_anew_from_what_airflow_keeps(trigger):
    path, arguments = trigger.serialize()
    again = type(trigger)(**arguments)
    assert path == f"{type(trigger).__module__}.{type(trigger).__qualname__}"
    assert again.serialize() == (path, arguments)
