"""What every record is: a frozen dataclass of JSON values that checks itself when it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self, cast

from airflow_mlops_provider.exceptions import RecordError

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Base of all records."""

    def to_xcom(self) -> dict[str, Any]:
        """Return a plain dict of JSON values, after checking that it reads back."""
        payload = asdict(self)
        self.from_xcom(payload)
        return payload

    @classmethod
    def from_xcom(cls, payload: object) -> Self:
        """Rebuild the record from what another task returned.

        Raises:
            RecordError: ``payload`` is not a dict of this record's fields; the message names
                the record and each wrong field.
        """
        if isinstance(payload, cls):
            return payload
        if not isinstance(payload, Mapping):
            raise RecordError(
                f"Expected a {cls.__name__} (the dict another task returned), got "
                f"{type(payload).__name__} {str(payload)[:80]!r}. Pass `upstream.output`, and use "
                "render_template_as_native_obj=True if it goes through a Jinja string."
            )
        from pydantic import ValidationError

        try:
            adapter = _adapter(cls)  # type: ignore[arg-type]  # mypy doubts that a class hashes
            return cast("Self", adapter.validate_python(dict(payload)))
        except ValidationError as error:
            wrong = "; ".join(
                f"{'.'.join(map(str, item['loc'])) or cls.__name__}: {item['msg']}"
                for item in error.errors()[:5]
            )
            raise RecordError(f"Not a valid {cls.__name__}: {wrong}.") from error

    @classmethod
    def several_from_xcom(cls, payloads: object) -> list[Self]:
        """Rebuild what one task returned, or each of a list of tasks; None is none."""
        one = isinstance(payloads, Mapping | cls)
        listed: Any = [payloads] if one else payloads or ()
        return [cls.from_xcom(payload) for payload in listed]


@cache
def _adapter(cls: type) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter  # late: DAG files are parsed without it

    strict = ConfigDict(extra="forbid", allow_inf_nan=False)
    cls.__pydantic_config__ = strict  # type: ignore[attr-defined]  # read by TypeAdapter
    return TypeAdapter(cls)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Record):
    """One figure with its confidence interval and the rows behind it."""

    value: float
    low: float | None
    high: float | None
    n: int
