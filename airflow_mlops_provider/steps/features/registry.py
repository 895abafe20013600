"""Feast's registry, shared by tasks that run at once and may be killed at any moment.

Feast reads the registry, changes what it read and writes all of it back, so writers that overlap
lose each other's commits; and its file is cut short while it is written. Here a writer holds
:func:`registry_lock` from reading to writing, and :class:`AtomicFileRegistryStore` puts a file
in place whole or not at all. Both locks are let go when the process that holds them dies.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from feast.errors import FeastError
from feast.feature_view import FeatureViewState
from feast.infra.registry.file import FileRegistryStore
from feast.infra.registry.registry import REGISTRY_SCHEMA_VERSION
from feast.protos.feast.core.Registry_pb2 import Registry as RegistryProto

from airflow_mlops_provider.exceptions import DataError, FeatureStoreUnavailableError
from airflow_mlops_provider.workspace import exists

if TYPE_CHECKING:
    from feast import FeatureStore, FeatureView

LOCK_SECONDS = 120.0
"""How long a writer waits for another; commits take milliseconds, an apply some seconds."""
_PATIENCE = 0.05
_held: set[tuple[str, int]] = set()
_log = logging.getLogger(__name__)


class AtomicFileRegistryStore(FileRegistryStore):
    """Feast's file registry, except that readers never see half of it.

    ``registry_store_type`` in ``feature_store.yaml`` names it; :class:`FeastHook` does so.
    """

    def get_registry_proto(self) -> RegistryProto:
        """Return what is stored; an empty registry where there is none.

        Feast would write that one at once, over what a rival may have committed meanwhile.
        """
        read: Callable[[], RegistryProto] = super().get_registry_proto
        try:
            return read()
        except FileNotFoundError:
            return RegistryProto(registry_schema_version=REGISTRY_SCHEMA_VERSION)

    def _write_registry(self, registry_proto: RegistryProto) -> None:
        target = self._filepath
        self._filepath = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            super()._write_registry(registry_proto)
            self._filepath.replace(target)
        finally:
            self._filepath.unlink(missing_ok=True)
            self._filepath = target


@contextmanager
def registry_lock(store: FeatureStore) -> Iterator[None]:
    """Keep other writers out and read the registry anew.

    A file registry and one in SQLite are locked by ``{registry}.lock``, one in PostgreSQL or MySQL
    by a lock of the server. Others (object stores, Snowflake, Feast's registry server) have no
    lock: a warning says so, and see :func:`require_interval`. A thread that has the lock gets it
    again, so that it can clean up when it is told to stop in between.

    Raises:
        FeatureStoreUnavailableError: a living process holds the lock for ``LOCK_SECONDS``.
    """
    name, lock = _lock_of(store)
    holder = name, threading.get_ident()
    if holder in _held:
        yield
        return
    with lock(name):
        _held.add(holder)
        try:
            store.registry.refresh(store.project)
            yield
        finally:
            _held.discard(holder)


@contextmanager
def serialised_commits(store: FeatureStore) -> Iterator[None]:
    """Within the block, let Feast's materialization lock the registry only while it commits.

    Feast announces a materialization by the state ``MATERIALIZING``, in which a view is not
    served. Nothing is wrong with what it serves, since rows are replaced one by one; so that
    commit is left out, and with it what a killed task would leave behind. An engine that takes
    several views at once reads the states, and has them.
    """
    registry: Any = store.registry  # whose methods are replaced for a while
    add_interval, set_state = registry.apply_materialization, registry.apply_feature_view

    def locked(commit: Callable[..., Any]) -> Callable[..., Any]:
        def committed(*arguments: Any, **options: Any) -> Any:
            with registry_lock(store):
                return commit(*arguments, **options)

        return committed

    def add_once(view: FeatureView, project: str, start: datetime, end: datetime) -> None:
        current = store.get_feature_view(view.name)
        known = (start, end) in current.materialization_intervals
        if not known or current.state != FeatureViewState.AVAILABLE_ONLINE:
            add_interval(view, project, start, end)

    engine = getattr(store.provider, "batch_engine", None)
    states_matter = getattr(engine, "supports_batch", False) is True
    registry.apply_materialization = locked(add_once)
    registry.apply_feature_view = locked(set_state) if states_matter else _ignore
    try:
        yield
    finally:
        del registry.apply_materialization, registry.apply_feature_view


def require_interval(store: FeatureStore, name: str, start: datetime, end: datetime) -> None:
    """Make sure that a commit is still there, where a registry has no lock.

    Raises:
        FeatureStoreUnavailableError: a rival wrote over it; another try commits it again.
    """
    store.registry.refresh(store.project)
    if (start, end) not in store.get_feature_view(name).materialization_intervals:
        registry = _without_password(str(store.config.registry.path))
        raise FeatureStoreUnavailableError(
            f"Expected the registry {registry} to hold the interval {start} to {end} of {name!r}, "
            "but another writer wrote over it. Try again; use a registry in PostgreSQL or MySQL "
            "where several tasks write."
        )


def heal(store: FeatureStore, names: Sequence[str]) -> list[str]:
    """Make views servable that a killed ``feast materialize`` left; return their names.

    Locks the registry only if there is something to heal.
    """
    store.registry.refresh(store.project)
    if not any(_stuck(store, name) for name in names):
        return []
    with registry_lock(store):
        healed = [name for name in names if _stuck(store, name)]
        for name in healed:
            view = store.get_feature_view(name)
            served = bool(view.materialization_intervals)
            state = FeatureViewState.AVAILABLE_ONLINE if served else FeatureViewState.GENERATED
            view.state = state  # Feast's own setter refuses to go from GENERATED to being served
            store.registry.apply_feature_view(view, store.project)
    return healed


def view_names(store: FeatureStore, asked: str | Sequence[str] | None) -> list[str]:
    """Return the views that were asked for; None means all that are served online.

    Raises:
        DataError: the registry has no such view, or it is not served online.
    """
    views = {view.name: view for view in store.list_batch_feature_views()}
    online = sorted(name for name, view in views.items() if view.online and view.enabled)
    names = [asked] if isinstance(asked, str) else list(asked or online)
    unknown = sorted(set(names) - set(online))
    if unknown:
        raise DataError(
            f"The feature store {store.project!r} has no feature views {unknown} to take online; "
            f"it has {online}. Apply the repository that defines them, with online=True."
        )
    return names


def require_sources(views: Sequence[FeatureView]) -> None:
    """Name the file that is missing, where each offline store would fail in its own way."""
    for view in views:
        path = getattr(view.batch_source, "path", None)
        if path and not exists(path):
            raise DataError(
                f"The feature view {view.name!r} reads {path}, which does not exist. Write it "
                "before its features are used."
            )


@contextmanager
def feast_errors(store: FeatureStore) -> Iterator[None]:
    """Word what is wrong with a definition or its source; anything else passes."""
    try:
        yield
    except FeastError as error:
        raise DataError(
            f"Feast cannot use the feature store {store.project!r}: {type(error).__name__}: "
            f"{error}. Correct the name, or apply the repository that defines it."
        ) from error


def _stuck(store: FeatureStore, name: str) -> bool:
    view = store.get_feature_view(name)
    unserved = view.state == FeatureViewState.GENERATED and view.materialization_intervals
    return view.state == FeatureViewState.MATERIALIZING or bool(unserved)


def _ignore(*_: Any, **__: Any) -> None:
    """Commit nothing."""


def _lock_of(store: FeatureStore) -> tuple[str, Callable[[str], Any]]:
    config = store.config.registry
    path = str(config.path)
    dialect = path.partition(":")[0].partition("+")[0]
    if config.registry_type == "sql" and dialect in _SERVER_LOCKS:
        return f"{path} {store.project}", lambda name: _server_lock(store, name)
    if config.registry_type == "sql" and path.startswith("sqlite"):
        path = path.partition(":///")[2]
    if config.registry_type not in ("file", "sql") or "://" in path:
        return path, _no_lock
    return str(Path(store.repo_path, path)), _file_lock


@contextmanager
def _no_lock(name: str) -> Iterator[None]:
    _warn_of(_without_password(name))
    yield


@cache
def _warn_of(name: str) -> None:
    """Say once that a registry has no lock."""
    _log.warning(
        "The registry %s cannot be locked: tasks that write it at once may lose each other's "
        "commits. Let one write at a time, by a pool with one slot, or keep the registry in "
        "PostgreSQL or MySQL.",
        name,
    )


@contextmanager
def _file_lock(name: str) -> Iterator[None]:
    path = Path(f"{name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        _wait_for(name, lambda: _try_flock(file.fileno()))
        yield


def _try_flock(number: int) -> bool:
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_POSTGRES = "SELECT pg_try_advisory_lock(:key)", "SELECT pg_advisory_unlock(:key)"
_MYSQL = "SELECT GET_LOCK(CONCAT('feast-', :key), 0)", "SELECT RELEASE_LOCK(CONCAT('feast-', :key))"
_SERVER_LOCKS = {"postgresql": _POSTGRES, "mysql": _MYSQL, "mariadb": _MYSQL}
"""How to try for a lock that ends with its connection, and how to let it go."""


@contextmanager
def _server_lock(store: FeatureStore, name: str) -> Iterator[None]:
    from sqlalchemy import text

    shown = _without_password(name)
    key = {"key": zlib.crc32(shown.encode())}
    registry: Any = store.registry
    attempt, release = map(text, _SERVER_LOCKS[registry.write_engine.dialect.name])
    with registry.write_engine.connect() as connection:
        _wait_for(shown, lambda: bool(connection.scalar(attempt, key)))
        try:
            yield
        finally:
            connection.execute(release, key)
            connection.commit()


def _without_password(url: str) -> str:
    return url.rpartition("@")[2]


def _wait_for(name: str, attempt: Callable[[], bool]) -> None:
    for count in range(max(1, round(LOCK_SECONDS / _PATIENCE))):
        if attempt():
            return
        if count == round(1 / _PATIENCE):
            _log.info("Waiting for another process that writes the registry %s", name)
        time.sleep(_PATIENCE)
    raise FeatureStoreUnavailableError(
        f"Another process has been writing the registry {name} for {LOCK_SECONDS:g} s. Try again, "
        "or look for a `feast` command or task that hangs."
    )
