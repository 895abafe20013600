"""Child processes of the serving host: start, report, find again, stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

import psutil

from airflow_mlops_provider.serving.keeper import MARK, runs

_STOP_SECONDS = 15
_POLL_SECONDS = 0.1
_CLOCK_SECONDS = 2.0
"""How far the time a process began may be off when it is read again: the clock is set now and
then."""
_TAIL_LINES = 15
_TAIL_BYTES = 16_384


class Child(Protocol):
    """A child process, whichever host started it."""

    @property
    def pid(self) -> int:
        """Its process id."""

    @property
    def returncode(self) -> int | None:
        """None while it runs."""

    async def wait(self) -> int:
        """Wait for its end."""

    def terminate(self) -> None:
        """Ask it to end."""

    def kill(self) -> None:
        """End it."""


@dataclass(frozen=True)
class Born:
    """What tells a process from a later one of the same id."""

    pid: int
    created: float

    @classmethod
    def of(cls, pid: int) -> Self:
        """Describe a process that runs."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:  # it has just ended: nobody will find it again
            return cls(pid, 0.0)

    def find(self, folder: Path) -> Adopted | None:
        """Return the process if it still runs and is a child of a host of ``folder``."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _CLOCK_SECONDS
            if same and process.environ().get(MARK) == str(folder):
                return Adopted(process)
        except psutil.Error:
            pass
        return None


class Adopted:
    """A child that an earlier host started: how it ends nobody will know."""

    def __init__(self, process: psutil.Process) -> None:
        self.pid = process.pid
        self._process = process

    @property
    def returncode(self) -> int | None:
        """None while it runs, then -1."""
        return None if runs(self._process) else -1

    async def wait(self) -> int:
        """Wait for its end."""
        while (status := self.returncode) is None:
            await asyncio.sleep(_POLL_SECONDS)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(psutil.Error):
            self._process.terminate()

    def kill(self) -> None:
        """End it."""
        with contextlib.suppress(psutil.Error):
            self._process.kill()


async def spawn(
    command: Sequence[str],
    log_file: Path,
    folder: Path,
    *,
    report: bool = False,
    held: bool = False,
    variables: Mapping[str, str | None] | None = None,
) -> Process:
    """Start a child that outlives the host; of Ctrl-C it hears only from the host.

    Args:
        command: Program and arguments.
        log_file: Where its standard error goes, appended.
        folder: The host's folder, which marks the child.
        report: Give its standard output to the caller as a pipe.
        held: Keep its standard input open for as long as the host lives.
        variables: Environment variables for it; None takes one away.
    """
    given = {**os.environ, **(variables or {}), MARK: str(folder)}
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE if held else DEVNULL,
            stdout=PIPE if report else log,
            stderr=log,
            env={name: value for name, value in given.items() if value is not None},
            start_new_session=True,
        )


async def stop(process: Child) -> None:
    """Ask a process to end, and kill it after 15 seconds."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
    await process.wait()


async def reported(process: Process, name: str) -> str:
    """Return what a process reports under ``name`` as one line of JSON.

    Raises:
        ValueError: it ended, or reported something else.
    """
    assert process.stdout is not None
    try:
        return str(json.loads(await process.stdout.readline())[name])
    except (KeyError, TypeError) as error:
        raise ValueError(f"no {name!r} in its report") from error


def tail(path: Path) -> str:
    """Return the last 15 lines of a text file."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:])
