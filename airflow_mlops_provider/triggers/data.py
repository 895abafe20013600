"""Wait in the triggerer until files or rows have arrived, once or for as long as one watches."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

_STATE_KEY = "mlops_new_data"
_HAND_OVER_SECONDS = 3.0  # within one, the triggerer writes down the events it was given


class NewDataTrigger(BaseTrigger):
    """Fire with the list of files once they have arrived and settled.

    Args:
        path: Path, glob or fsspec URI.
        settle_seconds: How long the files must have been left alone.
        since: Leave out files last written to before this moment, ISO 8601.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self, path: str, settle_seconds: float, since: str | None, poke_interval: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.path = path
        self.settle_seconds = settle_seconds
        self.since = since
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments to build this trigger again."""
        return (
            "airflow_mlops_provider.triggers.data.NewDataTrigger",
            {
                "path": self.path,
                "settle_seconds": self.settle_seconds,
                "since": self.since,
                "poke_interval": self.poke_interval,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look until there is something to fire with."""
        while not (files := await asyncio.to_thread(self._look)):
            await asyncio.sleep(self.poke_interval)
        yield TriggerEvent(files)

    def _look(self) -> list[str]:
        return look(self.path, self.settle_seconds, self.since)


class _NewDataEvents(BaseEventTrigger):
    """Tell of new data for as long as somebody watches.

    What was seen is kept with the asset once the event is handed over: a restart of the triggerer
    loses nothing, and one within that moment tells twice, under the same ``id``.
    """

    poke_interval: float

    @property
    def watched(self) -> str:
        """What is watched; several triggers may watch for one asset."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event whenever something arrived."""
        seen = await self._remembered()
        while True:
            try:
                now, event = await asyncio.to_thread(self._look, seen)
            except Exception as error:  # noqa: BLE001 - nobody starts a watcher again that ended
                self.log.warning("Looking again in %s s: %s", self.poke_interval, error)
                now, event = seen, None
            if event is not None:
                yield TriggerEvent(event)
                await asyncio.sleep(_HAND_OVER_SECONDS)
            if now != seen:
                await self._remember(now)
                seen = now
            await asyncio.sleep(self.poke_interval)

    def _look(
        self, seen: dict[str, Any] | None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Return what is there now, and the event of what is new since ``seen``."""
        raise NotImplementedError

    @property
    def _state_key(self) -> str:
        return f"{_STATE_KEY}_{hashlib.sha256(self.watched.encode()).hexdigest()[:12]}"

    async def _remembered(self) -> dict[str, Any] | None:
        store = self.asset_state_store
        stored = await store.aget(self._state_key) if store else None
        return stored if isinstance(stored, dict) else None

    async def _remember(self, state: dict[str, Any] | None) -> None:
        if self.asset_state_store:
            await self.asset_state_store.aset(self._state_key, state)


class NewFilesEventTrigger(_NewDataEvents):
    """Turn files that arrive into events of an asset, for an ``AssetWatcher``.

    All files that arrived and settled between two looks are one event. Its payload has ``id`` (the
    same for the same files), ``n_files``, ``files`` (at most 20) and ``newest``. A file that is
    written again arrived again; what was there at the first look did not.

    Args:
        path: Path, glob or fsspec URI of the files: a folder or the prefix of a bucket.
        settle_seconds: How long the files must have been left alone.
        poke_interval: Seconds between two looks.
    """

    def __init__(self, *, path: str, settle_seconds: float = 10, poke_interval: float = 30) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.path = path
        self.settle_seconds = settle_seconds
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "path": self.path,
            "settle_seconds": self.settle_seconds,
            "poke_interval": self.poke_interval,
        }
        return "airflow_mlops_provider.triggers.data.NewFilesEventTrigger", arguments

    @property
    def watched(self) -> str:
        """The path."""
        return self.path

    def _look(
        self, seen: dict[str, Any] | None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        from airflow_mlops_provider.steps import arrivals

        modified = arrivals.modified_times(self.path)
        now = arrivals.SeenFiles.of(modified).to_json()
        if seen is None:
            return now, None
        fresh = arrivals.SeenFiles.from_json(seen).news(modified)
        files = arrivals.settled_files(
            {uri: modified[uri] for uri in fresh},
            datetime.now(UTC),
            settle_seconds=self.settle_seconds,
        )
        if fresh and not files:
            return seen, None  # they are still being written
        return now, arrivals.arrival(files, modified) if files else None


class NewRowsEventTrigger(_NewDataEvents):
    """Turn rows that are added to a table into events of an asset, for an ``AssetWatcher``.

    Rows are new whose ``column`` is above the highest value at the last look (a high-water mark),
    so it has to grow: an insertion time or a serial number. A row that is committed late with a
    lower value makes no event of its own. The payload has ``id``, ``table``, ``n_rows``, ``after``
    and ``up_to``. What was there at the first look is not new.

    Args:
        conn_id: Connection of the database.
        table: Name of the table.
        column: Column of numbers, times or texts that grows.
        schema: Of the table; None for the database's default.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        table: str,
        column: str,
        schema: str | None = None,
        poke_interval: float = 30,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.conn_id = conn_id
        self.table = table
        self.column = column
        self.schema = schema
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "conn_id": self.conn_id,
            "table": self.table,
            "column": self.column,
            "schema": self.schema,
            "poke_interval": self.poke_interval,
        }
        return "airflow_mlops_provider.triggers.data.NewRowsEventTrigger", arguments

    @property
    def watched(self) -> str:
        """Connection, schema, table and column."""
        return "\n".join([self.conn_id, self.schema or "", self.table, self.column])

    def _look(
        self, seen: dict[str, Any] | None
    ) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        from airflow_mlops_provider.hooks.sql import high_water_mark
        from airflow_mlops_provider.steps.high_water import Mark

        after = Mark.from_json(seen) if seen is not None else Mark()
        value, n_rows = high_water_mark(
            self.conn_id, self.table, self.column, schema=self.schema, after=after.value
        )
        if not n_rows:
            return after.to_json(), None
        now = Mark(value)
        return now.to_json(), None if seen is None else now.arrival(self.table, n_rows, after)


def look(path: str, settle_seconds: float, since: str | None) -> list[str]:
    """Look once for files that arrived; what the sensor and the trigger share."""
    from airflow_mlops_provider.steps.arrivals import modified_times, settled_files

    oldest = datetime.fromisoformat(since) if since else None
    return settled_files(
        modified_times(path),
        datetime.now(UTC),
        settle_seconds=settle_seconds,
        since=oldest.replace(tzinfo=oldest.tzinfo or UTC) if oldest else None,
    )
