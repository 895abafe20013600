from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.serving import prediction_log
from airflow_mlops_provider.serving.prediction_log import (
    PredictionLog,
    close_orphans,
    read_segments,
)

ACTIONS = st.one_of(
    st.integers(0, 7).map(lambda n: ("append", n)),
    st.sampled_from([("rotate", 0), ("restart", 0), ("crash", 0)]),
)


def ids(folder: Path) -> list[int]:
    return [record["id"] for record in read_segments(folder)]


@settings(max_examples=60, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=25))
def test_no_interleaving_loses_or_repeats_a_record(actions):
    with tempfile.TemporaryDirectory() as name:
        folder, written, logs = Path(name), 0, []
        log = PredictionLog(folder, "v1", max_records=5)
        for action, n in actions:
            if action == "append":
                log.append([{"id": written + i} for i in range(n)])
                written += n
            elif action == "rotate":
                log.rotate()
            elif action == "restart":
                log.close()
                log = PredictionLog(folder, "v1", max_records=5)
            else:  # the same pid comes back, and the host finds an open segment without owner
                logs.append(log)
                close_orphans(folder, set())
                log = PredictionLog(folder, "v1", max_records=5)
        log.close()
        assert sorted(ids(folder)) == list(range(written))
        assert not list(folder.glob("*.open"))
        for crashed in logs:
            crashed._fd = None  # what its death would have done
            crashed.close()


def test_open_segment_is_invisible_until_it_is_closed(tmp_path):
    log = PredictionLog(tmp_path, "v1")
    log.append([{"id": 0}])
    (path,) = tmp_path.iterdir()
    assert path.name.startswith(f"v1-{os.getpid()}-")
    assert path.suffix == ".open"
    assert ids(tmp_path) == []
    log.close()
    assert [path.suffix for path in tmp_path.iterdir()] == [".jsonl"]
    assert ids(tmp_path) == [0]


def test_record_is_in_the_file_before_append_returns(tmp_path):
    log = PredictionLog(tmp_path, "v1")
    log.append([{"id": 0}, {"id": 1}])
    (path,) = tmp_path.iterdir()
    assert [json.loads(line)["id"] for line in path.read_text().splitlines()] == [0, 1]
    log.close()


def test_power_durability_waits_for_the_disk(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(prediction_log.os, "fsync", lambda fd: (synced.append(fd), fsync(fd)))
    log = PredictionLog(tmp_path, "v1", durability="power")
    log.durable(log.append([{"id": 0}])).result(10)
    assert synced
    log.close()


def test_old_segment_is_closed_without_another_record(tmp_path):
    log = PredictionLog(tmp_path, "v1", max_age=0)
    ticket = log.append([{"id": 0}])
    log.durable(ticket).result(10)
    log.rotate()
    assert ids(tmp_path) == [0]
    log.close()


def test_full_disk_leaves_no_torn_line(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path, "v1")
    log.append([{"id": 0}])
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 5:
            return write(fd, data[:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(prediction_log.os, "write", full)
        with pytest.raises(OSError, match="No space"):
            log.append([{"id": 1}])
    log.append([{"id": 2}])
    log.close()
    assert ids(tmp_path) == [0, 2]


def test_orphan_is_closed_and_its_torn_line_left_out(tmp_path):
    (tmp_path / "a-b-11-000001.open").write_text('{"id": 0}\n{"id"')
    (tmp_path / "v1-12-000001.open").write_text('{"id": 9}\n')
    assert [path.name for path in close_orphans(tmp_path, {12})] == ["a-b-11-000001.jsonl"]
    assert ids(tmp_path) == [0]


def test_closed_log_refuses_records(tmp_path):
    log = PredictionLog(tmp_path, "v1")
    log.close()
    with pytest.raises(OSError, match="closed"):
        log.append([{"id": 0}])


def test_a_disk_that_refuses_an_fsync_fails_those_who_wait_for_it(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path, "v1", durability="power")

    def refuse(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(prediction_log.os, "fsync", refuse)
        with pytest.raises(OSError, match="Input/output"):
            log.durable(log.append([{"id": 0}])).result(10)
    log.durable(log.append([{"id": 1}])).result(10)
    log.close()
    assert ids(tmp_path) == [0, 1]


def test_a_line_that_cannot_be_taken_back_ends_its_segment(tmp_path, monkeypatch):
    log = PredictionLog(tmp_path, "v1")
    log.append([{"id": 0}])
    write = os.write

    def full(*given):
        if len(given) == 2 and isinstance(given[1], bytes) and len(given[1]) > 5:
            return write(given[0], given[1][:5])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(prediction_log.os, "write", full)
        patched.setattr(prediction_log.os, "ftruncate", full)
        with pytest.raises(OSError, match="No space"):
            log.append([{"id": 1}])
    log.append([{"id": 2}])
    log.close()
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert ids(tmp_path) == [0, 2]


def test_half_a_surrogate_pair_is_logged_as_it_came(tmp_path):
    log = PredictionLog(tmp_path, "v1")
    log.append([{"id": "\ud83d"}])
    log.close()
    assert ids(tmp_path) == ["\ud83d"]
