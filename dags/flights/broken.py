"""Months as they arrive when something went wrong upstream, to see what the data gate does.

``python -m flights.broken values 2013-03 --workspace W`` writes them beside the good ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from airflow_mlops_provider.workspace import atomic_path, join
from flights.landing import flights_of

if TYPE_CHECKING:
    import pandas as pd

BREAKS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "schema": lambda frame: frame.assign(distance=frame["distance"].astype(str) + " mi"),
    "values": lambda frame: frame.assign(distance=(frame["distance"] * 1.609).astype("int64")),
}
"""A number that became text; miles that became kilometres."""


def land_broken(workspace: str, month: str, how: str) -> str:
    """Write the flights of ``month``, broken in one of the ways of ``BREAKS``; return the URI."""
    uri = join(workspace, "landing", "broken", how, f"{month}.parquet")
    with atomic_path(uri) as temporary:
        broken = BREAKS[how](flights_of(month))
        broken.to_parquet(temporary, index=False, coerce_timestamps="us")
    return uri


def main() -> None:
    """Land a broken month named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m flights.broken", description=__doc__)
    parser.add_argument("how", choices=BREAKS)
    parser.add_argument("month", metavar="YYYY-MM")
    parser.add_argument("--workspace", required=True)
    arguments = parser.parse_args()
    print(land_broken(arguments.workspace, arguments.month, arguments.how))


if __name__ == "__main__":
    main()
