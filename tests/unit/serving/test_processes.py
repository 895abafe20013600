from __future__ import annotations

import pytest

from airflow_mlops_provider.serving import processes


@pytest.mark.parametrize(("outside", "seen"), [(None, 1), ("3", 3)])
async def test_scorer_predicts_with_one_thread_unless_told_otherwise(
    tmp_path, monkeypatch, outside, seen
):
    if outside is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", outside)
    scorer = tmp_path / "scorer"  # reports what it sees as its port
    scorer.write_text('#!/bin/sh\necho "{\\"port\\": ${OMP_NUM_THREADS:-0}}"\nexec sleep 60\n')
    scorer.chmod(0o700)
    monkeypatch.setattr(processes.sys, "executable", str(scorer))
    process, port = await processes.start_scorer(tmp_path, "uri", "e", "v1", "models:/m/1", 20)
    await processes.stop(process)
    assert port == seen
