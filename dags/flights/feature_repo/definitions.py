"""What Feast knows of the flights."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import Float64, Int64

from airflow_mlops_provider.hooks.settings import workspace_uri
from flights.features import source_uri

origin = Entity(name="origin", value_type=ValueType.STRING, description="Airport of departure")
dest = Entity(name="dest", value_type=ValueType.STRING, description="Airport of arrival")
carrier = Entity(name="carrier", value_type=ValueType.STRING, description="Airline")
tailnum = Entity(name="tailnum", value_type=ValueType.STRING, description="Plane")


def _source(name: str) -> FileSource:
    uri = source_uri(workspace_uri(), name)
    return FileSource(name=f"{name}_file", path=uri, timestamp_field="event_timestamp")


weather_by_origin = FeatureView(
    name="weather_by_origin",
    description="Newest observation at the airport of departure",
    entities=[origin],
    ttl=timedelta(hours=6),
    schema=[
        Field(name=name, dtype=Float64)
        for name in ("temp", "dewp", "humid", "wind_speed", "precip", "pressure", "visib")
    ],
    source=_source("weather_by_origin"),
)

route_stats = FeatureView(
    name="route_stats",
    description="How an airline did on a route in the trailing days, of flights that had landed",
    entities=[origin, dest, carrier],
    ttl=timedelta(days=7),
    schema=[
        Field(name="late_rate_7d", dtype=Float64),
        Field(name="late_rate_28d", dtype=Float64),
        Field(name="flights_7d", dtype=Int64),
        Field(name="flights_28d", dtype=Int64),
    ],
    source=_source("route_stats"),
)

planes = FeatureView(
    name="planes",
    description="The plane itself",
    entities=[tailnum],
    ttl=timedelta(0),
    schema=[
        Field(name="age", dtype=Float64),
        Field(name="seats", dtype=Int64),
        Field(name="engines", dtype=Int64),
    ],
    source=_source("planes"),
)

flight_delay_v1 = FeatureService(
    name="flight_delay_v1", features=[weather_by_origin, route_stats, planes]
)
