"""True outcomes that clients send, kept in a log like that of the predictions.

What was accepted is on the disk. A client that got no answer may send the same again under the same
``feedback_id``: who reads the log counts it once, and of several outcomes takes the last received.
"""

from __future__ import annotations

import asyncio
import math
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.exceptions import (
    ParameterError,
    RecordError,
    ServingUnavailableError,
)
from airflow_mlops_provider.records import Record
from airflow_mlops_provider.serving.prediction_log import PredictionLog, close_orphans
from airflow_mlops_provider.serving.privacy import ENTITY_ID, Privacy

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.state import Deployment

MAX_ITEMS = 5_000
"""Outcomes in one request."""
_MAX_TEXT = 256
_DURABLE_SECONDS = 10.0
_NAME = "feedback"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feedback(Record):
    """One true outcome; build it with :meth:`of`, which checks it."""

    label: bool | int | float | str
    """What turned out to be true."""
    request_id: str | None = None
    """The prediction's ``x-request-id``; or"""
    entity_id: str | None = None
    """the prediction's ``x-entity-id``, with ``event_ts``."""
    row: int = 0
    """Row of the request, from 0."""
    event_ts: str | None = None
    """When it happened, ISO 8601 (naive means UTC)."""
    feedback_id: str | None = None
    """Names this outcome, so that sending it again changes nothing; made up if left out."""

    @classmethod
    def of(cls, given: object) -> Feedback:
        """Build one from JSON values.

        Raises:
            RecordError: a field is unknown, missing or of a wrong type.
            ParameterError: a value is out of range, or it does not say what it is about.
        """
        feedback = cls.from_xcom(given)
        if (feedback.request_id is None) == (feedback.entity_id is None):
            raise _wrong("request_id", "given, or else entity_id and event_ts", feedback.request_id)
        if feedback.entity_id is not None and feedback.event_ts is None:
            raise _wrong("event_ts", "given with entity_id", None)
        if feedback.row < 0:
            raise _wrong("row", "at least 0", feedback.row)
        _require_number(feedback.label)
        for name in ("label", "request_id", "entity_id", "feedback_id"):
            value = getattr(feedback, name)
            if isinstance(value, str) and not 1 <= len(value) <= _MAX_TEXT:
                raise _wrong(name, f"of 1 to {_MAX_TEXT} characters", f"{value[:20]}...")
        return replace(feedback, event_ts=_utc(feedback.event_ts))


def parsed(body: Mapping[str, Any]) -> list[Feedback]:
    """Return the outcomes of a request: those in its list ``feedback``, or itself as one.

    Raises:
        RecordError, ParameterError: one of them cannot be used; the message names its place.
    """
    items = body.get("feedback", [body])
    if not isinstance(items, list) or not 1 <= len(items) <= MAX_ITEMS:
        told = len(items) if isinstance(items, list) else items
        raise _wrong("feedback", f"a list of 1 to {MAX_ITEMS} outcomes", told)
    found = []
    for place, item in enumerate(items):
        try:
            found.append(Feedback.of(item))
        except (ParameterError, RecordError) as error:
            raise type(error)(f"feedback[{place}]: {error}") from error
    return found


class FeedbackLog:
    """Keeps the feedback of a host's endpoints; its methods are for one event loop.

    Args:
        folder: Segments lie below it by endpoint.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._logs: dict[str, PredictionLog] = {}
        self._opening = threading.Lock()
        self._received = datetime.min.replace(tzinfo=UTC)

    async def append(
        self, endpoint: str, feedback: Iterable[Feedback], privacy: Privacy
    ) -> list[str]:
        """Keep outcomes, all or none; return their ids once they are on the disk.

        Raises:
            ParameterError: one names an entity, and the prediction log leaves entities out.
            ServingUnavailableError: the disk does not take them.
        """
        records = [self._record(each, privacy) for each in feedback]
        try:
            await asyncio.wait_for(self._keep(endpoint, records), _DURABLE_SECONDS)
        except (OSError, TimeoutError) as error:
            raise ServingUnavailableError(
                f"The disk did not take the feedback ({error or 'in time'}). Make room, and send "
                "it again with the same ids."
            ) from error
        return [record["feedback_id"] for record in records]

    def rotate(self, endpoint: str) -> None:
        """Close the open segment of an endpoint's feedback."""
        with self._opening:
            log = self._logs.get(endpoint)
        if log is not None:
            log.rotate()

    def close_orphans(self) -> None:
        """Close the segments that an earlier host left open; for a host that begins."""
        for folder in self.folder.glob("*/"):
            close_orphans(folder, ())

    def close(self) -> None:
        """Close all segments and stop."""
        for log in self._logs.values():
            log.close()

    async def _keep(self, endpoint: str, records: list[dict[str, Any]]) -> None:
        log = await asyncio.to_thread(self._log, endpoint)
        ticket = await asyncio.to_thread(log.append, records)
        await asyncio.wrap_future(log.durable(ticket))

    def _log(self, endpoint: str) -> PredictionLog:
        with self._opening:
            if endpoint not in self._logs:
                folder = self.folder / endpoint
                self._logs[endpoint] = PredictionLog(folder, _NAME, durability="power")
            return self._logs[endpoint]

    def _record(self, feedback: Feedback, privacy: Privacy) -> dict[str, Any]:
        if feedback.entity_id is not None and ENTITY_ID in privacy.dropped:
            constraint = (
                "left out: the endpoint's prediction log holds no entities. Send request_id"
            )
            raise ParameterError.of("entity_id", "feedback", constraint, feedback.entity_id)
        return {
            **feedback.to_xcom(),
            "feedback_id": feedback.feedback_id or uuid.uuid4().hex,
            "entity_id": privacy.entity(feedback.entity_id),
            "received_at": self._now().isoformat(),
        }

    def _now(self) -> datetime:
        """Return the time, later than any before: what is received later corrects the earlier."""
        self._received = max(datetime.now(UTC), self._received + timedelta(microseconds=1))
        return self._received


def entity_privacy(deployments: Iterable[Deployment], folder: Path) -> Privacy:
    """Return how the prediction log of an endpoint holds entities, as feedback has to."""
    options = [each.options for each in deployments]
    dropped = bool(options) and all(ENTITY_ID in each.log_drop_columns for each in options)
    hashed = any(ENTITY_ID in each.log_hash_columns for each in options)
    return Privacy.of([ENTITY_ID] * dropped, [ENTITY_ID] * hashed, folder)


def _require_number(label: object) -> None:
    try:
        finite = isinstance(label, str) or math.isfinite(float(label))  # type: ignore[arg-type]
    except OverflowError:
        finite = False
    if not finite:
        raise _wrong("label", "a finite number, true, false or a text", str(label)[:20])


def _utc(moment: str | None) -> str | None:
    if moment is None:
        return None
    try:
        parsed_moment = datetime.fromisoformat(moment)
        naive = parsed_moment.tzinfo is None
        aware = parsed_moment.replace(tzinfo=UTC) if naive else parsed_moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _wrong("event_ts", "an ISO 8601 time", moment[:40]) from error
    return aware.isoformat()


def _wrong(name: str, constraint: str, value: object) -> ParameterError:
    return ParameterError.of(name, "feedback", constraint, value)
