"""Names of the columns that the pipeline speaks of."""

from __future__ import annotations

ENTITY = "flight_id"
TIME = "event_timestamp"
TARGET = "late"

NUMERIC = [
    "distance",
    "dep_hour",
    "day_of_week",
    "temp",
    "dewp",
    "humid",
    "wind_speed",
    "precip",
    "pressure",
    "visib",
    "late_rate_7d",
    "late_rate_28d",
    "flights_7d",
    "flights_28d",
    "age",
    "seats",
    "engines",
]
CATEGORICAL = ["carrier", "origin", "dest"]
BASIC = [*NUMERIC[:3], *CATEGORICAL]
"""What the landed flights hold by themselves, without any join."""
FEATURES = [*NUMERIC, *CATEGORICAL]
"""What a model may see: all of it is known an hour before the scheduled departure."""
