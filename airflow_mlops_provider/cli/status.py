"""``airflow-mlops status``: what the serving host serves."""

from __future__ import annotations

import argparse
from typing import Any


def add_parser(commands: Any) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("status", help="show endpoints, deployments and traffic")
    parser.add_argument("--workspace", required=True, help="folder or fsspec URI")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Ask the serving host of a workspace, and print its answer."""
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
