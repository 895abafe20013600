from __future__ import annotations

import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.experiment.units import Arm, measured

ARMS = ("v1", "v2")


def moments(seconds):
    return pd.to_datetime(list(seconds), unit="s", utc=True)


def exposures(*rows):
    """Rows of request, entity, deployment, second."""
    frame = pd.DataFrame(rows, columns=["request_id", "entity_id", "deployment", "ts"])
    return frame.assign(ts=moments(frame["ts"]))


def outcomes(key, *rows):
    """Rows of key, second, value."""
    frame = pd.DataFrame(rows, columns=[key, "ts", "value"])
    return frame.assign(ts=moments(frame["ts"]), value=frame["value"].astype(float))


SEEN = exposures(
    ("r1", "a", "v1", 1),
    ("r2", "a", "v1", 2),
    ("r3", "b", "v2", 3),
    ("r4", "c", "v2", 4),
    ("r5", None, "v2", 5),
    ("r6", "d", "v1", 90),
)


def test_requests_are_units_of_their_own():
    told = outcomes("request_id", ("r1", 10, 1), ("r2", 10, 3), ("r3", 10, 5), ("r9", 10, 7))
    found = measured(SEEN, told, deployments=ARMS, mature_before=50)
    assert found.arms["v1"] == Arm(exposed=3, mature=2, units=2, mean=2.0, variance=2.0)
    assert found.arms["v2"] == Arm(exposed=3, mature=3, units=1, mean=5.0)
    assert found.coverage == pytest.approx(3 / 5)
    assert found.unmatched == 1


@pytest.mark.parametrize("key", ["request_id", "entity_id"])
def test_an_entity_is_one_unit_however_often_it_came(key):
    rows = {
        "request_id": [("r1", 10, 1), ("r2", 10, 3), ("r3", 10, 5)],
        "entity_id": [("a", 10, 1), ("a", 12, 3), ("b", 10, 5)],
    }
    told = outcomes(key, *rows[key])
    found = measured(SEEN, told, deployments=ARMS, mature_before=50, unit="entity")
    assert found.arms["v1"] == Arm(exposed=2, mature=1, units=1, mean=2.0)
    assert found.arms["v2"] == Arm(exposed=2, mature=2, units=1, mean=5.0)
    assert found.without_key == 1


def test_what_an_entity_did_before_it_was_exposed_is_not_counted():
    told = outcomes("entity_id", ("b", 2, 9), ("b", 4, 1))
    found = measured(SEEN, told, deployments=ARMS, mature_before=50, unit="entity")
    assert found.arms["v2"].mean == 1
    assert found.unmatched == 1


def test_an_early_outcome_of_a_young_request_has_to_wait():
    told = outcomes("request_id", ("r6", 91, 1))
    found = measured(SEEN, told, deployments=ARMS, mature_before=50)
    assert found.arms["v1"].units == 0


def test_a_rate_asks_whether_anything_happened():
    told = outcomes("request_id", ("r1", 10, 0), ("r1", 11, 1), ("r2", 10, 0))
    found = measured(SEEN, told, deployments=ARMS, mature_before=50, metric="rate")
    assert (found.arms["v1"].events, found.arms["v1"].units) == (1, 2)


def test_no_outcome_may_mean_zero():
    told = outcomes("request_id", ("r3", 10, 6))
    found = measured(SEEN, told, deployments=ARMS, mature_before=50, missing="zero")
    assert (found.arms["v1"].mean, found.arms["v1"].units) == (0, 2)
    assert (found.arms["v2"].mean, found.arms["v2"].units) == (2, 3)
    assert found.coverage == 1


def test_who_changes_sides_stays_where_it_was_first():
    seen = exposures(("r1", "a", "v1", 1), ("r2", "a", "v2", 2))
    told = outcomes("entity_id", ("a", 3, 4))
    found = measured(seen, told, deployments=ARMS, mature_before=50, unit="entity")
    assert (found.arms["v1"].units, found.arms["v2"].units, found.crossovers) == (1, 0, 1)


def test_entities_cannot_be_told_apart_by_request():
    with pytest.raises(DataError, match="unit='entity'"):
        measured(SEEN, outcomes("entity_id", ("a", 1, 1)), deployments=ARMS, mature_before=50)


def test_nothing_yet_is_no_evidence():
    empty = SEEN[:0]
    found = measured(empty, outcomes("request_id"), deployments=ARMS, mature_before=50)
    assert found.arms == {"v1": Arm(), "v2": Arm()}
    assert found.coverage == 0
