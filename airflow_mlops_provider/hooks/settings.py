"""Where the ``[mlops]`` section of the Airflow configuration is read, and nowhere else."""

from __future__ import annotations

import os

from airflow.sdk import conf

SECTION = "mlops"


def workspace_uri() -> str:
    """Return the workspace of this Airflow: ``[mlops] workspace``, by default ``mlops``.

    A relative path lies beside the DAGs folder, so that tasks, triggerer and API server find
    the same one from whatever folder each of them runs in.
    """
    configured: str = conf.get(SECTION, "workspace", fallback="") or "mlops"
    if "://" in configured:
        return configured
    beside = os.path.join(conf.get("core", "dags_folder"), os.pardir)
    return os.path.abspath(os.path.join(beside, os.path.expanduser(configured)))
