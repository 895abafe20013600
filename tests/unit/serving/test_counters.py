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


def test_fields_that_came_later_follow_the_older_ones(tmp_path):
    path = tmp_path / "c"
    Counters(path).add("requests", 3)
    older = path.read_bytes()[: 8 * 23]
    path.write_bytes(older)
    counters = Counters(path)
    counters.add_scores([1.0, 3.0, 1e200])
    counters.add("unlogged")
    found = Counters(path).read()
    assert (found["requests"], found["scored"], found["unlogged"]) == (3, 2, 1)
    assert (found["score_sum"], found["score_sq_sum"]) == (4, 10)
    assert path.read_bytes()[: 8 * 23] == older


def test_workers_of_a_deployment_have_files_of_their_own(tmp_path):
    assert counters_path(tmp_path, "e", "d").name == "d.bin"
    assert counters_path(tmp_path, "e", "d", 3).name == "d.3.bin"
