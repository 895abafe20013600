from __future__ import annotations

import json
import math

import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.pairs import PairReader, Pairs
from airflow_mlops_provider.serving.prediction_log import PredictionLog


def record(request, output=0.5, *, deployment="v1", row=0, status=200, latency=10.0):
    return {
        "request_id": f"r{request}",
        "row": row,
        "deployment": deployment,
        "outputs": output,
        "status": status,
        "latency_ms": latency,
        "shadow": deployment != "v1",
    }


def shadowed(request, output=0.5, **more):
    return record(request, output, **{"deployment": "v2", **more})


@pytest.fixture
def log(tmp_path):
    logs = {name: PredictionLog(tmp_path / "e", name) for name in ("v1", "v2", "v3")}

    def write(*records):
        for each in records:
            logs[each["deployment"]].append([each])

    write.logs = logs
    yield write
    for each in logs.values():
        each.close()


def counts(tmp_path, tolerance=0.1):
    return PairReader(tmp_path / "e", tolerance).read()


def test_answers_to_the_same_row_of_a_request_are_a_pair(log, tmp_path):
    log(record(1, 0.5), shadowed(1, 0.55), record(1, 0.5, row=1), shadowed(1, 0.9, row=1))
    log(record(2), shadowed(3))
    found = counts(tmp_path)["v2"]
    assert (found["pairs"], found["disagreements"], found["scored"]) == (2, 1, 2)
    assert found["difference_sum"] == pytest.approx(0.45)
    assert found["difference_sq_sum"] == pytest.approx(0.05**2 + 0.4**2)


def test_order_does_not_matter_and_each_pair_counts_once(log, tmp_path):
    reader = PairReader(tmp_path / "e", 0.1)
    log(shadowed(1))
    assert reader.read() == {}
    log(record(1))
    assert reader.read()["v2"]["pairs"] == 1
    assert reader.read()["v2"]["pairs"] == 1
    log.logs["v1"].rotate()
    log(record(2), shadowed(2))
    assert reader.read()["v2"]["pairs"] == 2


def test_failures_of_one_side_are_told_apart(log, tmp_path):
    log(record(1), shadowed(1, None, status=500))
    log(record(2, None, status=500), shadowed(2))
    log(record(3, None, status=500), shadowed(3, None, status=500))
    log(record(4, None, status=400), shadowed(4, None, status=400))
    found = counts(tmp_path)["v2"]
    assert [found[name] for name in ("pairs", "champion_failed", "shadow_failed")] == [0, 1, 1]


@pytest.mark.parametrize(
    ("champion", "shadow", "disagree", "scored"),
    [
        ("cat", "cat", 0, 0),
        ("cat", "dog", 1, 0),
        ([0.2, 0.8], [0.1, 0.9], 0, 1),
        ([0.2, 0.8], [0.4, 0.6], 1, 1),
        ({"p": 0.8}, {"p": 0.2}, 1, 1),
        (0.5, None, 1, 0),
        (0.5, 10**400, 1, 0),
        (0.5, 1e200, 1, 0),
        (-1e308, 1e308, 1, 0),
    ],
)
def test_scores_have_a_tolerance_and_other_answers_none(
    log, tmp_path, champion, shadow, disagree, scored
):
    log(record(1, champion), shadowed(1, shadow))
    found = counts(tmp_path, tolerance=0.15)["v2"]
    assert math.isfinite(found["difference_sq_sum"])
    assert (found["disagreements"], found["scored"]) == (disagree, scored)


def test_latencies_are_compared_pair_by_pair(log, tmp_path):
    log(record(1, latency=10.0), shadowed(1, latency=20.0))
    assert counts(tmp_path)["v2"]["log_latency_sum"] == pytest.approx(math.log(2))


def test_a_torn_line_is_left_for_later(log, tmp_path):
    log(record(1), shadowed(1))
    reader = PairReader(tmp_path / "e", 0.1)
    assert reader.read()["v2"]["pairs"] == 1
    (path,) = (tmp_path / "e").glob("v2-*")
    line = json.dumps(shadowed(2)).encode() + b"\n"
    log(record(2))
    with path.open("ab") as file:
        file.write(line[:20])
        file.flush()
        assert reader.read()["v2"]["pairs"] == 1
        file.write(line[20:])
    assert reader.read()["v2"]["pairs"] == 2


def test_a_line_that_is_no_record_is_left_out(log, tmp_path):
    log(record(1), shadowed(1))
    (tmp_path / "e" / "v9-1-000001.jsonl").write_text('{"request_id": 1}\nno json\n')
    assert counts(tmp_path)["v2"]["pairs"] == 1


def test_each_shadow_has_its_own_counts_and_one_that_went_has_none(log, tmp_path):
    log(record(1), shadowed(1), shadowed(1, 0.9, deployment="v3"))
    pairs = Pairs(tmp_path)
    found = pairs.read("e", {"v1", "v2", "v3"}, 0.1)
    assert {name: each["disagreements"] for name, each in found.items()} == {"v2": 0, "v3": 1}
    assert set(pairs.read("e", {"v1", "v2"}, 0.1)) == {"v2"}
    pairs.forget("e", "v2")
    assert pairs.read("e", {"v2"}, 0.1) == {}
    assert pairs.read("other", {"v2"}, 0.1) == {}


@pytest.mark.parametrize("tolerance", [-1, math.nan, math.inf])
def test_a_tolerance_that_is_none_is_refused(tmp_path, tolerance):
    with pytest.raises(ParameterError, match="tolerance"):
        Pairs(tmp_path).read("e", set(), tolerance)


def test_what_never_meets_its_counterpart_is_forgotten(log, tmp_path, monkeypatch):
    monkeypatch.setattr("airflow_mlops_provider.serving.pairs._WAITING", 3)
    log(*(record(n) for n in range(10)), *(shadowed(n) for n in range(10)))
    assert counts(tmp_path)["v2"]["pairs"] == 3
