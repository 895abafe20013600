"""Where the ``[mlops]`` section of the Airflow configuration is read, and nowhere else."""

from __future__ import annotations

import os

from airflow.sdk import conf

SECTION = "mlops"


def workspace_uri() -> str:
    """Return the workspace of this Airflow: ``[mlops] workspace``, by default a local folder."""
    default = os.path.join(conf.get("core", "dags_folder"), os.pardir, "mlops")
    return conf.get(SECTION, "workspace", fallback="") or os.path.abspath(default)
