"""Request bodies, read no further than there is room for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from starlette.requests import Request


async def read_body(request: Request, limit: int) -> bytes:
    """Return the body of ``request``.

    Raises:
        ParameterError: it has more than ``limit`` bytes.
    """
    if (stated_size(request) or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def stated_size(request: Request) -> int | None:
    """Return how many bytes the body of ``request`` is said to have, if it is said."""
    stated = request.headers.get("content-length", "")
    return int(stated) if stated.isdecimal() else None


def _too_large(limit: int) -> ParameterError:
    return ParameterError(f"Expected a body of at most {limit} bytes, got more. Send less at once.")
