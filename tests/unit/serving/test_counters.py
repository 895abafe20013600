from __future__ import annotations

import math

import pytest

from airflow_mlops_provider.serving.counters import Counters, counters_path, read_total


def test_counts_go_on_where_a_killed_scorer_stopped(tmp_path):
    path = counters_path(tmp_path, "e", "v1")
    Counters(path).add("requests", 3)
    again = Counters(path)
    again.add("requests")
    assert Counters(path).read()["requests"] == 4


def test_buckets_are_cumulative(tmp_path):
    counters = Counters(tmp_path / "c")
    for latency in (0.5, 1, 1.5, 20_000):
        counters.add_latency(latency)
    found = counters.read()
    assert [found["latency_buckets"][bound] for bound in ("1", "2", "10000", "+Inf")] == [
        2,
        3,
        3,
        4,
    ]
    assert found["latency_ms_sum"] == pytest.approx(20_003)
    logs = [math.log(latency) for latency in (0.5, 1, 1.5, 20_000)]
    assert found["log_latency_sum"] == pytest.approx(sum(logs))
    assert found["log_latency_sq_sum"] == pytest.approx(sum(value**2 for value in logs))


def test_totals_add_up(tmp_path):
    for name in "ab":
        counters = Counters(tmp_path / name)
        counters.add("errors", 2)
        counters.add_latency(3)
    total = read_total([tmp_path / "a", tmp_path / "b"])
    assert total["errors"] == 4
    assert total["latency_buckets"]["5"] == 2
