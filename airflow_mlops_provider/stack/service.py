"""One long-lived program of the local stack: started, waited for, stopped with all its children."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.stack import keeper

LOG_TAIL_LINES = 15
_PROBE_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.5


def _answers(response: httpx.Response) -> bool:
    return response.is_success


@dataclass
class Service:
    """A program, the URL that tells its health, and the file it logs to.

    Args:
        name: What people call it.
        command: Program and arguments.
        env: Its whole environment.
        log: File its output is appended to.
        health_url: URL that answers once it is up.
        healthy: Whether an answer of ``health_url`` means that it is up.
    """

    name: str
    command: Sequence[str]
    env: dict[str, str]
    log: Path
    health_url: str
    healthy: Callable[[httpx.Response], bool] = _answers
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)

    def start(self, keep_open: Sequence[int] = ()) -> None:
        """Start it under a keeper, in a session of its own so that Ctrl-C reaches only us.

        Args:
            keep_open: File descriptors that stay open until the service and all its children
                are gone.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-I", keeper.__file__, *self.command]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a fixed command of ours
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                start_new_session=True,
                pass_fds=keep_open,
            )

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def is_healthy(self) -> bool:
        """Ask its health URL once."""
        try:
            return self.healthy(httpx.get(self.health_url, timeout=_PROBE_TIMEOUT_SECONDS))
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    def release(self) -> None:
        """Let it end: its keeper stops it once nobody holds the other end of its input."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def join(self) -> None:
        """Wait until it and all its children are gone."""
        if self._process is not None:
            self._process.wait(timeout=3 * keeper.GRACE_SECONDS)

    def failure(self, what: str) -> StackUnavailableError:
        """Return an error that says ``what`` and shows the end of the log."""
        return StackUnavailableError(
            f"{self.name} {what}. The end of its log {self.log}:\n{tail(self.log)}"
        )


def wait_until_healthy(
    services: Sequence[Service], seconds: float, say: Callable[[str], None]
) -> None:
    """Wait for all services at once, and say when each came up.

    Raises:
        StackUnavailableError: one ended, or was not up after ``seconds``.
    """
    start = time.monotonic()
    waiting = list(services)
    while waiting:
        for service in list(waiting):
            if not service.running:
                raise service.failure("ended before it was up")
            if service.is_healthy():
                say(f"{service.name} is up after {time.monotonic() - start:.0f} s")
                waiting.remove(service)
        if waiting and time.monotonic() - start > seconds:
            raise waiting[0].failure(f"was not up within {seconds:.0f} s")
        time.sleep(_POLL_SECONDS if waiting else 0)


def stop_all(services: Sequence[Service]) -> None:
    """Stop all services at the same time and wait for them."""
    for service in services:
        service.release()
    for service in services:
        service.join()


def tail(log: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a text file, or a word about its absence."""
    if not log.exists():
        return "(no log was written)"
    with log.open(errors="replace") as file:
        return "".join(deque(file, maxlen=lines)).rstrip() or "(the log is empty)"


def free_ports(n: int) -> list[int]:
    """Return ``n`` different TCP ports that nothing listens on at 127.0.0.1 right now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(n)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
