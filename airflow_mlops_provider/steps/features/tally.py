"""Whether two values of a feature are the same, and a count of those that are not."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from airflow_mlops_provider.records import FeatureSkew, SkewExample

MAX_EXAMPLES = 5
_TEXT = 80
_NEAR_ZERO = 1e-12
_KINDS: tuple[tuple[type | tuple[type, ...], str], ...] = (
    (bool, "bool"),
    (int, "int"),
    ((float, Decimal), "float"),
    (str, "text"),
    (date, "time"),  # a datetime is a date
    (bytes, "bytes"),
    (list, "list"),
)
_NUMBERS = {"bool", "int", "float"}


@dataclass(frozen=True)
class Pair:
    """One value of a feature on both sides."""

    entity: Mapping[str, Any]
    at: datetime
    offline: Any
    online: Any
    expired: bool = False
    """Whether the value served is older than the TTL of its view."""


@dataclass
class Tally:
    """What is known so far of one feature.

    Args:
        feature: Its name.
        tolerance: Relative difference up to which floats are the same.
        count_expired: Whether a value beyond its TTL, where training sees none, is a difference.
        materialized_until: Kept for the report.
    """

    feature: str
    tolerance: float
    count_expired: bool = True
    materialized_until: str | None = None
    n: int = 0
    n_different: int = 0
    n_only_offline: int = 0
    n_only_online: int = 0
    n_expired: int = 0
    n_newer: int = 0
    type_changed: bool = False
    _largest: float | None = None
    _types: dict[str, str | None] = field(default_factory=lambda: {"offline": None, "online": None})
    _examples: list[SkewExample] = field(default_factory=list)

    def add(self, pair: Pair) -> None:
        """Count one row."""
        offline, online = plain(pair.offline), plain(pair.online)
        if offline is None and online is None:
            return
        expired = offline is None and pair.expired
        self.n_expired += expired
        if expired and not self.count_expired:
            return
        self.n += 1
        self._note_types(offline, online)
        if same(offline, online, self.tolerance):
            return
        self.n_different += 1
        self.n_only_offline += online is None
        self.n_only_online += offline is None
        self._note_difference(offline, online)
        if len(self._examples) < MAX_EXAMPLES:
            self._examples.append(_example(pair, offline, online))

    def result(self, max_share: float) -> FeatureSkew:
        """Return the record; skewed if more than ``max_share`` differ, or the type does."""
        share = self.n_different / self.n if self.n else 0.0
        skewed = self.type_changed or share > max_share
        return FeatureSkew(
            feature=self.feature,
            verdict="skewed" if skewed else "same" if self.n else "insufficient_data",
            n=self.n,
            n_different=self.n_different,
            share=share,
            largest_difference=self._largest,
            n_only_offline=self.n_only_offline,
            n_only_online=self.n_only_online,
            n_expired=self.n_expired,
            n_newer=self.n_newer,
            offline_type=self._types["offline"],
            online_type=self._types["online"],
            type_changed=self.type_changed,
            materialized_until=self.materialized_until,
            examples=self._examples,
        )

    def _note_types(self, offline: Any, online: Any) -> None:
        for side, value in (("offline", offline), ("online", online)):
            if value is not None:
                self._types[side] = _wider(self._types[side], kind(value))
        if offline is not None and online is not None:
            self.type_changed |= not _comparable(kind(offline), kind(online))

    def _note_difference(self, offline: Any, online: Any) -> None:
        if offline is None or online is None or not {kind(offline), kind(online)} <= _NUMBERS:
            return
        distance = abs(float(offline) - float(online))
        if math.isfinite(distance):
            self._largest = max(self._largest or 0.0, distance)


def plain(value: Any) -> Any:
    """Return NaN as None, and a time in UTC."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value


def as_logged(logged: Any, offline: Any) -> Any:
    """Return what a logged text stands for where the feature is a time or list: JSON has none."""
    if not isinstance(logged, str) or not isinstance(offline, date | list):
        return logged
    try:
        return json.loads(logged) if isinstance(offline, list) else datetime.fromisoformat(logged)
    except ValueError:
        return logged


def kind(value: Any) -> str:
    """Return the name of what ``value`` is."""
    return next((name for types, name in _KINDS if isinstance(value, types)), type(value).__name__)


def same(offline: Any, online: Any, tolerance: float) -> bool:
    """Say whether two values are the same.

    Integers exactly, numbers of which one is a float within the relative ``tolerance``, times
    within the second that Feast keeps of them, lists value by value, all else exactly.
    """
    if offline is None or online is None:
        return offline is online
    kinds = {kind(offline), kind(online)}
    if "float" in kinds and kinds <= _NUMBERS:
        return math.isclose(float(offline), float(online), rel_tol=tolerance, abs_tol=_NEAR_ZERO)
    if kinds == {"time"}:
        return abs(_seconds(offline) - _seconds(online)) < 1
    if kinds == {"list"}:
        return len(offline) == len(online) and all(
            same(plain(one), plain(other), tolerance)
            for one, other in zip(offline, online, strict=True)
        )
    return _comparable(*kinds, *kinds) and bool(offline == online)


def _seconds(value: date) -> float:
    if isinstance(value, datetime):
        return plain(value).timestamp()  # type: ignore[no-any-return]
    return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()


def _comparable(*kinds: str) -> bool:
    return len(set(kinds)) == 1 or set(kinds) <= _NUMBERS


def _wider(known: str | None, new: str) -> str:
    """Return the type of a column in which both occur, as far as it has one."""
    if known is None or known == new:
        return new
    return max(known, new, key=["bool", "int", "float"].index) if _comparable(known, new) else new


def _example(pair: Pair, offline: Any, online: Any) -> SkewExample:
    return SkewExample(
        entity={name: str(value)[:_TEXT] for name, value in pair.entity.items()},
        at=pair.at.isoformat(),
        offline=_shown(offline),
        online=_shown(online),
    )


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    return (value.isoformat() if isinstance(value, date) else repr(value))[:_TEXT]
