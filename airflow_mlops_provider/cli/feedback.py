"""``airflow-mlops feedback``: tell the serving host what turned out to be true."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("feedback", help="send true outcomes to the serving host")
    parser.add_argument("endpoint", metavar="ENDPOINT")
    parser.add_argument(
        "file",
        metavar="FILE",
        help="an outcome a line as JSON: label, and request_id or entity_id and event_ts; - reads "
        "standard input",
    )
    parser.add_argument("--workspace", required=True, help="folder or fsspec URI")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Send all lines, and say how many there were."""
    from airflow_mlops_provider.serving.client import ServingClient

    if options.file == "-":
        outcomes = list(_outcomes(sys.stdin))
    else:
        try:
            with Path(options.file).open() as file:
                outcomes = list(_outcomes(file))
        except OSError as error:
            raise ParameterError(f"Cannot read {options.file}: {error.strerror}.") from error
    with ServingClient.from_workspace(options.workspace) as client:
        sent = client.send_feedback(options.endpoint, outcomes)
    print(f"{len(sent)} outcomes of {options.endpoint} are kept.")
    return 0


def _outcomes(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                outcome = json.loads(line)
            except ValueError as error:
                raise ParameterError(f"Line {number} is not JSON: {error}.") from error
            yield outcome
