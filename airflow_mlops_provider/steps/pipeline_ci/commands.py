"""Commands of a stage, each with a time limit, a log, and nothing that outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from airflow_mlops_provider.exceptions import PipelineStageError, StepFailedError
from airflow_mlops_provider.stack import keeper

_LAST_LINES = 40
_LONGEST_LINE = 400
_KILLED = {256 - number: number.name for number in (signal.SIGKILL, signal.SIGTERM)}
"""Signals that come from outside, by exit code as the keeper passes it on."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    what: str
    code: int
    last_lines: str
    seconds: float | None = None
    """The limit it ran into, if it did."""

    def succeeded(self) -> bool:
        """Tell whether it ended well.

        Raises:
            StepFailedError: a signal killed it, which a retry may help.
        """
        if self.seconds is None and self.code in _KILLED:
            raise StepFailedError(
                f"{self.what} was killed by {_KILLED[self.code]}. SIGKILL often comes from the "
                f"kernel, out of memory: give the worker more. Its last lines:\n{self.last_lines}"
            )
        return self.code == 0 and self.seconds is None

    def reason(self) -> str:
        """Say how it failed, with its last lines."""
        how = f"ended with exit code {self.code}"
        if self.seconds is not None:
            how = f"was not done after {self.seconds:g} s, and was ended"
        return f"{self.what} {how}. Its last lines:\n{self.last_lines}"


class Commands:
    """Runs the commands of one stage; the whole output of each goes to a log of its own.

    Args:
        stage: Name of the stage, for errors.
        environment: All the environment variables that the commands get.
        logs: Folder of the logs.
        say: Told each line of output as it comes.
    """

    def __init__(
        self, stage: str, environment: Mapping[str, str], logs: Path, say: Callable[[str], None]
    ) -> None:
        self.stage = stage
        self.logs = logs
        self._environment = environment
        self._say = say
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(
        self,
        what: str,
        command: Sequence[str | Path],
        *,
        folder: Path,
        seconds: float,
        variables: Mapping[str, str] | None = None,
    ) -> Ended:
        """Run a command to its end or for ``seconds``; its children end with it, or with us.

        Args:
            what: What it does, in a word or two; also names the log.
            command: Program and arguments.
            folder: Where it works.
            seconds: How long it may take.
            variables: Environment variables beside those of the stage.

        Raises:
            StepFailedError: it was stopped.
        """
        self.logs.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(  # noqa: S603 - what the author of the pipeline wrote
            [sys.executable, "-I", keeper.__file__, *map(str, command)],
            stdin=subprocess.PIPE,  # closes when we die, on which the keeper ends the command
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={"PYTHONUNBUFFERED": "1", **self._environment, **(variables or {})},
            start_new_session=True,
        )
        expired = threading.Event()
        limit = threading.Timer(seconds, self._expire, [expired])
        limit.daemon = True
        limit.start()
        with self._process:  # however this ends, waits until all that was started is gone
            try:
                last = self._follow(self.logs / f"{what.replace(' ', '-')}.log")
            finally:
                self._end()
                limit.cancel()
        if self._stopped:
            raise StepFailedError(f"{what} was stopped before it was done; run the stage again.")
        return Ended(what, self._process.returncode, last, seconds if expired.is_set() else None)

    def stop(self) -> None:
        """Have the running command ended, with all its children."""
        self._stopped = True
        self._end()

    def refusal(self, commit: str, reason: str) -> PipelineStageError:
        """Word that this stage does not let a commit through."""
        return PipelineStageError(
            f"The {self.stage} stage refused commit {commit[:12]}: {reason}\nCorrect it in a new "
            "commit; the logs are artifacts of the task's MLflow run."
        )

    def _end(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    def _expire(self, expired: threading.Event) -> None:
        expired.set()
        self._end()

    def _follow(self, log: Path) -> str:
        last: deque[str] = deque(maxlen=_LAST_LINES)
        assert self._process is not None
        assert self._process.stdout is not None
        with log.open("ab") as file:
            for line in self._process.stdout:
                file.write(line)
                file.flush()
                last.append(line.decode(errors="replace").rstrip()[:_LONGEST_LINE])
                self._say(last[-1])
        return "\n".join(last)
