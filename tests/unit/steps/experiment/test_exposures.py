from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import pytest

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.experiment.exposures import read_exposures
from tests.prediction_logs import START, record, write_segment

BEGIN = START.timestamp()


def read(folder, **changes):
    asked = {"deployments": ("v1", "v2"), "start": BEGIN, "end": BEGIN + 100, **changes}
    return read_exposures(str(folder), **asked)


def test_each_request_is_met_once_by_its_first_attempt(tmp_path):
    again = record(1, deployment="v1", attempt=2, ts=record(2)["ts"])
    rows = [record(1, deployment="v2", status=500), again, record(1, deployment="v2", row=1)]
    write_segment(tmp_path, "a", rows)
    found = read(tmp_path)
    assert found["request_id"].tolist() == ["r1"]
    assert found["deployment"].tolist() == ["v2"]


def test_shadows_strangers_and_other_times_are_left_out(tmp_path):
    write_segment(
        tmp_path,
        "a",
        [
            record(0),
            record(1, shadow=True),
            record(2, deployment="v9"),
            record(200),
            record(-1),
        ],
    )
    assert read(tmp_path)["request_id"].tolist() == ["r0"]


def test_segments_that_are_still_written_are_left_out(tmp_path):
    write_segment(tmp_path, "a", [record(0)])
    (tmp_path / "b.open").write_text(json.dumps(record(1)) + "\n")
    assert read(tmp_path)["request_id"].tolist() == ["r0"]


def test_a_log_without_a_closed_segment_is_empty_yet(tmp_path):
    (tmp_path / "b.open").write_text(json.dumps(record(1)) + "\n")
    found = read(tmp_path)
    assert found.empty
    assert list(found) == ["request_id", "entity_id", "deployment", "ts"]


def test_torn_lines_and_odd_entities_cost_only_themselves(tmp_path):
    write_segment(tmp_path, "a", [record(0, entity_id=None), record(1)], torn='{"request_id": "r')
    write_segment(tmp_path, "b", [])
    found = read(tmp_path)
    assert found["request_id"].tolist() == ["r0", "r1"]
    assert found["entity_id"].isna().tolist() == [True, False]


def test_segments_from_before_the_start_are_not_even_read(tmp_path):
    write_segment(tmp_path, "old", [record(1)])
    write_segment(tmp_path, "new", [record(2)])
    os.utime(tmp_path / "old.jsonl", (BEGIN - 60, BEGIN - 60))
    assert read(tmp_path)["request_id"].tolist() == ["r2"]


def test_times_with_and_without_fractions_are_told(tmp_path):
    write_segment(
        tmp_path,
        "a",
        [
            record(1, ts=datetime(2013, 7, 1, 0, 0, 5, tzinfo=UTC).isoformat()),
            record(2, ts="2013-07-01T02:00:06.5+02:00"),
        ],
    )
    assert read(tmp_path)["ts"].dt.second.tolist() == [5, 6]


def test_a_compacted_log_gives_the_same(tmp_path):
    log = tmp_path / "log"
    write_segment(log, "a", [record(i, deployment=f"v{i % 3}") for i in range(30)])
    batch = compact_log(str(log), endpoint="flights", workspace=str(tmp_path))
    assert read(batch.uri).equals(read(log))
    assert read(log)["deployment"].value_counts().to_dict() == {"v1": 10, "v2": 10}


def test_nowhere_is_no_log(tmp_path):
    with pytest.raises(DataError, match="No file"):
        read(tmp_path / "nowhere")
