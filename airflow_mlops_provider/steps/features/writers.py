"""Fast ways into Feast's online stores: the same rows as Feast writes, many at a time.

A row that is older than what the store has is left out. Feast's Redis store does so too; its SQLite
store and most others keep whatever came last, so that a backfill would serve old values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

from feast.infra.online_stores.helpers import _mmh3, compute_table_id, compute_versioned_name
from feast.infra.online_stores.sqlite import SqliteOnlineStore
from feast.utils import _convert_arrow_to_proto, make_tzaware
from google.protobuf.timestamp_pb2 import Timestamp

from airflow_mlops_provider.steps.features.encoding import (
    KEY,
    KEY_VERSION,
    Rows,
    encode_rows,
    keyed,
)

if TYPE_CHECKING:
    import pyarrow as pa
    from feast import FeatureView, RepoConfig
    from feast.infra.online_stores.online_store import OnlineStore


_EPOCH = datetime(1970, 1, 1)


class Writer(Protocol):
    """Writes the rows of one feature view."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write a batch with the newest row of each of its entities."""


def writer_for(store: OnlineStore, config: RepoConfig, view: FeatureView) -> Writer:
    """Return the fastest writer that knows the store and all columns of the view."""
    vectors = any(feature.vector_index for feature in view.features)
    if vectors or config.entity_key_serialization_version != KEY_VERSION:
        return FeastWriter(store, config, view)
    if type(store) is SqliteOnlineStore and not _has_extra_columns(config.online_store):
        return SqliteWriter(store, config, view)
    if config.online_store.type == "redis" and config.online_store.redis_type != "redis_cluster":
        return RedisWriter(store, config, view)
    return FeastWriter(store, config, view)


VALUES_AT_ONCE = 100_000
"""Feature values that are encoded together; as Python objects they take some 150 bytes each."""


