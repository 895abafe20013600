from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import RetrainingDecision, RetrainingEvent
from airflow_mlops_provider.steps.retrain.policy import KINDS, Policy, Training, weigh

HOUR = 3600


def policy(debounce=300, cooldown=HOUR, budget=None, period=86_400):
    return Policy.of(debounce, cooldown, budget, period)


@pytest.mark.parametrize(
    ("kind", "ago", "outcome", "rules", "decision", "why"),
    [
        ("drift", 4000, "registered", {}, "train", "within the limits"),
        ("drift", 3000, "registered", {}, "skip", "cool-down"),
        ("drift", 3000, "not_better", {}, "skip", "cool-down"),
        ("drift", 3000, None, {}, "skip", "cool-down"),
        ("drift", 3000, "failed", {}, "train", "within the limits"),
        ("drift", 3000, "stopped", {"budget": 1}, "train", "within the limits"),
        ("drift", 3000, "failed", {"budget": 1}, "skip", "budget"),
        ("performance", 3000, "registered", {}, "train", "within the limits"),
        ("performance", 200, "registered", {}, "skip", "debounce"),
        ("performance", 200, "failed", {}, "train", "within the limits"),
        ("performance", 200, "registered", {"debounce": 0}, "train", "within the limits"),
        ("performance", 3000, "registered", {"budget": 1}, "skip", "budget"),
        ("performance", 3000, "registered", {"budget": 1, "period": 2000}, "train", "limits"),
    ],
)
def test_a_drift_event_is_weighed_against_the_last_training(
    event, training, noon, kind, ago, outcome, rules, decision, why
):
    weighed = weigh([event("drift")], [training(kind, ago, outcome)], policy(**rules), noon)
    assert weighed.decision == decision
    assert why in weighed.reason


def test_a_person_who_asks_always_passes(event, training, noon):
    past = [training("demand", 10), training("drift", 10)]
    asked = event("demand", by="Ada")
    weighed = weigh([event("drift"), asked], past, policy(budget=1), noon)
    assert (weighed.decision, weighed.event) == ("train", asked)
    assert weighed.reason == "Ada asked for it"


def test_a_demand_of_nobody_has_to_keep_to_the_budget(event, training, noon):
    weighed = weigh([event("demand")], [training("demand", 4000)], policy(budget=1), noon)
    assert weighed.decision == "skip"


def test_a_schedule_has_no_cool_down_unless_it_is_given_one(event, training, noon):
    past = [training("schedule", 1000)]
    assert weigh([event("schedule")], past, policy(), noon).decision == "train"
    slower = policy(cooldown={"schedule": HOUR})
    assert weigh([event("schedule")], past, slower, noon).decision == "skip"


def test_of_several_events_the_gravest_that_passes_decides(event, training, noon):
    events = [event("new_data"), event("drift"), event("performance")]
    assert weigh(events, [], policy(), noon).event.kind == "performance"
    hot = weigh(events, [training("performance", 1000)], policy(), noon)
    assert (hot.decision, hot.event.kind) == ("train", "drift")


def test_an_event_told_late_is_one_with_the_training_that_was_decided_after_it(event, noon):
    first, decided_at = event("drift", 5000), noon - timedelta(seconds=100)
    decision = RetrainingDecision(
        name="delay",
        run="dag/r",
        decision="train",
        event=first,
        reason="",
        decided_at=decided_at.isoformat(),
    )
    between = event("performance", 2500)
    weighed = weigh([between], [Training(decision)], policy(), noon)
    assert weighed.decision == "skip"
    assert "one with the drift event" in weighed.reason


def test_scheduled_runs_are_never_one_however_old_their_nominal_times(event, training, noon):
    years = 6 * 365 * 86_400
    filled = training("schedule", years)
    filled = Training(replace(filled.decision, decided_at=noon.isoformat()), "registered")
    month_later = event("schedule", years - 30 * 86_400)
    assert weigh([month_later], [filled], policy(), noon).decision == "train"
    assert weigh([event("drift", 100)], [filled], policy(), noon).decision == "skip"
    assert weigh([event("drift", 9_000)], [filled], policy(), noon).decision == "train"
    assert weigh([month_later], [training("drift", 100)], policy(), noon).decision == "skip"


def test_what_was_counted_is_told(event, training, noon):
    counted = weigh([event("drift")], [training("drift", 1000)], policy(budget=3), noon).counted
    assert counted["trainings"] == 1
    assert counted["budget"] == 3
    assert counted["last_training"] == (noon - timedelta(seconds=1000)).isoformat()
    assert counted["cooldown_seconds"] == HOUR


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((-1, 1, None, 1), "debounce_seconds"),
        ((1, -1, None, 1), "cooldown_seconds"),
        ((1, {"demand": 1}, None, 1), "cooldown_seconds"),
        ((1, {"sunshine": 1}, None, 1), "cooldown_seconds"),
        ((1, 1, 0, 1), "budget"),
        ((1, 1, None, 0), "budget_seconds"),
    ],
)
def test_knobs_out_of_range_are_named(arguments, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter"):
        Policy.of(*arguments)


happenings = st.lists(
    st.tuples(st.sampled_from(KINDS[1:]), st.integers(1, 5000)), min_size=1, max_size=60
)


@given(
    happenings,
    st.integers(0, 2000),
    st.integers(0, 20_000),
    st.integers(1, 5),
)
def test_noise_never_breaks_cool_down_or_budget(noise, debounce, cooldown, budget):
    rules = Policy.of(debounce, dict.fromkeys(KINDS[1:], cooldown), budget, 50_000)
    now, trainings = datetime.fromisoformat("2013-01-01T00:00:00+00:00"), []
    for number, (kind, seconds) in enumerate(noise):
        now += timedelta(seconds=seconds)
        event = RetrainingEvent(id=str(number), kind=kind, at=now.isoformat(), source="noise")
        weighed = weigh([event], trainings, rules, now)
        if weighed.decision == "train":
            decision = RetrainingDecision(
                name="n",
                run=str(number),
                decision="train",
                event=event,
                reason=weighed.reason,
                decided_at=now.isoformat(),
            )
            trainings.append(Training(decision))
    for position, training in enumerate(trainings):
        before = trainings[:position]
        since = training.decided_at - timedelta(seconds=50_000)
        assert sum(each.decided_at > since for each in before) < budget
        for each in before:
            apart = (training.decided_at - each.decided_at).total_seconds()
            scheduled = each.kinds | training.kinds == {"schedule"}
            assert apart >= debounce or scheduled
            assert apart >= cooldown or each.kinds != training.kinds
