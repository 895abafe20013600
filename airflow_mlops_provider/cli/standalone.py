"""``airflow-mlops standalone``: the whole stack on one machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("standalone", help="run MLflow, the serving host and Airflow here")
    parser.add_argument("--home", type=Path, default=Path("mlops"), help="where data is kept")
    parser.add_argument("--dags", type=Path, default=Path("dags"), help="folder of DAG files")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the stack until the process is told to stop."""
    from airflow_mlops_provider.stack.standalone import run_standalone

    return run_standalone(options.home, options.dags)
