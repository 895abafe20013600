"""Labels and predictions while processes are killed: nothing is lost, nothing counts twice."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.serving.client import ServingClient
from airflow_mlops_provider.serving.prediction_log import read_segments
from tests.labels_process import result
from tests.prediction_logs import START, record, write_segment
from tests.serving_hosts import Host, until


def outcome(i):
    return {
        "feedback_id": f"f{i}",
        "request_id": f"r{i}",
        "row": 0,
        "entity_id": None,
        "event_ts": None,
        "label": i % 2,
        "received_at": START.isoformat(),
    }


def closed(folder, name, records):
    """Write a segment that appears whole, as a closed one does."""
    aside = folder.with_suffix(".writing")
    write_segment(aside, name, records)
    folder.mkdir(exist_ok=True)
    (aside / f"{name}.jsonl").rename(folder / f"{name}.jsonl")


@pytest.mark.slow
def test_processes_that_compact_and_join_at_once_may_be_killed_at_any_moment(tmp_path):
    log, sent, workspace = (tmp_path / name for name in ("log", "sent", "ws"))
    command = [sys.executable, "-m", "tests.labels_process", *map(str, (log, sent, workspace))]
    chance = np.random.default_rng(7)
    n = 0
    closed(log, "first", [record(0)])
    for _ in range(4):
        rivals = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(2)]
        for rival in rivals:
            rival.stdout.readline()  # it has begun
        for _ in range(3):
            new = range(n, n + 2_000)
            closed(log, str(n), [record(i) for i in new])
            closed(sent, str(n), [outcome(i) for i in new])
            n = new.stop
            time.sleep(chance.random() / 2)
        for rival in rivals:
            time.sleep(chance.random() / 2)
            rival.kill()
            rival.communicate()
    after, counts = result(str(log), str(sent), str(workspace))
    undisturbed, _ = result(str(log), str(sent), str(tmp_path / "other"))
    assert after == undisturbed
    assert (counts.predictions, counts.labels, counts.joined, counts.repeated) == (n, n, n, 0)


@pytest.mark.slow
def test_feedback_that_a_killed_host_accepted_is_kept_and_sending_it_again_counts_once(tmp_path):
    host = Host(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "--orphan-seconds", "1")
    try:
        host.client.create_endpoint("e")
        accepted: list[int] = []
        sender = threading.Thread(target=send, args=(tmp_path, 400, accepted))
        sender.start()
        for goal in (60, 160):
            until(lambda goal=goal: len(accepted) > goal)
            host.stop(signal.SIGKILL)
            (tmp_path / "serving" / "host.json").unlink()
            host = Host(tmp_path, f"sqlite:///{tmp_path}/mlflow.db", "--orphan-seconds", "1")
        sender.join(60)
        host.client.rotate_logs("e")
    finally:
        host.close()
    folder = tmp_path / "serving" / "feedback" / "e"
    ids = [entry["feedback_id"] for entry in read_segments(folder)]
    assert sorted(accepted) == list(range(400))
    assert set(ids) == {f"f{i}" for i in range(400)}
    write_segment(tmp_path / "log", "a", [record(i) for i in range(400)])
    _, counts = result(str(tmp_path / "log"), str(folder), str(tmp_path))
    assert (counts.labels, counts.joined, counts.unreadable) == (400, 400, 0)


def send(workspace, n, accepted):
    """Send outcomes one by one; one without an answer is sent again under the same id."""
    for i in range(n):
        given = {"feedback_id": f"f{i}", "request_id": f"r{i}", "label": i % 2}
        while i not in accepted:
            try:
                with ServingClient.from_workspace(str(workspace)) as client:
                    client.send_feedback("e", given)
                accepted.append(i)
            except ServingUnavailableError:
                time.sleep(0.05)
