"""The ``airflow-mlops`` command; each subcommand is one function that adds itself."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow_mlops_provider.exceptions import MlopsError

_DEFAULT_HOST = "127.0.0.1"
_DEFAULT_PORT, _DEFAULT_ADMIN_PORT = 8601, 8600


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
    _add_serve(commands)
    _add_status(commands)
    _add_standalone(commands)
    return parser


def _add_serve(commands: Any) -> None:
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
    parser.set_defaults(run=_serve)


def _serve(options: argparse.Namespace) -> int:
    from airflow_mlops_provider.serving.admin import ServeOptions, serve

    workspace = options.workspace.absolute()
    serve(
        ServeOptions(
            workspace=workspace,
            tracking_uri=options.tracking_uri or f"sqlite:///{workspace}/mlflow/mlflow.db",
            host=options.host,
            port=options.port,
            admin_port=options.admin_port,
        ),
        announce=lambda line: print(line, flush=True),
    )
    return 0


def _add_status(commands: Any) -> None:
    parser = commands.add_parser("status", help="show endpoints, deployments and traffic")
    parser.add_argument("--workspace", required=True, help="folder or fsspec URI")
    parser.set_defaults(run=_status)


def _status(options: argparse.Namespace) -> int:
    from airflow_mlops_provider.serving.client import ServingClient

    endpoints = ServingClient.from_workspace(options.workspace).list_endpoints()
    for ref in endpoints:
        print(f"{ref.endpoint}  {ref.url}/invocations  generation {ref.generation}")
        for name, model_uri in ref.deployments.items():
            shares = f"{ref.traffic.get(name, 0):3d} %"
            mirrored = ref.mirror_traffic.get(name)
            shadow = f", mirrors {mirrored} %" if mirrored else ""
            print(f"  {name:<20} {shares}{shadow}  {model_uri}")
    if not endpoints:
        print("No endpoints yet.")
    return 0


def _add_standalone(commands: Any) -> None:
    parser = commands.add_parser("standalone", help="run MLflow, the serving host and Airflow here")
    parser.add_argument("--home", type=Path, default=Path("mlops"), help="where data is kept")
    parser.add_argument("--dags", type=Path, default=Path("dags"), help="folder of DAG files")
    parser.set_defaults(run=_standalone)


def _standalone(options: argparse.Namespace) -> int:
    from airflow_mlops_provider.stack.standalone import run_standalone

    return run_standalone(options.home, options.dags)


if __name__ == "__main__":
    sys.exit(main())
