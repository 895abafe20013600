"""``airflow-mlops serve``: run the serving host."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from airflow_mlops_provider.cli.options import embedded_store

_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_PORT, _DEFAULT_ADMIN_PORT = 8601, 8600
_DEFAULT_ORPHAN_SECONDS, _DEFAULT_HUNG_SECONDS = 600.0, 30.0


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
    parser.add_argument(
        "--orphan-seconds",
        type=float,
        default=_DEFAULT_ORPHAN_SECONDS,
        help="how long router and scorers serve on when this host is killed, for another to "
        "adopt them",
    )
    parser.add_argument(
        "--hung-seconds",
        type=float,
        default=_DEFAULT_HUNG_SECONDS,
        help="how long a scorer may be silent before it is replaced",
    )
    parser.add_argument(
        "--public-metrics",
        action="store_true",
        help="let /metrics of the admin API be read without the token",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Serve until the process is told to stop."""
    from airflow_mlops_provider.serving.service import ServeOptions, serve

    workspace = options.workspace.absolute()
    serve(
        ServeOptions(
            workspace=workspace,
            tracking_uri=options.tracking_uri or embedded_store(str(workspace)),
            host=options.host,
            port=options.port,
            admin_port=options.admin_port,
            orphan_seconds=options.orphan_seconds,
            hung_seconds=options.hung_seconds,
            public_metrics=options.public_metrics,
        ),
        announce=lambda line: print(line, flush=True),
    )
    return 0
