from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import ParameterError, ServingUnavailableError
from airflow_mlops_provider.serving.targets.prometheus import QUERIES, Prometheus, counters_of
from tests.prometheus_fake import fake_prometheus


@pytest.fixture
def server():
    with fake_prometheus() as running:
        yield running


@pytest.fixture
def prometheus(server):
    client = Prometheus(server.url, QUERIES["Knative"])
    yield client
    client.close()


def ask(prometheus, *, asked=True):
    return prometheus.counters("models", "e", "e-1|e-2", asked=asked)


def test_counts_become_what_a_rollout_reads(prometheus, server):
    server.serve("e-1|e-2", 100, 3)
    found = ask(prometheus)
    assert (found["requests"], found["errors"], found["schema_violations"]) == (100, 3, 0)
    assert found["latency_buckets"] == {"10": 50, "20": 100, "+Inf": 100}
    assert math.exp(found["log_latency_sum"] / 100) == pytest.approx(10)


@pytest.mark.parametrize("mode", QUERIES)
def test_queries_name_the_namespace_and_the_workload(server, mode):
    server.serve("e-1|e-2", 1)
    with_mode = Prometheus(server.url, QUERIES[mode])
    ask(with_mode)
    with_mode.close()
    assert all('"models"' in query and '"e-1|e-2"' in query for query in server.queries)
    assert not any("$" in query for query in server.queries)


def test_nothing_is_known_of_a_deployment_that_nobody_asked(prometheus, server):
    assert ask(prometheus, asked=False)["requests"] == 0


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-1"])
def test_figures_that_are_none_are_an_outage(prometheus, server, value):
    server.serve("e-1|e-2", 100)
    server.value = value
    for asked in (True, False):
        with pytest.raises(ServingUnavailableError, match="Expected a count"):
            ask(prometheus, asked=asked)


def test_a_missing_series_is_an_outage_and_not_zero(prometheus):
    with pytest.raises(ServingUnavailableError, match=r"Expected one series .* got 0"):
        ask(prometheus)


def test_a_missing_histogram_is_an_outage(server):
    server.serve("e-1|e-2", 100)
    client = Prometheus(server.url, {**QUERIES["Knative"], "latency": "no_such_metric"})
    with pytest.raises(ServingUnavailableError, match="bucket"):
        ask(client)
    client.close()


def test_an_error_of_prometheus_is_an_outage(prometheus, server):
    server.status = 422
    with pytest.raises(ServingUnavailableError, match="no such thing"):
        ask(prometheus)


def test_a_server_that_is_down_is_an_outage():
    with pytest.raises(ServingUnavailableError, match="ConnectError"):
        ask(Prometheus("http://127.0.0.1:1", QUERIES["Knative"]))


def test_queries_of_other_figures_are_refused():
    with pytest.raises(ParameterError, match="prometheus_queries"):
        Prometheus("http://127.0.0.1:1", {**QUERIES["Knative"], "latencies": "x"})


@given(st.dictionaries(st.sampled_from([1.0, 5.0, 25.0, 1000.0]), st.integers(0, 50), min_size=1))
def test_the_moments_of_a_histogram_are_those_of_some_latencies(counts):
    total, cumulative = 0, {}
    for bound in sorted(counts):
        total += counts[bound]
        cumulative[bound] = total
    found = counters_of(total, 0, {**cumulative, math.inf: total})
    n, mean = max(total, 1), found["log_latency_sum"] / max(total, 1)
    assert math.log(0.5) - 1e-9 <= mean <= math.log(1000) + 1e-9 or total == 0
    assert found["log_latency_sq_sum"] / n >= mean * mean - 1e-9
    assert found["latency_buckets"]["+Inf"] == total