def _size(config: RepoConfig, view: FeatureView) -> int:
    asked: int | None = config.materialization_config.online_write_batch_size
    return asked or max(1, VALUES_AT_ONCE // max(1, len(view.features)))


def _parts(batch: pa.RecordBatch, size: int) -> Iterator[pa.RecordBatch]:
    return (batch.slice(start, size) for start in range(0, batch.num_rows, size))


def _has_extra_columns(options: Any) -> bool:
    return bool(options.vector_enabled or options.enable_openai_compatible_store)


class GuardedStore:
    """Any online store, except that no row replaces a newer one."""

    ENTITIES_AT_ONCE = 10_000
    """To read; each is a parameter of the query in SQLite, which takes some 30,000."""

    def __init__(self, store: OnlineStore) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def online_write_batch(self, config: RepoConfig, table: Any, data: Any, progress: Any) -> None:
        """Write what is not older than the store's rows, the newest of an entity last."""
        features = [feature.name for feature in table.features]
        for rows in _chunks(sorted(data, key=_time), self.ENTITIES_AT_ONCE):
            # Feast's Postgres store cannot read without being told the features
            stored = self._store.online_read(config, table, [key for key, *_ in rows], features)
            newer = [
                row
                for row, (time, _) in zip(rows, stored, strict=True)
                if time is None or _time(row) >= make_tzaware(time)
            ]
            if newer:
                self._store.online_write_batch(config, table, newer, progress)


def _time(row: tuple[Any, Any, datetime, Any]) -> datetime:
    return make_tzaware(row[2])


class FeastWriter:
    """Any online store, through its own ``online_write_batch``."""

    def __init__(self, store: OnlineStore, config: RepoConfig, view: FeatureView) -> None:
        self.store, self.config, self.view = GuardedStore(store), config, view
        self.size = _size(config, view)
        self.join_keys = {
            column.name: column.dtype.to_value_type() for column in view.entity_columns
        }

    def write(self, batch: pa.RecordBatch) -> None:
        """Write what is not older than the store's rows."""
        for part in _parts(batch, self.size):
            rows = _convert_arrow_to_proto(part, self.view, self.join_keys)
            self.store.online_write_batch(self.config, self.view, rows, progress=None)


class SqliteWriter:
    """Feast's SQLite store: one upsert for all features of an entity.

    Bytes are given as ``bytearray``, since ``sqlite3`` seeks an adapter for each ``bytes``.
    The store keeps whole seconds, so of two rows within one second the one written last stays.
    """

    FEATURES_AT_ONCE = 100
    """Of one statement; SQLite may take no more than 999 parameters."""

    def __init__(self, store: SqliteOnlineStore, config: RepoConfig, view: FeatureView) -> None:
        self.connection = store._get_conn(config)
        versioned = config.registry.enable_online_feature_view_versioning
        self.table = '"{}"'.format(
            compute_table_id(config.project, view, versioned).replace('"', '""')
        )
        self.view, self.size = view, _size(config, view)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write in the order of the keys, as the table's indexes are laid out."""
        for part in _parts(keyed(self.view, batch).sort_by(KEY), self.size):
            self._write(encode_rows(self.view, part, with_texts=True))

    def _write(self, rows: Rows) -> None:
        keys = list(map(bytearray, rows.keys))
        times, created = _epochs(rows.times), _epochs(rows.created)
        with self.connection:
            for names in _chunks(list(rows.features), self.FEATURES_AT_ONCE):
                columns = [
                    column
                    for encoded in map(rows.features.__getitem__, names)
                    for column in (map(bytearray, encoded.values), encoded.texts)
                ]
                parameters = zip(keys, times, created, *columns, strict=True)
                self.connection.executemany(self._upsert(names), parameters)

    def _upsert(self, names: Sequence[str]) -> str:
        rows = ", ".join(
            f"(?1, '{name.replace(chr(39), chr(39) * 2)}', ?{4 + 2 * at}, ?{5 + 2 * at}, ?2, ?3)"
            for at, name in enumerate(names)
        )
        return (
            f"INSERT INTO {self.table} "  # noqa: S608 - quoted names of the registry, no data
            f"(entity_key, feature_name, value, value_text, event_ts, created_ts) VALUES {rows} "
            "ON CONFLICT (entity_key, feature_name) DO UPDATE SET value = excluded.value, "
            "value_text = excluded.value_text, "
            "event_ts = excluded.event_ts, created_ts = excluded.created_ts "
            "WHERE excluded.event_ts >= event_ts"
        )


class RedisWriter:
    """Feast's Redis store: the commands of many entities are sent as one message.

    While Redis works on one part of a batch, the next one is encoded. As with Feast, a row of the
    same instant as the stored one is left out too, unless the store is configured with
    ``skip_dedup``.
    """

    def __init__(self, store: Any, config: RepoConfig, view: FeatureView) -> None:
        self.pool = store._get_client(config.online_store).connection_pool
        self.ttl = config.online_store.key_ttl_seconds or 0
        self.compares = not config.online_store.skip_dedup
        self.project = config.project.encode()
        name = compute_versioned_name(view, config.registry.enable_online_feature_view_versioning)
        self.time_field = _bulk(f"_ts:{name}".encode())
        self.fields = [_bulk(_mmh3(f"{name}:{feature.name}")) for feature in view.features]
        self.view, self.size = view, _size(config, view)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write what is newer than the store's rows."""
        connection = self.pool.get_connection()
        try:
            written = 0
            for part in _parts(keyed(self.view, batch), self.size):
                written = self._write(connection, part, written)
            _replies(connection, written)
        except BaseException:
            connection.disconnect()  # replies may be on their way that nobody would read
            raise
        finally:
            self.pool.release(connection)

    def _write(self, connection: Any, part: pa.RecordBatch, before: int) -> int:
        """Send what writes a part, once the replies to the part before are read.

        Returns:
            The number of replies to expect.
        """
        keys = [_bulk(key + self.project) for key in part.column(KEY).to_pylist()]
        if self.compares:
            head = b"*3\r\n" + _bulk(b"HGET")
            _send(connection, [head + key + self.time_field for key in keys])
        rows = encode_rows(self.view, part, with_texts=False)
        times = [_timestamp(moment) for moment in rows.times]
        values = map(_framed, self.fields, (each.values for each in rows.features.values()))
        features = zip(*values, strict=True)
        _replies(connection, before)
        newer = self._newer(connection, times)
        head = b"*%d\r\n" % (4 + 2 * len(self.fields)) + _bulk(b"HSET")
        expire = b"*3\r\n" + _bulk(b"EXPIRE"), _bulk(b"%d" % self.ttl)
        commands = []
        for key, time, row, is_newer in zip(keys, times, features, newer, strict=True):
            if is_newer:
                stamp = self.time_field + _bulk(time.SerializeToString())
                commands.append(b"".join((head, key, stamp, *row)))
                if self.ttl:
                    commands.append(expire[0] + key + expire[1])
        _send(connection, commands)
        return len(commands)

    def _newer(self, connection: Any, times: list[Timestamp]) -> list[bool]:
        if not self.compares:
            return [True] * len(times)
        return [
            not last or _instant(time) > _instant(Timestamp.FromString(last))
            for time, last in zip(times, _replies(connection, len(times)), strict=True)
        ]


def _chunks(items: Sequence[Any], size: int) -> Iterator[Any]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _epochs(moments: Sequence[datetime | None]) -> list[int | None]:
    """Return the seconds that Feast's own adapter of ``sqlite3`` makes of naive times."""
    return [None if moment is None else int(moment.timestamp()) for moment in moments]


def _timestamp(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    seconds = since.days * 86_400 + since.seconds
    return Timestamp(seconds=seconds, nanos=since.microseconds * 1_000)


def _instant(stamp: Timestamp) -> tuple[int, int]:
    return stamp.seconds, stamp.nanos


def _bulk(data: bytes) -> bytes:
    """Return a string as Redis' protocol frames it."""
    return b"$%d\r\n%s\r\n" % (len(data), data)


def _framed(field: bytes, values: list[bytes]) -> list[bytes]:
    """Return the values of a field as Redis' protocol frames them, each behind the field."""
    heads = {size: field + b"$%d\r\n" % size for size in set(map(len, values))}
    return [heads[len(value)] + value + b"\r\n" for value in values]


def _send(connection: Any, commands: list[bytes]) -> None:
    if commands:
        connection.send_packed_command([b"".join(commands)])


def _replies(connection: Any, n: int) -> list[Any]:
    return [connection.read_response() for _ in range(n)]
