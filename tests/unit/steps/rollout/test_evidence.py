from __future__ import annotations

import math

import pytest

from airflow_mlops_provider.steps.rollout.counts import Counts, Sides
from airflow_mlops_provider.steps.rollout.evidence import Evidence
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan

PLAN = CanaryPlan.of(candidate="v2", model_uri="models:/m/2", latency_slack_ms=0)


def counts(requests, errors=0, *, latency_ms=10.0, timed=None):
    timed = requests if timed is None else timed
    log = math.log(latency_ms)
    return Counts(
        requests=requests,
        errors=errors,
        timed=timed,
        log_sum=log * timed,
        log_squares=log**2 * timed,
    )


def after(*looks):
    """Return the evidence of cumulative counts ``(champion, candidate)``."""
    evidence = Evidence.begin(PLAN)
    for champion, candidate in looks:
        evidence = evidence.updated(PLAN, Sides(champion=champion, candidate=candidate))
    return evidence


def test_counts_are_read_from_what_a_target_reports():
    raw = {
        "requests": 5,
        "errors": 2,
        "schema_violations": 1,
        "latency_buckets": {"1": 1, "+Inf": 4},
        "log_latency_sum": 1.5,
        "log_latency_sq_sum": 2.5,
        "client_errors": 9,
    }
    read = Counts.read(raw)
    assert (read.requests, read.errors, read.schema_violations, read.timed) == (5, 2, 1, 4)
    assert (read.log_sum, read.log_squares) == (1.5, 2.5)


@pytest.mark.parametrize(
    ("now", "before", "requests"), [(120, 100, 20), (100, 100, 0), (7, 100, 7)]
)
def test_a_counter_that_fell_began_at_zero(now, before, requests):
    assert counts(now).since(counts(before)).requests == requests


def test_latencies_below_a_millisecond_are_no_restart():
    look = counts(20, latency_ms=0.5).since(counts(10, latency_ms=0.5))
    assert (look.requests, look.log_sum) == (10, pytest.approx(10 * math.log(0.5)))


def test_what_was_counted_before_the_first_look_says_nothing():
    evidence = after((counts(900, 9), counts(100, 90)))
    assert evidence.step == Sides()
    assert evidence.broken_guardrail(PLAN) is None


def test_every_latency_is_used_once_however_few_come_at_a_time():
    evidence = after(*((counts(100 * n), counts(n)) for n in range(61)))
    assert evidence.latency.n_candidate == 60
    assert evidence.latency.n_champion == 6000


def test_requests_without_an_answer_have_no_latency():
    evidence = after((counts(0), counts(0)), (counts(90), counts(50, 5, timed=45)))
    assert evidence.latency.n_candidate == 45


def test_a_streak_ends_with_a_success_and_waits_through_silence():
    looks = [(counts(0), counts(0)), (counts(9), counts(4, 4)), (counts(9), counts(4, 4))]
    assert after(*looks).failing_streak == 4
    assert after(*looks, (counts(9), counts(6, 6))).failing_streak == 6
    assert after(*looks, (counts(9), counts(6, 5))).failing_streak == 0


def test_the_guardrail_on_the_rate_waits_for_fifty_requests():
    start = (counts(0), counts(0))
    assert after(start, (counts(0), counts(49, 25))).broken_guardrail(PLAN) is None
    assert "max_error_rate" in after(start, (counts(0), counts(50, 25))).broken_guardrail(PLAN)


def test_after_a_gap_the_tests_stay_and_the_counts_go():
    evidence = after((counts(0), counts(0)), (counts(500, 1), counts(500, 3))).after_gap()
    assert evidence.seen is None
    assert evidence.step == Sides()
    assert evidence.errors.log_e_value != 0
