"""Options that several subcommands share."""

from __future__ import annotations

import argparse
import os

from airflow_mlops_provider.exceptions import ParameterError


def add_tracking_options(parser: argparse.ArgumentParser) -> None:
    """Let a subcommand be told where MLflow is."""
    parser.add_argument("--tracking-uri", help="MLflow; by default MLFLOW_TRACKING_URI")
    parser.add_argument("--workspace", help="folder or fsspec URI whose embedded MLflow to use")


def tracking_uri(options: argparse.Namespace) -> str:
    """Return the URI of MLflow that the options or the environment name.

    Raises:
        ParameterError: none of them names one.
    """
    if options.tracking_uri:
        return str(options.tracking_uri)
    if options.workspace:
        return embedded_store(str(options.workspace))
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    raise ParameterError(
        "Where MLflow is was not said. Give --tracking-uri or --workspace, or set "
        "MLFLOW_TRACKING_URI."
    )


def embedded_store(workspace: str) -> str:
    """Return the URI of the SQLite store in a workspace."""
    folder = workspace if "://" in workspace else os.path.abspath(workspace)
    return f"sqlite:///{folder}/mlflow/mlflow.db"
