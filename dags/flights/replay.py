"""``python -m flights.replay``: the year 2013 month by month, monitored and retrained.

1. ``replay_data.py``: flights, features and labels as they were known at the time.
2. ``replay_models.py``: training, evaluation and gate, as in the level 1 pipeline.
3. ``replay_live.py``: predictions of a month, its labels, and the monitor's look at them.
4. ``replay_policies.py``: a champion under several policies of retraining.
5. ``replay_results.py``: what that cost and brought; ``replay_page.py`` and
   ``replay_pictures.py``: what people see of it.

All are the package's own steps on real flights, without Airflow; nothing is random.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flights.landing import MONTHS
from flights.months import TRAINING_MONTHS
from flights.replay_data import land_year, landed
from flights.replay_live import Live, Service
from flights.replay_models import Candidate, Workshop, tracking_in
from flights.replay_page import page
from flights.replay_pictures import save_pictures
from flights.replay_policies import POLICIES, follow
from flights.replay_results import Replay, courses


class Year:
    """The world of the flights: one workshop and one service, in a folder of their own."""

    def __init__(self, folder: str, tracking_uri: str) -> None:
        workshop = Workshop(folder, tracking_uri)
        self.train, self.gate = workshop.train, workshop.gate
        self._service = Service(workshop)

    def live(self, champion: Candidate, month: str) -> Live:
        """Serve a month, and say so."""
        live = self._service.live(champion, month)
        found = ", ".join(live.report.signals) or "no signal"
        _say(f"{month}, served by what learned until {champion.month}: {found}")
        return live


def replay(months: Sequence[str], first: int = TRAINING_MONTHS) -> Replay:
    """Train on the ``first`` of ``months`` and serve the rest under each policy.

    Args:
        months: Some of ``landing.MONTHS``, one after the other.
        first: How many of them the first champion learns from.
    """
    with tempfile.TemporaryDirectory(prefix="replay-") as folder, tracking_in(folder) as tracking:
        land_year(folder, months)
        year = Year(folder, tracking)
        champion = year.train(months[first - 1])
        served = {}
        for policy in POLICIES:
            _say(f"--- {policy.name}")
            served[policy.name] = list(follow(policy, year, champion, months[first:]))
        return Replay([landed(folder, month) for month in months[:first]], courses(served))


def main() -> None:
    """Replay the year, print what was found and perhaps keep it for the documentation."""
    parser = argparse.ArgumentParser(prog="python -m flights.replay")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="keep page and pictures there")
    folder = parser.parse_args().save
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    start = time.monotonic()
    found = replay(MONTHS)
    text = page(found)
    print(text)
    if folder:
        save_pictures(found, folder / "images")
        (folder / "replay.md").write_text(text)
    _say(f"The replay took {time.monotonic() - start:.0f} s")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


if __name__ == "__main__":
    main()
