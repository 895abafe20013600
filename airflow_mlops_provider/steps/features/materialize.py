"""Take features online, window by window, so that nothing is lost and nothing done twice hurts."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.features.registry import (
    feast_errors,
    heal,
    require_interval,
    require_sources,
    serialised_commits,
    view_names,
)

if TYPE_CHECKING:
    from feast import FeatureStore

Moment = str | datetime
Duration = str | float | timedelta
_CALENDAR = re.compile("P[^T]*[YM]")
_CLOCK_SKEW = timedelta(minutes=1)
"""How far the scheduler's clock, which says that a window is over, may be ahead of a worker's."""
_one_thread = threading.RLock()
_log = logging.getLogger(__name__)


def materialize(
    store: FeatureStore,
    feature_views: str | Sequence[str] | None,
    start: Moment,
    end: Moment,
    *,
    now: datetime,
    overlap: Duration | None = None,
    chunk: Duration | None = None,
    done: Mapping[str, Any] | None = None,
    keep: Callable[[dict[str, Any]], None] | None = None,
) -> list[str]:
    """Copy the newest features of ``[start - overlap, end]`` into the online store.

    Windows are explicit, because Feast's incremental mode misses rows that come late and stops
    after a date in the future. Each piece of a window is committed to the registry by itself;
    one without rows as well. Doing a window twice leaves stores and registry as they were.

    Threads of one process take turns: they share the connection to DuckDB that Feast reads by, and
    maybe ``store``. Nothing else of theirs may read features by it meanwhile.

    Args:
        store: The feature store, applied.
        feature_views: Names, or one name; None means all views that are served online.
        start: ISO 8601; a naive time is UTC.
        end: ISO 8601, later than ``start`` and not later than ``now``.
        now: The moment up to which rows can be known.
        overlap: How much before ``start`` to look for rows that came late: seconds or an
            ISO 8601 duration.
        chunk: The longest piece to do at once, as ``overlap``; by default the whole window.
        done: What an earlier try of the same task gave to ``keep``; its pieces are left out.
        keep: Told after each piece what has been done, as JSON values.

    Returns:
        The names of the views.

    Raises:
        DataError: a view is unknown, or its source is missing or not what the view declares.
        FeatureStoreUnavailableError: another process holds the registry.
        ParameterError: a time or duration cannot be used, or the window is not over.
    """
    first, last = _window(start, end, overlap, now)
    with _one_thread:
        names = view_names(store, feature_views)
        require_sources([store.get_feature_view(name) for name in names])
    pieces = list(_pieces(first, last, as_duration("chunk", "materialize", chunk)))
    progress = _Progress([first, last, pieces[0][1]], done, keep)
    for name in names:
        with _healed(store, name):
            for begin, until in pieces:
                if progress.has(name, until):
                    _log.info("%s to %s of %s was done by an earlier try", begin, until, name)
                    continue
                with _one_thread:
                    _materialize_piece(store, name, begin, until)
                progress.add(name, until)
    return names


@contextmanager
def _healed(store: FeatureStore, name: str) -> Iterator[None]:
    """Heal the view that a killed ``feast materialize`` left, or that this one leaves.

    Feast refuses to serve a view in state MATERIALIZING until somebody materializes it again.
    What the online store holds is sound: rows are replaced one by one.
    """
    with _one_thread:
        heal(store, [name])
    try:
        yield
    except BaseException:
        with _one_thread:
            heal(store, [name])
        raise


def _materialize_piece(store: FeatureStore, name: str, begin: datetime, until: datetime) -> None:
    with feast_errors(store), serialised_commits(store):
        try:
            store.materialize(begin, until, feature_views=[name])
        except (pa.ArrowException, AssertionError, TypeError, ValueError) as error:
            raise DataError(
                f"The rows of {name!r} from {begin} to {until} cannot be taken online: "
                f"{type(error).__name__}: {error}. Correct the source, or the types that the "
                "view declares."
            ) from error
        require_interval(store, name, begin, until)


class _Progress:
    """How far each view has come, for the next try of the same task."""

    def __init__(
        self,
        window: list[datetime],
        done: Mapping[str, Any] | None,
        keep: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        self._window = [moment.isoformat() for moment in window]
        same = done is not None and done["window"] == self._window
        self._until: dict[str, str] = dict(done["until"]) if done and same else {}
        self._keep = keep

    def has(self, name: str, until: datetime) -> bool:
        return name in self._until and until <= datetime.fromisoformat(self._until[name])

    def add(self, name: str, until: datetime) -> None:
        self._until[name] = until.isoformat()
        if self._keep:
            self._keep({"window": self._window, "until": self._until})


def _window(
    start: Moment, end: Moment, overlap: Duration | None, now: datetime
) -> tuple[datetime, datetime]:
    first, last = as_moment("start", "materialize", start), as_moment("end", "materialize", end)
    if first >= last:
        raise ParameterError.of("end", "materialize", f"later than start ({first})", str(last))
    if last > now + _CLOCK_SKEW:
        constraint = f"in the past (it is {now}): rows of the future are not known yet"
        raise ParameterError.of("end", "materialize", constraint, str(last))
    return first - (as_duration("overlap", "materialize", overlap) or timedelta(0)), last


def _pieces(
    first: datetime, last: datetime, chunk: timedelta | None
) -> Iterator[tuple[datetime, datetime]]:
    while first < last:
        until = min(first + chunk, last) if chunk else last
        yield first, until
        first = until


def as_moment(name: str, caller: str, value: Moment) -> datetime:
    """Return a moment in UTC; a naive one is UTC.

    Raises:
        ParameterError: ``value`` is no ISO 8601 time.
    """
    constraint = "an ISO 8601 time"
    if not value:
        constraint += "; a run that a person or an asset started may have no data interval"
        raise ParameterError.of(name, caller, constraint, value)
    try:
        moment = pd.Timestamp(value)
    except ValueError as error:
        raise ParameterError.of(name, caller, constraint, value) from error
    aware = moment.tz_localize(UTC) if moment.tzinfo is None else moment.tz_convert(UTC)
    return aware.to_pydatetime()


def as_duration(name: str, caller: str, value: Duration | None) -> timedelta | None:
    """Return a duration given in seconds or by ISO 8601; None for none.

    Raises:
        ParameterError: ``value`` is no duration, or negative.
    """
    if not value:
        return None
    try:
        if _CALENDAR.match(str(value)):
            span = pd.Timedelta(0)  # pandas would take P1M for a minute
        elif isinstance(value, timedelta) or str(value).startswith("P"):
            span = pd.Timedelta(value)
        else:
            span = pd.Timedelta(seconds=float(value))
    except (ValueError, OverflowError):
        span = pd.Timedelta(0)
    if not span > pd.Timedelta(0):
        constraint = "positive: seconds or an ISO 8601 duration such as 'PT6H' or 'P1D', no months"
        raise ParameterError.of(name, caller, constraint, value)
    return span.to_pytimedelta()
