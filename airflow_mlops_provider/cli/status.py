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

    with ServingClient.from_workspace(options.workspace) as client:
        endpoints = client.list_endpoints()
        for ref in endpoints:
            print(f"{ref.endpoint}  {ref.url}/invocations  generation {ref.generation}")
            processes = client.status(ref.endpoint)
            for name, model_uri in ref.deployments.items():
                shares = f"{ref.traffic.get(name, 0):3d} %"
                mirrored = ref.mirror_traffic.get(name)
                shadow = f", mirrors {mirrored} %" if mirrored else ""
                print(f"  {name:<20} {shares}{shadow}  {model_uri}")
                print(f"  {'':<20} {_health(processes.get(name))}")
    if not endpoints:
        print("No endpoints yet.")
    return 0


def _health(found: dict[str, Any] | None) -> str:
    """Say in a line how the scorers of a deployment are."""
    if found is None:  # it was created between our two questions
        return "starting"
    workers = found["workers"]
    healthy = sum(each["healthy"] for each in workers)
    memory = ", ".join(f"{each['memory_mb']:.0f}" for each in workers) or "0"
    restarts = ", ".join(f"{n} {reason}" for reason, n in found["restarts"].items()) or "none"
    return f"{healthy} of {found['wanted']} healthy, {memory} MB, restarts: {restarts}"
