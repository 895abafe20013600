"""Child processes of the serving host: start, report, stop, and no orphan left."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

from airflow_mlops_provider.exceptions import ModelError

_PR_SET_PDEATHSIG = 1
_STOP_SECONDS = 15
_TAIL_LINES = 15
_TAIL_BYTES = 16_384
# Most requests hold one row: handing it to a team of threads costs more than predicting it.
_SCORER_ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
_libc = ctypes.CDLL(None)  # loaded here, because a forked child should load nothing


async def spawn(
    command: Sequence[str],
    log_file: Path,
    *,
    report: bool = False,
    defaults: Mapping[str, str] | None = None,
) -> Process:
    """Start ``command``, which dies with the host, but of Ctrl-C only when the host says so.

    Args:
        command: Program and arguments.
        log_file: Where its standard error goes, appended.
        report: Give its standard output to the caller as a pipe.
        defaults: Environment variables for it where ours has none.
    """
    host = os.getpid()
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=DEVNULL,
            stdout=PIPE if report else log,
            stderr=log,
            env={**(defaults or {}), **os.environ},
            start_new_session=True,
            preexec_fn=lambda: _die_with(host),
        )


async def stop(process: Process) -> None:
    """Ask a process to end, and kill it after 15 seconds."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
    await process.wait()


async def start_scorer(
    folder: Path, tracking_uri: str, endpoint: str, deployment: str, model_uri: str, timeout: float
) -> tuple[Process, int]:
    """Start a scorer and wait until its model is loaded.

    Args:
        folder: The host's folder in the workspace.
        tracking_uri: Registry that the model comes from.
        endpoint: Endpoint it serves.
        deployment: Name of the deployment.
        model_uri: Model to load.
        timeout: Seconds until it has to be ready.

    Returns:
        The process and its port.

    Raises:
        ModelError: it ended or was not ready in time; carries the last lines of its log.
    """
    log_file = folder / "processes" / f"{endpoint}.{deployment}.log"
    options = {
        "endpoint": endpoint,
        "deployment": deployment,
        "model-uri": model_uri,
        "tracking-uri": tracking_uri,
        "folder": str(folder),
    }
    command = [sys.executable, "-m", "airflow_mlops_provider.serving.scorer"]
    command += [f"--{name}={value}" for name, value in options.items()]
    process = await spawn(command, log_file, report=True, defaults=_SCORER_ENVIRONMENT)
    try:
        return process, await asyncio.wait_for(_reported_port(process), timeout)
    except (TimeoutError, ValueError) as error:
        await stop(process)
        what = f"was not ready in {timeout:g} s" if isinstance(error, TimeoutError) else "ended"
        raise ModelError(
            f"The scorer of {model_uri} {what}. Check that {tracking_uri} has this model, and "
            f"read {log_file}. Its last log lines:\n{tail(log_file)}"
        ) from error
    except BaseException:
        process.kill()
        raise


def tail(path: Path) -> str:
    """Return the last 15 lines of a text file."""
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return "\n".join(file.read().decode(errors="replace").splitlines()[-_TAIL_LINES:])


def _die_with(host: int) -> None:
    """Have the kernel kill this process when the host dies, however it dies (Linux only)."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != host:
        os._exit(1)


async def _reported_port(process: Process) -> int:
    assert process.stdout is not None
    return int(json.loads(await process.stdout.readline())["port"])
