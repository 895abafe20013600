"""Live traffic for an endpoint: the flights of a month, asked about one by one."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import httpx
import pandas as pd

from flights.columns import ENTITY, FEATURES, TIME

_TIMEOUT_SECONDS = 10.0
_SENDERS = 4
_FAILURES_KEPT = 5

Row = tuple[str, dict[str, Any]]
"""Entity id, and the features by name."""


@dataclass
class Answers:
    """What became of the requests so far."""

    by_deployment: Counter[str] = field(default_factory=Counter)
    """Successful answers by the deployment that gave them (header ``x-deployment``)."""
    failed: int = 0
    failures: list[str] = field(default_factory=list)
    """The first few failures in words."""

    @property
    def sent(self) -> int:
        """All requests that were answered or failed."""
        return self.by_deployment.total() + self.failed


class Traffic:
    """Sends rows to an endpoint at a steady rate while the ``with`` block runs.

    Rows are repeated from the first when they run out. A slow endpoint lowers the rate; what
    was missed is not sent in a burst later.

    Args:
        url: Endpoint; requests go to ``{url}/invocations``.
        rows: Rows to send, in order.
        per_second: Highest number of requests a second.
        transport: How requests travel; for tests.
    """

    def __init__(
        self,
        url: str,
        rows: Iterable[Row],
        per_second: float = 20.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.answers = Answers()
        self._url = f"{url.rstrip('/')}/invocations"
        self._rows = itertools.cycle(rows)
        self._interval = 1 / per_second
        self._next_slot = 0.0
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._http = httpx.Client(timeout=_TIMEOUT_SECONDS, transport=transport)
        self._senders = [threading.Thread(target=self._send_all) for _ in range(_SENDERS)]

    def __enter__(self) -> Self:
        for sender in self._senders:
            sender.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for sender in self._senders:
            sender.join()
        self._http.close()

    def _send_all(self) -> None:
        while not self._stopping.wait(self._seconds_to_slot()):
            with self._lock:
                row = next(self._rows)
            self._send(*row)

    def _seconds_to_slot(self) -> float:
        with self._lock:
            now = time.monotonic()
            slot = max(self._next_slot, now)
            self._next_slot = slot + self._interval
            return slot - now

    def _send(self, entity: str, features: Mapping[str, Any]) -> None:
        headers = {"x-request-id": str(uuid.uuid4()), "x-entity-id": entity}
        body = {"dataframe_records": [features]}
        try:
            answer = self._http.post(self._url, json=body, headers=headers)
        except httpx.HTTPError as error:
            self._count_failure(f"{type(error).__name__}: {error}")
            return
        if answer.is_error:
            self._count_failure(f"{answer.status_code}: {answer.text[:200]}")
            return
        with self._lock:
            self.answers.by_deployment[answer.headers.get("x-deployment", "?")] += 1

    def _count_failure(self, what: str) -> None:
        with self._lock:
            self.answers.failed += 1
            if len(self.answers.failures) < _FAILURES_KEPT:
                self.answers.failures.append(what)


def rows_of(parquet: str, newest: float = 0.2) -> Iterator[Row]:
    """Give the newest rows of a Parquet file with the flights' id and features, oldest first.

    The newest fifth is what the example's models were judged on, and so did not learn from.
    """
    frame = pd.read_parquet(parquet, columns=[ENTITY, TIME, *FEATURES]).sort_values(TIME)
    rows = frame.tail(int(len(frame) * newest)).drop(columns=TIME)
    values = rows.astype(object).where(rows.notna(), None)
    for record in values.to_dict(orient="records"):
        yield str(record.pop(ENTITY)), record
