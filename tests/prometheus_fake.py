"""A small HTTP server that answers queries as Prometheus does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BOUNDS = ("10", "20", "+Inf")


class FakePrometheus:
    """Holds the series by workload: requests, errors, and a histogram around 10 ms.

    ``values`` overrides what any query answers with; ``status`` is that of the response.
    """

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.value: str | None = None
        self.status = 200
        self.queries: list[str] = []
        self.url = ""

    def serve(self, workload: str, requests: int, errors: int = 0) -> None:
        """Count requests of a workload."""
        self.requests[workload] = self.requests.get(workload, 0) + requests
        self.errors[workload] = self.errors.get(workload, 0) + errors

    def answer(self, query: str) -> list[dict[str, object]]:
        """Return the vector of a query."""
        self.queries.append(query)
        found = [name for name in self.requests if f'"{name}"' in query]
        if not found:
            return []
        if "bucket" in query:
            n = self.requests[found[0]]
            counts = dict(zip(BOUNDS, (n // 2, n, n), strict=True))
            return [self._sample({"le": bound}, count) for bound, count in counts.items()]
        values = self.errors if "5xx" in query or "5.." in query else self.requests
        return [self._sample({}, values[found[0]])]

    def _sample(self, metric: dict[str, str], value: int) -> dict[str, object]:
        return {"metric": metric, "value": [1700000000.0, self.value or str(value)]}


@contextmanager
def fake_prometheus() -> Iterator[FakePrometheus]:
    """Run the server on a free port of 127.0.0.1."""
    fake = FakePrometheus()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)["query"][0]
            data = {"resultType": "vector", "result": fake.answer(query)}
            body = {"status": "success", "data": data}
            if fake.status != 200:
                body = {"status": "error", "errorType": "bad_data", "error": "no such thing"}
            self.send_response(fake.status)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
