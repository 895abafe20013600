"""The prediction log: one JSON line per predicted row, written before the reply leaves.

A segment is named ``{deployment}-{pid}-{seq}.open`` while its scorer writes it and ``.jsonl``
once it is closed and will never change again. Lines go straight to the kernel, so a killed
scorer loses nothing it answered; a group fsync follows within 100 requests or 50 ms, and
``durability="power"`` lets the reply wait for it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from airflow_mlops_provider.serving.json_text import encode

Durability = Literal["process", "power"]

_MAX_RECORDS = 10_000
_MAX_BYTES = 64 << 20
_MAX_AGE_SECONDS = 60.0
_GROUP_WRITES = 100
_GROUP_SECONDS = 0.05
_IDLE_SECONDS = 1.0

log = logging.getLogger(__name__)


class PredictionLog:
    """Appends records to segments in ``folder``; safe to use from several threads.

    Args:
        folder: Where the segments of an endpoint lie; created if missing.
        deployment: Deployment that writes; first part of each segment's name.
        durability: ``process`` survives a killed process, ``power`` also a power cut, once
            what :meth:`durable` gives is done.
        max_records: Records after which a segment is closed.
        max_age: Seconds after which a segment is closed.
    """

    def __init__(
        self,
        folder: Path,
        deployment: str,
        *,
        durability: Durability = "process",
        max_records: int = _MAX_RECORDS,
        max_age: float = _MAX_AGE_SECONDS,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.deployment = deployment
        self.durability = durability
        self._max_records, self._max_age = max_records, max_age
        # Counting from the clock keeps names unique when a pid comes round again.
        self._seq = int(time.time())
        self._fd: int | None = None
        self._path = folder
        self._size = self._records = 0
        self._opened = 0.0
        self._written = self._synced = self._unsynced_writes = 0
        self._waiting: list[tuple[int, Future[None]]] = []
        # nobody waits for the fsync unless it is to survive a power cut: then at once, in groups
        # of what came during the one before
        self._group_seconds = 0.0 if durability == "power" else _GROUP_SECONDS
        self._closed = False
        self._changed = threading.Condition()
        self._flusher = threading.Thread(target=self._flush, name="prediction-log", daemon=True)
        self._flusher.start()

    def append(self, records: Sequence[Mapping[str, Any]]) -> int:
        """Write ``records`` as :meth:`write` does."""
        return self.write([encode(record) for record in records])

    def write(self, lines: Sequence[bytes]) -> int:
        """Write JSON objects, all or none, and return the ticket :meth:`durable` takes.

        Raises:
            OSError: the disk refused; nothing of ``lines`` stays in the segment.
        """
        data = b"".join(line + b"\n" for line in lines)
        with self._changed:
            if not lines:
                return self._written
            self._write(self._open_segment(), data)
            self._size += len(data)
            self._records += len(lines)
            self._written += len(lines)
            self._unsynced_writes += 1
            if self._records >= self._max_records or self._size >= _MAX_BYTES:
                self._close_segment()
            elif self._unsynced_writes in (1, _GROUP_WRITES):  # begin to wait, or end it
                self._changed.notify_all()
            return self._written

    def durable(self, ticket: int) -> Future[None]:
        """Return what is done once the records up to ``ticket`` are on the disk.

        It fails with an OSError if the disk refuses them; who waits for it sets the time-out.
        """
        future: Future[None] = Future()
        with self._changed:
            if self._synced >= ticket:
                future.set_result(None)
            else:
                self._waiting.append((ticket, future))
        return future

    def rotate(self) -> None:
        """Close the open segment; the next record opens another."""
        with self._changed:
            self._close_segment()

    def close(self) -> None:
        """Close the open segment and stop; a closed log refuses records."""
        try:
            self.rotate()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            self._flusher.join()

    def _open_segment(self) -> int:
        if self._closed:
            raise OSError("The prediction log is closed.")
        while self._fd is None:
            self._seq += 1
            name = f"{self.deployment}-{os.getpid()}-{self._seq:06d}"
            self._path = self.folder / f"{name}.open"
            if self._path.with_suffix(".jsonl").exists():
                continue
            try:
                self._fd = os.open(
                    self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o640
                )
            except FileExistsError:
                continue
            self._size = self._records = 0
            self._opened = time.monotonic()
        return self._fd

    def _write(self, fd: int, data: bytes) -> None:
        try:
            _write_all(fd, data)
        except OSError:
            try:
                os.ftruncate(fd, self._size)
            except OSError:  # then nothing may follow the torn line
                self._close_segment()
            raise

    def _close_segment(self) -> None:
        """Close the open segment; it is closed also if the disk refuses its last records."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        self._unsynced_writes = 0
        try:
            os.fsync(fd)
        except OSError as error:
            self._settle(self._written, error)
            raise
        else:
            self._settle(self._written)
        finally:
            os.close(fd)
            self._path.rename(self._path.with_suffix(".jsonl"))

    def _settle(self, ticket: int, error: OSError | None = None) -> None:
        """Tell those who wait for records up to ``ticket``; the caller holds the lock."""
        self._synced = max(self._synced, ticket)
        told = [future for each, future in self._waiting if each <= ticket]
        self._waiting = [waiting for waiting in self._waiting if waiting[0] > ticket]
        for future in told:
            with suppress(InvalidStateError):  # who waited for it gave up
                future.set_exception(error) if error else future.set_result(None)

    def _flush(self) -> None:
        while not self._closed:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._closed or self._written > self._synced, _IDLE_SECONDS
                )
                if self._written > self._synced:
                    self._changed.wait_for(
                        lambda: self._closed or self._unsynced_writes >= _GROUP_WRITES,
                        self._group_seconds,
                    )
            try:
                self._sync()
                self._close_if_old()
            except OSError:
                log.exception("The prediction log under %s cannot reach the disk", self.folder)

    def _sync(self) -> None:
        """Fsync outside the lock, so that no prediction waits for a slow disk."""
        with self._changed:
            if self._fd is None or self._synced == self._written:
                return
            fd, ticket = os.dup(self._fd), self._written
            self._unsynced_writes = 0
        refused: OSError | None = None
        try:
            os.fsync(fd)
        except OSError as error:
            refused = error
            log.exception("The prediction log under %s cannot reach the disk", self.folder)
        finally:
            os.close(fd)
        with self._changed:
            self._settle(ticket, refused)

    def _close_if_old(self) -> None:
        with self._changed:
            if self._fd is not None and time.monotonic() - self._opened >= self._max_age:
                self._close_segment()


def read_segments(folder: Path) -> Iterator[dict[str, Any]]:
    """Give the records of all closed segments in ``folder``, segment by segment.

    A last line without its newline was cut off by a power failure and is left out.
    """
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield json.loads(line)


def close_orphans(folder: Path, live_pids: Collection[int]) -> list[Path]:
    """Close the segments whose scorer is gone.

    Args:
        folder: Segments of one endpoint.
        live_pids: Scorers that still run; their open segments are left alone.

    Returns:
        The segments that were closed, under their new names.
    """
    return [
        path.rename(path.with_suffix(".jsonl"))
        for path in sorted(folder.glob("*.open"))
        if int(path.stem.rsplit("-", 2)[1]) not in live_pids
    ]


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
