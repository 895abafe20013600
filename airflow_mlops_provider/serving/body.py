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
    stated = request.headers.get("content-length", "")
    if stated.isdecimal() and int(stated) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> ParameterError:
    return ParameterError(f"Expected a body of at most {limit} bytes, got more. Send less at once.")
