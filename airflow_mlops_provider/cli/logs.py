"""``airflow-mlops logs``: what the scorers of an endpoint say, or what they predicted."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from airflow_mlops_provider.exceptions import ParameterError

_POLL_SECONDS = 0.5


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("logs", help="show the logs of an endpoint's scorers")
    parser.add_argument("endpoint", metavar="ENDPOINT")
    parser.add_argument("deployment", nargs="?", metavar="DEPLOYMENT", help="by default all")
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    parser.add_argument(
        "--predictions", action="store_true", help="the prediction log: a line of JSON a row"
    )
    parser.add_argument("--workspace", required=True, type=Path, help="local folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the lines of the logs, file by file, and for ever if told to follow."""
    from airflow_mlops_provider.serving.state import valid_name

    endpoint = valid_name("endpoint", options.endpoint)
    deployment = options.deployment and valid_name("deployment", options.deployment)
    serving = options.workspace / "serving"
    files = _predictions if options.predictions else _processes

    def found() -> list[Path]:
        return files(serving, endpoint, deployment)

    if not found() and not options.follow:
        what = endpoint if deployment is None else f"{endpoint}/{deployment}"
        raise ParameterError(
            f"No log of {what} under {serving}. `airflow-mlops status` shows what is served."
        )
    with contextlib.suppress(KeyboardInterrupt):
        for line in lines(found, follow=options.follow):
            sys.stdout.write(line)
            sys.stdout.flush()
    return 0


def lines(files: Callable[[], list[Path]], *, follow: bool) -> Iterator[str]:
    """Give the whole lines of files as they grow, also of those that come later.

    Args:
        files: Which files there are now; a file may be renamed.
        follow: Go on for ever.
    """
    opened: dict[int, BinaryIO] = {}
    while True:
        for path in files():
            with contextlib.suppress(FileNotFoundError):  # it has just been renamed
                inode = path.stat().st_ino  # a segment keeps it when it is closed and renamed
                if inode not in opened:
                    opened[inode] = path.open("rb")
                yield from _whole_lines(opened[inode])
        if not follow:
            break
        time.sleep(_POLL_SECONDS)
    for file in opened.values():
        file.close()


def _whole_lines(file: BinaryIO) -> Iterator[str]:
    while line := file.readline():
        if not line.endswith(b"\n"):
            file.seek(-len(line), 1)
            return
        yield line.decode(errors="replace")


def _processes(serving: Path, endpoint: str, deployment: str | None) -> list[Path]:
    found = sorted((serving / "processes").glob(f"{endpoint}.*.log"))
    return [each for each in found if deployment in (None, each.name.split(".")[1])]


def _predictions(serving: Path, endpoint: str, deployment: str | None) -> list[Path]:
    folder = serving / "logs" / endpoint
    found = [path for path in folder.glob("*") if path.suffix in (".jsonl", ".open")]
    mine = [path for path in found if deployment in (None, path.stem.rsplit("-", 2)[0])]
    return sorted(mine, key=lambda path: path.stem.rsplit("-", 1)[1])
