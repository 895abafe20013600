"""How often a drift check cries wolf when nothing drifted, and how often it finds what did.

Reference and current rows come from one distribution, and both are drawn anew for each check.
One kind of dataset has 20 columns: 12 numbers, and eight texts of 5 to 500 levels, uniform or
Zipf. The other has one number and one such text, so that a single false alarm is one of the
dataset. Ours is the verdict as shipped, theirs the figure that is the goal. The goal also names the
95 % upper bound of ours (Clopper and Pearson 1934), which has to keep it, and what the usual fixed
rule does with the same bins and share of features (0.3).

Counts are drawn instead of rows (multinomial), which is the same in distribution: of levels
because rows are independent, and of numbers because the probabilities between quantiles of a
sample follow a Dirichlet distribution, whatever its continuous distribution is. A check in which
no PSI reaches 0.1, where no verdict but "stable" is possible, ends there. Power is measured on
rows, through the functions that users call.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.stats import beta

from airflow_mlops_provider.steps.drift.cells import Cells
from airflow_mlops_provider.steps.drift.compare import detect_drift
from airflow_mlops_provider.steps.drift.profile import FeatureProfile
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.drift.statistics import psi
from airflow_mlops_provider.steps.drift.verdict import Rule, judged, measured, verdict_on
from airflow_mlops_provider.steps.snapshot import write_dataset
from benchmarks import Measure

MAX_ALARMS, MIN_POWER = 0.01, 0.95
MAX_SHARE, MIN_PSI = 0.3, 0.1
ROWS = ((300, 300), (1_000, 1_000), (20_000, 1_000), (20_000, 20_000), (1_000_000, 1_000_000))
LEVELS = (5, 20, 100, 500)
Feature = tuple[Cells, np.ndarray]


def run(quick: bool) -> list[Measure]:
    """Take 1,000 checks each, of power 200; when quick 40 and 20."""
    checks, shifts = (40, 20) if quick else (1_000, 200)
    return [
        *(false_alarms(n, columns, checks) for n in ROWS for columns in (20, 2)),
        power(shifts),
    ]


def false_alarms(n: tuple[int, int], columns: int, checks: int) -> Measure:
    """Return the share of checks without drift that end with the verdict "drifted"."""
    rng = np.random.default_rng(20130101)
    alarms = np.array([alarm([*features(rng, n, columns, turn)]) for turn in range(checks)])
    ours, naive = alarms.mean(axis=0)
    upper = upper_bound(int(alarms[:, 0].sum()), checks)
    # so few checks cannot show the goal: they only have to be compatible with it
    quick = upper_bound(0, checks) > MAX_ALARMS
    return Measure(
        name=f"{n[0]:,} / {n[1]:,} rows, {columns} columns: alarms",
        ours=float(ours),
        theirs=MAX_ALARMS,
        unit="share",
        goal=f"at most {MAX_ALARMS:.0%} (upper bound {upper:.2%}; PSI > {MIN_PSI}: {naive:.0%})",
        holds=bool(ours <= MAX_ALARMS if quick else upper <= MAX_ALARMS),
        n=checks,
    )


def power(checks: int) -> Measure:
    """Return how often a shift by half a standard deviation is found at 2,000 rows."""
    rng = np.random.default_rng(20130101)
    found = []
    with tempfile.TemporaryDirectory() as workspace:
        for _ in range(checks):
            rows = pd.DataFrame({"x": rng.normal(size=2_000)})
            profile = profile_dataset(
                write_dataset(rows, "reference", workspace, "simulation"), None, workspace
            )
            shifted = pd.DataFrame({"x": rng.normal(0.5, 1, 2_000)})
            report = detect_drift(shifted, profile)
            found.append(report.verdict == "drifted")
    ours = np.mean(found)
    return Measure(
        name="2,000 / 2,000 rows, 0.5 sigma: found",
        ours=float(ours),
        theirs=MIN_POWER,
        unit="share",
        goal=f"at least {MIN_POWER:.0%}",
        holds=bool(ours >= MIN_POWER),
        n=checks,
    )


def alarm(drawn: list[Feature]) -> tuple[bool, bool]:
    """Return whether ours and the fixed rule call a dataset drifted."""
    effects = [psi(cells.bins(cells.reference), cells.bins(rows)) for cells, rows in drawn]
    naive = np.mean(np.array(effects) > MIN_PSI) >= MAX_SHARE
    if max(effects) < MIN_PSI:
        return False, naive
    found = judged([measured(cells, rows) for cells, rows in drawn])
    rule = Rule(MAX_SHARE, {cells.name: 1.0 for cells, _ in drawn})
    return verdict_on(found, rule)[0] == "drifted", naive


def features(
    rng: np.random.Generator, n: tuple[int, int], columns: int, turn: int
) -> Iterator[Feature]:
    """Yield each column of a dataset with its current rows a cell; the texts take turns."""
    n_texts = 8 if columns == 20 else 1
    for number in range(columns - n_texts):
        yield numeric(rng, f"number {number}", *n)
    for text in range(n_texts):
        levels = LEVELS[(text + turn) // 2 % len(LEVELS)]
        weights = 1 / np.arange(1, levels + 1) ** ((text + turn) % 2)
        yield categorical(rng, f"text {text}", weights / weights.sum(), *n)


def numeric(rng: np.random.Generator, name: str, n_reference: int, n_current: int) -> Feature:
    """Draw a continuous column; its ten bins lie between deciles of the reference."""
    a_bin = n_reference // 10
    spacings = rng.dirichlet([*[a_bin] * 9, a_bin + 1])
    edges = [float(edge) for edge in range(1, 10)]
    counts = [*[a_bin] * 10, 0]
    profile = FeatureProfile(kind="numeric", type="double", counts=counts, edges=edges, bins=edges)
    return Cells(name, profile), np.append(rng.multinomial(n_current, spacings), 0)


def categorical(
    rng: np.random.Generator, name: str, p: np.ndarray, n_reference: int, n_current: int
) -> Feature:
    """Draw a column of texts; the profile knows the levels that its reference has."""
    reference, current = rng.multinomial(n_reference, p), rng.multinomial(n_current, p)
    order = np.argsort(-reference, kind="stable")
    known = order[reference[order] > 0]
    unseen = n_current - current[known].sum()
    profile = FeatureProfile(
        kind="categorical",
        type="string",
        counts=[*reference[known].tolist(), 0, 0],
        levels=[str(level) for level in known],
    )
    return Cells(name, profile), np.array([*current[known], unseen, 0])


def upper_bound(alarms: int, checks: int) -> float:
    """Return the upper end of the two-sided 95 % interval of a share."""
    return float(beta.ppf(0.975, alarms + 1, checks - alarms)) if alarms < checks else 1.0
