"""How far a growing column of a table was read, kept as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from airflow_mlops_provider.exceptions import DataError

_KINDS: Mapping[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    # a datetime is a date too, so it comes first
    "time": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "number": (int, int, int),
    "float": (float, float, float),
    "text": (str, str, str),
}


@dataclass(frozen=True)
class Mark:
    """The highest value seen; None before the first row."""

    value: Any = None

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads back.

        Raises:
            DataError: the column holds values that have no order of growth.
        """
        if self.value is None:
            return {"kind": None, "value": None}
        for kind, (type_, write, _) in _KINDS.items():
            if isinstance(self.value, type_) and not isinstance(self.value, bool):
                return {"kind": kind, "value": write(self.value)}
        raise DataError(
            f"Expected numbers, times or texts in the column of the high-water mark, got "
            f"{type(self.value).__name__}. Name a column that grows with each row."
        )

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Mark:
        """Return what :meth:`to_json` gave."""
        if stored["kind"] is None:
            return cls()
        return cls(_KINDS[stored["kind"]][2](stored["value"]))

    def arrival(self, table: str, n_rows: int, after: Mark) -> dict[str, Any]:
        """Return the event of the rows above ``after`` up to this mark.

        Its ``id`` is the same for the same two marks.
        """
        up_to, before = self.to_json()["value"], after.to_json()["value"]
        parts = "\n".join(map(str, [table, before, up_to]))
        return {
            "id": hashlib.sha256(parts.encode()).hexdigest()[:32],
            "table": table,
            "n_rows": n_rows,
            "after": before,
            "up_to": up_to,
        }
