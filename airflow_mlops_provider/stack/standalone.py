"""``airflow-mlops standalone``: the local stack until somebody presses Ctrl-C."""

from __future__ import annotations

import ctypes
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from airflow_mlops_provider.exceptions import StackUnavailableError
from airflow_mlops_provider.stack.local import USER, LocalStack

_PR_SET_PDEATHSIG = 1


def run_standalone(home: Path, dags: Path) -> int:
    """Start the stack, show its pages and stay until interrupted; return an exit code."""
    try:
        with ending_on_signals(), LocalStack(home, dags, say) as stack:
            say(pages(stack))
            while all(service.running for service in stack.services):
                time.sleep(1)
            ended = next(service for service in stack.services if not service.running)
            raise ended.failure("ended")
    except KeyboardInterrupt:
        return 0
    except StackUnavailableError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def pages(stack: LocalStack) -> str:
    """Return the addresses to open, with user and password."""
    return "\n".join(
        [
            f"Airflow   {stack.airflow_url}   user {USER}, password {stack.password}",
            f"MLflow    {stack.mlflow_url}",
            f"Serving   {stack.serving_url}",
            "Ctrl-C stops everything.",
        ]
    )


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Make SIGINT, SIGTERM and SIGHUP end ``with`` blocks as Ctrl-C does.

    SIGINT too, because shells let background jobs ignore it; SIGHUP not under ``nohup``.
    """
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with_parent() -> None:
    """Have Linux send us SIGTERM when our parent dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
