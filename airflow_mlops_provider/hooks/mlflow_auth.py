"""Credentials for MLflow's HTTP client, without touching ``os.environ``.

MLflow loads this class through its ``mlflow.request_header_provider`` entry point. The
credentials are those of the Connection that this process opened last; they are a module
variable and not a context variable because MLflow uploads from threads of its own.
"""

from __future__ import annotations

from base64 import b64encode

_headers: dict[str, str] = {}


def set_authorization(token: str | None, login: str | None, password: str | None) -> None:
    """Set the ``Authorization`` header for MLflow requests of this process, or clear it."""
    _headers.clear()
    if token:
        _headers["Authorization"] = f"Bearer {token}"
    elif login:
        basic = b64encode(f"{login}:{password or ''}".encode()).decode()
        _headers["Authorization"] = f"Basic {basic}"


class ConnectionHeaderProvider:
    """What MLflow asks for headers (its ``RequestHeaderProvider`` protocol)."""

    def in_context(self) -> bool:
        """Tell whether there are headers to add."""
        return bool(_headers)

    def request_headers(self) -> dict[str, str]:
        """Return the headers to add."""
        return dict(_headers)
