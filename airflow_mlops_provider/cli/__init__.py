"""The ``airflow-mlops`` command: one module per subcommand, which adds itself to the parser."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from airflow_mlops_provider.cli import (
    doctor,
    feedback,
    init,
    logs,
    reproduce,
    runs,
    serve,
    standalone,
    status,
)
from airflow_mlops_provider.exceptions import MlopsError

_COMMANDS = (init, serve, status, logs, feedback, standalone, runs, reproduce, doctor)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return its exit code; our own errors become one line."""
    options = build_parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except MlopsError as error:
        print(f"airflow-mlops: {error}", file=sys.stderr)
        return 1


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with all subcommands."""
    parser = argparse.ArgumentParser(prog="airflow-mlops", description="MLOps for Airflow.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_parser(commands)
    return parser
