import pytest

from airflow_mlops_provider.records import EndpointRef
from airflow_mlops_provider.steps.endpoint_health import HealthLimits, health_problem

LIMITS = HealthLimits(max_error_rate=0.05, max_p95_ms=100, window_seconds=60, min_requests=100)


def ref(**traffic):
    return EndpointRef(
        endpoint="e",
        url="u",
        deployments=dict.fromkeys(("v1", "v2"), "models:/m/1"),
        traffic=traffic or {"v1": 100},
        mirror_traffic={},
        generation=1,
    )


def counted(requests=0, errors=0, fast=None):
    """Return counters of which ``fast`` requests took at most 50 ms, the others up to 200."""
    fast = requests if fast is None else fast
    buckets = {"20": 0, "50": fast, "200": requests, "+Inf": requests}
    return {"requests": requests, "errors": errors, "latency_buckets": buckets, "scored": 3}


def problem(now, before=None, *, seconds=60, limits=LIMITS, deployment=None, where=None):
    """Return what is said of counters ``now``, after ``before`` was seen."""
    where = where or ref()
    _, since = health_problem(
        where, before or {"v1": counted()}, limits, deployment=deployment, since=None, now=0
    )
    return health_problem(where, now, limits, deployment=deployment, since=since, now=seconds)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (counted(100), None),
        (counted(100, errors=5), None),
        (counted(100, errors=6), "6.00% of its 100 requests failed, over 5.00%"),
        (counted(100, fast=95), None),
        (counted(100, fast=40), "95 % of its 100 requests took 187.5 ms, over 100 ms"),
        (counted(99), "it has not answered 100 requests yet"),
    ],
)
def test_a_window_is_held_to_the_limits(now, said):
    assert problem({"v1": now})[0] == said


def test_only_what_the_window_counted_matters():
    before = {"v1": counted(1000, errors=900, fast=0)}
    assert problem({"v1": counted(1100, errors=900, fast=100)}, before)[0] is None


def test_a_window_lasts_until_it_is_over_and_full():
    said, since = problem({"v1": counted(500)}, seconds=59)
    assert (said, since["at"]) == ("a window of 60 s is not over", 0)
    said, since = problem({"v1": counted(50)}, seconds=600)
    assert since["at"] == 0
    assert said == "it has not answered 100 requests yet"


def test_after_a_window_over_its_limits_another_begins():
    _, since = problem({"v1": counted(100, errors=50)}, seconds=61)
    assert since["at"] == 61
    later = {"v1": counted(200, errors=50)}
    again = health_problem(ref(), later, LIMITS, deployment=None, since=since, now=121)
    assert again[0] is None


def test_all_that_carry_traffic_count_together_and_one_may_be_looked_at_alone():
    now = {"v1": counted(100), "v2": counted(100, errors=11)}
    both = ref(v1=50, v2=50)
    assert "5.50% of its 200" in problem(now, where=both)[0]
    assert problem(now, where=both, deployment="v1")[0] is None
    assert problem(now)[0] is None


def test_a_deployment_made_anew_begins_a_window():
    said, since = problem({"v1": counted(10)}, {"v1": counted(500)})
    assert (said, since["at"]) == ("the window of its counters begins", 60)


def test_slower_than_the_largest_bucket_is_over_any_limit():
    slow = {**counted(100), "latency_buckets": {"10000": 0, "+Inf": 100}}
    assert "took inf ms" in problem({"v1": slow})[0]


def test_without_limits_it_only_has_to_serve():
    assert problem({}, {}, limits=None) == (None, None)
    assert HealthLimits.of(None, "", 300, 100) is None
