"""``airflow-mlops serve``: run the serving host."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from airflow_mlops_provider.cli.options import embedded_store

_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_PORT, _DEFAULT_ADMIN_PORT = 8601, 8600


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("serve", help="run the serving host of a workspace")
    parser.add_argument("--workspace", required=True, type=Path, help="local folder")
    parser.add_argument("--host", default=_DEFAULT_HOST, help="address to bind to")
    parser.add_argument(
        "--port", type=int, default=_DEFAULT_PORT, help="port of the router; 0 takes a free one"
    )
    parser.add_argument(
        "--admin-port",
        type=int,
        default=_DEFAULT_ADMIN_PORT,
        help="port of the admin API; 0 takes a free one",
    )
    parser.add_argument(
        "--tracking-uri", help="MLflow registry of the models; by default the workspace's SQLite"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until the process is told to stop."""
    from airflow_mlops_provider.serving.admin import ServeOptions, serve

    workspace = options.workspace.absolute()
    serve(
        ServeOptions(
            workspace=workspace,
            tracking_uri=options.tracking_uri or embedded_store(str(workspace)),
            host=options.host,
            port=options.port,
            admin_port=options.admin_port,
        ),
        announce=lambda line: print(line, flush=True),
    )
    return 0
