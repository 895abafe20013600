from __future__ import annotations

from airflow_mlops_provider.steps.rollout.drive import begin, tick
from airflow_mlops_provider.steps.rollout.plan import CanaryPlan
from airflow_mlops_provider.steps.rollout.progress import Progress
from tests.serving_fake import with_champion

PLAN = CanaryPlan.of(candidate="v2", model_uri="models:/m/2")


def test_a_change_and_a_minute_are_worth_a_line_and_counts_are_not():
    target, progress = with_champion(), Progress()
    state = begin(target, "e", PLAN, 0)
    assert "PENDING" in progress.line(state, 0)
    assert progress.line(state, 15) is None
    state = tick(target, "e", PLAN, 15)
    assert "SMOKE" in progress.line(state, 15)
    state = tick(target, "e", PLAN, 30)
    assert "STEP, v2 at 5 %" in progress.line(state, 30)
    target.serve(1000)
    state = tick(target, "e", PLAN, 45)
    assert progress.line(state, 45) is None
    assert "it answered 50 requests" in progress.line(state, 90)


def test_a_silent_host_is_told_once_a_minute():
    progress = Progress()
    told = [progress.line(None, 10.0 * n) for n in range(13)]
    assert [line is not None for line in told].count(True) == 3
