"""Ends the children of a serving host that died, unless another host takes them over in time.

The host starts it as ``python -m airflow_mlops_provider.serving.keeper FOLDER SECONDS`` and holds
the other end of its standard input, which the death of the host closes, however it died. A host
that takes over ends this keeper first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import psutil

MARK = "MLOPS_SERVING_CHILD_OF"
"""Environment variable by which a host's children, and theirs, are known: its folder."""
_GRACE_SECONDS = 15.0
_POLL_SECONDS = 0.05


def children_of(folder: Path) -> list[psutil.Process]:
    """Return the processes that hosts of ``folder`` started, but for this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):  # it ended, or is somebody else's
            if process.pid != os.getpid() and process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


def is_keeper(process: psutil.Process) -> bool:
    """Tell whether a child is a keeper."""
    try:
        return __spec__.name in process.cmdline()
    except psutil.Error:
        return False


def ancestors(process: psutil.Process) -> list[psutil.Process]:
    """Return the parents of a process, and theirs."""
    try:
        return process.parents()
    except psutil.Error:
        return []


def end(processes: Iterable[psutil.Process], grace: float = _GRACE_SECONDS) -> None:
    """Ask processes to end, kill them after ``grace`` seconds, and wait until they are gone."""
    left = list(processes)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)
        deadline = time.monotonic() + grace
        while (left := list(filter(runs, left))) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)


def runs(process: psutil.Process) -> bool:
    """Tell whether a process has not ended, whether or not its parent took note of it."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def main(arguments: Sequence[str]) -> None:
    """Wait for the end of the host, then as long again as it may be away, then end its children."""
    folder, seconds = arguments
    while os.read(sys.stdin.fileno(), 1024):
        pass
    time.sleep(float(seconds))
    while left := children_of(Path(folder)):  # some are started while we look
        end(left)


if __name__ == "__main__":
    main(sys.argv[1:])
