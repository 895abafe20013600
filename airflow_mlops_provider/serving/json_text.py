"""JSON by pydantic's encoder, ten times as fast as Python's own; Python's has the last word."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import from_json, to_json


def encode(value: Any) -> bytes:
    """Return JSON values as text; a number that is not finite becomes null."""
    try:
        return to_json(value, inf_nan_mode="null")
    except ValueError:  # half a surrogate pair, which UTF-8 cannot hold, but an escape can
        return json.dumps(value, allow_nan=False).encode()


def decode(text: bytes) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is not JSON.
        RecursionError: it is nested too deeply.
    """
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)
