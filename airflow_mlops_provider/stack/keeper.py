"""Run one command so that nothing it starts outlives it, its keeper or the keeper's parent.

Started as a script, ``python -I keeper.py COMMAND...``. It ends the command and all that
descends from it when it is told to stop, when the command itself ends, or when its standard
input closes, which is what the death of the parent looks like however it died.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import threading
import time

import psutil

GRACE_SECONDS = 10.0
"""How long processes may take to end by themselves before they are killed."""
_POLL_SECONDS = 0.1
_PR_SET_CHILD_SUBREAPER = 36


class Keeper:
    """Keeps one command until it ends or :meth:`stop` is called, by whatever thread or signal."""

    def __init__(self) -> None:
        self.stopping = False

    def stop(self, *_: object) -> None:
        """Ask the keeper to end; safe in a signal handler, for it only sets a flag."""
        self.stopping = True

    def keep(self, command: list[str]) -> int:
        """Run ``command`` to its end or ours and return its exit code."""
        if self.stopping:
            return 0
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL)  # noqa: S603 - our own caller's
        try:
            while child.poll() is None and not self.stopping:
                time.sleep(_POLL_SECONDS)
            return child.returncode or 0
        finally:
            end_descendants()


def end_descendants(grace: float = GRACE_SECONDS) -> None:
    """Terminate every descendant of this process, and kill those left after ``grace`` seconds."""
    _signal_until_gone(signal.SIGTERM, grace)
    _signal_until_gone(signal.SIGKILL, grace)
    _reap()


def _signal_until_gone(number: int, seconds: float) -> None:
    told: set[psutil.Process] = set()
    deadline = time.monotonic() + seconds
    while (living := _living_descendants()) and time.monotonic() < deadline:
        for process in living - told:  # some are started while we look
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        told |= living
        time.sleep(_POLL_SECONDS)


def _living_descendants() -> set[psutil.Process]:
    living = set()
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                living.add(process)
    return living


def _reap() -> None:
    """Take note of the dead, which would otherwise stay listed where process 1 does not."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def _adopt_orphans() -> None:
    """Become the parent of descendants whose own parent died, so that we still find them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _stop_at_end_of_input(keeper: Keeper) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    keeper.stop()


def main(command: list[str]) -> int:
    """Keep ``command`` while our parent lives."""
    keeper = Keeper()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, keeper.stop)
    _adopt_orphans()
    threading.Thread(target=_stop_at_end_of_input, args=(keeper,), daemon=True).start()
    return keeper.keep(command)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
