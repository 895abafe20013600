"""Exposures joined with outcomes: what each arm of an experiment gave, unit by unit.

A unit is what was randomised: a request or, when assignment sticks to it, an entity. An entity
with a thousand requests is one unit, because its requests are no independent evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import numpy as np

from airflow_mlops_provider.exceptions import DataError

if TYPE_CHECKING:
    import pandas as pd

Unit = Literal["request", "entity"]
Metric = Literal["mean", "rate"]
Missing = Literal["ignore", "zero"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """The units of one deployment; JSON numbers only."""

    exposed: int = 0
    mature: int = 0
    """Units that were exposed longer ago than the label delay."""
    units: int = 0
    """Mature units with an outcome: those that are compared."""
    mean: float = 0.0
    variance: float = 0.0
    """Unbiased variance between units; 0 below two."""

    @property
    def events(self) -> int:
        """Units whose outcome was 1, if outcomes are 0 or 1."""
        return round(self.mean * self.units)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """All arms at one look, and what could not be used."""

    arms: dict[str, Arm]
    crossovers: int = 0
    """Units that met several deployments; they count where they were first."""
    without_key: int = 0
    """Exposures without an ``entity_id``, when entities are the units."""
    unmatched: int = 0
    """Outcomes that belong to no mature exposure."""

    @property
    def coverage(self) -> float:
        """The share of mature units that have an outcome; 0 when there are none."""
        mature = sum(arm.mature for arm in self.arms.values())
        return sum(arm.units for arm in self.arms.values()) / mature if mature else 0.0


def measured(
    exposures: pd.DataFrame,
    outcomes: pd.DataFrame,
    *,
    deployments: Sequence[str],
    mature_before: float,
    unit: Unit = "request",
    metric: Metric = "mean",
    missing: Missing = "ignore",
) -> Arms:
    """Give each unit its outcome, and each arm its units; see :func:`mature_units`.

    Args:
        exposures: As :func:`read_exposures` gives them.
        outcomes: As :func:`read_outcomes` gives them.
        deployments: Names of the arms.
        mature_before: Exposures from then on (seconds since the epoch) are too young.
        unit: What was randomised.
        metric: How several outcomes of a unit become one.
        missing: What a mature unit without an outcome is.

    Raises:
        DataError: outcomes by entity cannot be given to requests.
    """
    known = exposures.dropna(subset=[f"{unit}_id"])
    met = known.groupby(f"{unit}_id", sort=False)["deployment"].agg(["first", "nunique"])
    units, unmatched = mature_units(
        exposures,
        outcomes,
        mature_before=mature_before,
        unit=unit,
        metric=metric,
        missing=missing,
    )
    return Arms(
        arms={
            name: _arm(
                int((met["first"] == name).sum()),
                units.loc[units["deployment"] == name, "value"],
            )
            for name in deployments
        },
        crossovers=int((met["nunique"] > 1).sum()),
        without_key=len(exposures) - len(known),
        unmatched=unmatched,
    )


def mature_units(
    exposures: pd.DataFrame,
    outcomes: pd.DataFrame,
    *,
    mature_before: float,
    unit: Unit,
    metric: Metric,
    missing: Missing,
) -> tuple[pd.DataFrame, int]:
    """Return the units that were exposed long enough ago, with what became of them.

    Args:
        exposures: As :func:`read_exposures` gives them.
        outcomes: As :func:`read_outcomes` gives them.
        mature_before: Exposures from then on (seconds since the epoch) are too young: outcomes
            that come early must not count more than those that come late.
        unit: What was randomised; several exposures of a unit count where the first one was.
        metric: ``mean`` takes the mean of a unit's outcomes, ``rate`` whether any is above 0.
        missing: A mature unit without an outcome is not known yet (``ignore``), or ``zero``.

    Returns:
        ``deployment``, ``ts`` and ``value`` (NaN where not known) by unit, and how many outcomes
        belong to no mature exposure.

    Raises:
        DataError: outcomes by entity cannot be given to requests.
    """
    key = f"{unit}_id"
    known = exposures.dropna(subset=[key])
    first = known.drop_duplicates(key).set_index(key)[["deployment", "ts"]]
    values, unmatched = _values(known, first, outcomes, key, mature_before, metric)
    units = first[first["ts"] < _moment(mature_before)]
    value = values.reindex(units.index)
    return units.assign(value=value.fillna(0.0) if missing == "zero" else value), unmatched


def _values(
    known: pd.DataFrame,
    first: pd.DataFrame,
    outcomes: pd.DataFrame,
    key: str,
    mature_before: float,
    metric: Metric,
) -> tuple[pd.Series, int]:
    """Return the value of each unit that has one, and how many outcomes found no unit."""
    if "request_id" in outcomes:
        exposed = known[known["ts"] < _moment(mature_before)]
        exposed = exposed[list(dict.fromkeys(["request_id", key]))]
        joined = outcomes.merge(exposed, on="request_id")
    elif key == "entity_id":
        joined = outcomes.merge(
            first[["ts"]], left_on=key, right_index=True, suffixes=("", "_first")
        )
        joined = joined[joined["ts"] >= joined["ts_first"]]
    else:
        raise DataError(
            "Outcomes by entity_id cannot be told apart by request. Give outcomes by request_id, "
            "or take unit='entity'."
        )
    units = joined.groupby(key)["value"]
    values = units.mean() if metric == "mean" else (units.max() > 0).astype(float)
    return values, len(outcomes) - len(joined)


def _arm(exposed: int, outcome: pd.Series) -> Arm:
    values = outcome.dropna().to_numpy(dtype=float)
    return Arm(
        exposed=exposed,
        mature=len(outcome),
        units=len(values),
        mean=float(values.mean()) if len(values) else 0.0,
        variance=float(np.var(values, ddof=1)) if len(values) > 1 else 0.0,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
