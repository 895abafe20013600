from __future__ import annotations

import pytest

from airflow_mlops_provider.serving.counters import Counters, counters_path
from airflow_mlops_provider.serving.observer import Observer
from airflow_mlops_provider.serving.state import Deployment, EndpointState

V1 = Deployment(model_uri="models:/m/1")
ENDPOINTS = {"e": EndpointState(deployments={"v1": V1, "v2": V1}, traffic={"v1": 100})}


def errors(observer: Observer, name: str = "v1") -> int:
    return observer.read("e", name)["errors"]


def test_workers_add_up(tmp_path):
    path = counters_path(tmp_path, "e", "v1")
    for each in (path, path.with_suffix(".1.bin"), path.with_suffix(".2.bin")):
        Counters(each).add("requests", 2)
    Counters(counters_path(tmp_path, "e", "v10")).add("requests")
    observer = Observer(tmp_path)
    assert observer.read("e", "v1")["requests"] == 6
    observer.forget("e", "v1")
    assert observer.read("e", "v1")["requests"] == 0
    assert observer.read("e", "v10")["requests"] == 1


def test_what_the_router_lost_is_counted_once_whoever_asks(tmp_path):
    observer = Observer(tmp_path)
    observer.count_unanswered(ENDPOINTS, "a", {"e/v1": 2, "e/v1/shadow": 1})
    observer.count_unanswered(ENDPOINTS, "a", {"e/v1": 5, "e/v1/shadow": 1})
    adopting = Observer(tmp_path)
    assert errors(adopting) == 5
    adopting.count_unanswered(ENDPOINTS, "a", {"e/v1": 5, "e/v1/shadow": 1})
    counts = adopting.read("e", "v1")
    assert (counts["errors"], counts["requests"], counts["shadow_errors"]) == (5, 5, 1)


@pytest.mark.parametrize("total", [0, 3, 5, 7])
def test_new_router_counts_from_zero(tmp_path, total):
    observer = Observer(tmp_path)
    observer.count_unanswered(ENDPOINTS, "a", {"e/v1": 5})
    observer.count_unanswered(ENDPOINTS, "b", {"e/v1": total})
    assert errors(observer) == 5 + total
    observer.count_unanswered(ENDPOINTS, "b", {"e/v1": total + 1})
    assert errors(Observer(tmp_path)) == 6 + total


def test_count_that_falls_begins_anew(tmp_path):
    observer = Observer(tmp_path)
    observer.count_unanswered(ENDPOINTS, "a", {"e/v1": 5})
    observer.count_unanswered(ENDPOINTS, "a", {"e/v1": 1})
    assert errors(observer) == 6


def test_deployment_that_is_gone_leaves_no_count(tmp_path):
    observer = Observer(tmp_path)
    observer.count_unanswered(ENDPOINTS, "a", {"e/v1": 5, "e/v2": 1, "other/v1": 9})
    observer.forget("e", "v1")
    assert (errors(observer), errors(Observer(tmp_path))) == (0, 0)
    assert errors(Observer(tmp_path), "v2") == 1
