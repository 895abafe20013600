"""What asks for a training, as events that are the same however often they are told."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.records import RetrainingEvent
from airflow_mlops_provider.steps.metadata import shortened

if TYPE_CHECKING:
    from airflow_mlops_provider.records.retraining import EventKind

REQUEST = "retraining_event"
"""Key of a run's configuration: the event with which another DAG asks for the training."""
_KINDS: Mapping[str, EventKind] = {
    "mlops-drift": "drift",
    "mlops-alert": "drift",
    "mlops-performance": "performance",
}
_MAX_TEXT, _MAX_ITEMS, _MAX_KEYS, _MAX_DEPTH, _MAX_BYTES = 300, 10, 30, 4, 4_000
_WINDOW = ("endpoint", "model_uri", "window_start", "window_end")


def demand(run: str, at: str, *, by: str, conf: Mapping[str, Any]) -> RetrainingEvent:
    """Return the event of a run that was asked for.

    Args:
        run: ``dag_id/run_id``.
        at: When, ISO 8601.
        by: The person.
        conf: What the form was filled with. A DAG that asks on behalf of a person names its own
            event under ``retraining_event``.

    Raises:
        RecordError: what lies there is no event.
    """
    if REQUEST in conf:
        return RetrainingEvent.from_xcom(conf[REQUEST])
    evidence = bounded({"params": dict(conf)})
    return RetrainingEvent(
        id=event_id("demand", run), kind="demand", at=at, source="form", by=by, evidence=evidence
    )


def schedule(run: str, at: str, *, start: str | None, end: str | None) -> RetrainingEvent:
    """Return the event of a scheduled run and its data interval."""
    evidence = {"data_interval_start": start, "data_interval_end": end}
    return RetrainingEvent(
        id=event_id("schedule", run), kind="schedule", at=at, source="schedule", evidence=evidence
    )


def asset_event(
    uri: str, at: str, *, extra: Mapping[str, Any], emitted_by: str | None
) -> RetrainingEvent:
    """Return the event that an asset event stands for; its extra is the evidence.

    ``mlops-drift://`` and ``mlops-alert://`` are drift, ``mlops-performance://`` is performance,
    any other asset is new data. What a watcher's payload names ``id`` makes it the same event when
    it is told again, and so do endpoint, model and window of a monitoring report.

    Args:
        uri: Of the asset.
        at: When it was emitted, ISO 8601.
        extra: What the event carries.
        emitted_by: ``dag_id/run_id/task_id``; None for a watcher or the API.
    """
    told = extra.get("payload") if extra.get("from_trigger") else extra
    told = told if isinstance(told, Mapping) else {"payload": told}
    return RetrainingEvent(
        id=event_id("asset", uri, *_identity(told, at, emitted_by)),
        kind=_KINDS.get(uri.partition("://")[0], "new_data"),
        at=at,
        source=f"{uri} by {emitted_by}" if emitted_by else uri,
        evidence=bounded(told),
    )


def _identity(told: Mapping[str, Any], at: str, emitted_by: str | None) -> list[str]:
    if told.get("id"):
        return [str(told["id"])]
    if told.get("window_end"):
        return [str(told.get(name)) for name in _WINDOW]
    return [at, str(emitted_by)]


def bounded(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return evidence small enough for a ledger, an XCom and a page.

    Texts are cut to 300 characters, lists to 10 and dicts to 30 entries, both to 4 levels; then
    the largest entries are left out until about 4 KB of JSON remain.
    """
    cut = {str(key): _cut(item, _MAX_DEPTH) for key, item in list(value.items())[:_MAX_KEYS]}
    sizes = {key: len(json.dumps(item)) for key, item in cut.items()}
    for key in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sum(sizes[kept] + len(kept) for kept in cut) <= _MAX_BYTES:
            break
        del cut[key]
    return cut


def _cut(value: Any, depth: int) -> Any:
    if isinstance(value, Mapping | list | tuple):
        return _fewer(value, depth) if depth else f"{len(value)} entries"
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bool | int | None):
        return value
    return shortened(str(value), _MAX_TEXT)


def _fewer(value: Mapping[Any, Any] | Sequence[Any], depth: int) -> Any:
    if isinstance(value, Mapping):
        kept = list(value.items())[:_MAX_KEYS]
        return {shortened(str(key), _MAX_TEXT): _cut(item, depth - 1) for key, item in kept}
    return [_cut(item, depth - 1) for item in value[:_MAX_ITEMS]]


def event_id(*parts: str) -> str:
    """Return the id of the event that ``parts`` tell apart from all others."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
