from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import RetrainingOutcome
from airflow_mlops_provider.steps.retrain import ledger as module
from airflow_mlops_provider.steps.retrain.ledger import Ledger, decide_retraining
from airflow_mlops_provider.steps.retrain.policy import Policy

POLICY = Policy.of(0, {"drift": 3600}, None, 86_400)


def outcome(decision, name):
    return RetrainingOutcome(
        name=decision.name,
        run=decision.run,
        outcome=name,
        detail="",
        recorded_at=decision.decided_at,
    )


def test_a_run_that_asks_again_gets_the_same_decision(ledger, event, noon):
    first = decide_retraining(ledger, "d/1", [event()], POLICY, noon)
    again = decide_retraining(ledger, "d/1", [event()], POLICY, noon + timedelta(days=1))
    assert first.decision == "train"
    assert again == first
    assert len(ledger.trainings()) == 1


def test_the_second_event_of_a_kind_waits_and_is_kept(ledger, event, noon):
    decide_retraining(ledger, "d/1", [event(ago=60)], POLICY, noon)
    second = decide_retraining(ledger, "d/2", [event(ago=0)], POLICY, noon)
    assert second.decision == "skip"
    assert ledger.decision("d/2") == second
    assert ledger.skipped() == [second]
    assert second.counted["trainings"] == 1


def test_what_a_training_was_worth_counts_afterwards(ledger, event, noon):
    first = decide_retraining(ledger, "d/1", [event(ago=60)], POLICY, noon)
    ledger.keep_outcome(outcome(first, "failed"))
    assert ledger.trainings()[0].outcome == "failed"
    assert decide_retraining(ledger, "d/2", [event()], POLICY, noon).decision == "train"


def test_an_event_that_is_told_twice_trains_once(ledger, event, noon):
    decide_retraining(ledger, "d/1", [event()], Policy(), noon)
    twice = decide_retraining(ledger, "d/2", [event()], Policy(0), noon + timedelta(days=9))
    assert twice.decision == "skip"
    assert twice.reason == "told before: run d/1 decided on it"


def test_of_two_alerts_at_once_none_is_lost_and_one_trains(ledger, event, noon):
    both = [event("drift"), event("performance")]
    one = decide_retraining(ledger, "d/1", both, Policy(), noon)
    late = decide_retraining(ledger, "d/2", [event("drift", name="late")], Policy(), noon)
    assert [each.kind for each in one.events] == ["drift", "performance"]
    assert (one.decision, one.event.kind) == ("train", "performance")
    assert late.decision == "skip"
    assert len(list(Path(ledger.workspace, "retraining/delay/events").glob("*.json"))) == 3


def test_a_task_that_died_before_it_decided_decides_when_it_is_retried(ledger, event, noon):
    dies = patch.object(module, "write_json", side_effect=[None, OSError("killed")])
    with dies, pytest.raises(OSError, match="killed"):
        decide_retraining(ledger, "d/1", [event()], POLICY, noon)
    assert ledger.decision("d/1") is None
    ledger.claim(event(), "d/1")
    other = decide_retraining(ledger, "d/2", [event()], POLICY, noon)
    retried = decide_retraining(ledger, "d/1", [event()], POLICY, noon)
    assert (other.decision, retried.decision) == ("skip", "train")


def test_many_events_are_counted_and_some_shown(ledger, event, noon):
    events = [event(ago=number) for number in range(40)]
    decision = decide_retraining(ledger, "d/1", events, POLICY, noon)
    assert decision.n_events == 40
    assert len(decision.events) == 5
    assert decide_retraining(ledger, "d/2", events[30:31], POLICY, noon).decision == "skip"


def test_ledgers_are_apart(ledger, event, noon):
    decide_retraining(ledger, "d/1", [event()], POLICY, noon)
    other = replace(ledger, name="returns")
    assert other.trainings() == []
    assert decide_retraining(other, "d/2", [event()], POLICY, noon).decision == "train"


def test_a_name_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="name"):
        Ledger(str(tmp_path), "../up").trainings()


def test_it_lies_in_any_file_system(event, noon):
    ledger = Ledger("memory://retraining-test", "delay")
    decide_retraining(ledger, "d/1", [event()], POLICY, noon)
    assert [each.decision.run for each in ledger.trainings()] == ["d/1"]
