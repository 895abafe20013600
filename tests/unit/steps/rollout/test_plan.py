from __future__ import annotations

import pytest

from airflow_mlops_provider.exceptions import ParameterError, RecordError
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, ShadowPlan


def plan(**knobs):
    return CanaryPlan.of(candidate="v2", model_uri="models:/m/2", **knobs)


def test_the_defaults_are_a_valid_plan():
    assert plan().steps == (5, 25, 50, 100)


@pytest.mark.parametrize("steps", ["5, 25,100", "[5, 25, 100]", [5, 25, 100], (5, 25, 100)])
def test_templates_may_give_strings(steps):
    made = plan(steps=steps, alpha="0.1", min_requests="30")
    assert (made.steps, made.alpha, made.min_requests) == ((5, 25, 100), 0.1, 30)


def test_it_reads_back_from_json():
    assert CanaryPlan.from_xcom(plan().to_xcom()) == plan()


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        ("steps", (100,)),
        ("steps", (5, 50)),
        ("steps", (50, 25, 100)),
        ("steps", (0, 100)),
        ("steps", (5, 100, 120)),
        ("alpha", 0),
        ("alpha", 1),
        ("margin", -0.1),
        ("latency_margin", 11),
        ("max_error_rate", 1.2),
        ("min_requests", 0),
        ("interval_seconds", 0),
        ("interval_seconds", 90),
        ("step_max_seconds", 10),
        ("bake_seconds", -1),
        ("lease_seconds", 0),
        ("shadow_percent", 101),
        ("shadow_max_seconds", 1),
        ("dry_run_metrics", "accuracy"),
        ("keep_seconds", -1),
        ("max_disagreement", 1.1),
    ],
)
def test_a_wrong_knob_is_named(knob, value):
    with pytest.raises(ParameterError, match=f"The {knob} parameter of CanaryRolloutOperator"):
        plan(**{"shadow_percent": 5, knob: value})


@pytest.mark.parametrize(
    "metric",
    [
        {"name": "slow", "kind": "rate", "direction": "both"},
        {"name": "slow", "kind": "rate", "margin": 11},
        {"name": "score", "kind": "mean", "margin": -0.1},
    ],
)
def test_a_metric_that_cannot_be_is_refused(metric):
    with pytest.raises(ParameterError, match="metrics"):
        plan(metrics=[metric])


def test_metrics_may_be_json_of_a_template():
    made = plan(metrics='[{"name": "score", "kind": "mean", "margin": 0.1}]')
    assert made.metrics[0].counters == ("score_sum", "score_sq_sum", "scored")


@pytest.mark.parametrize("metrics", ["[", "{}", '[{"name": "slow"}]'])
def test_metrics_that_are_no_list_of_metrics_are_refused(metrics):
    with pytest.raises((ParameterError, RecordError), match="metrics"):
        plan(metrics=metrics)


@pytest.mark.parametrize(
    ("kind", "knob", "value"),
    [
        (ShadowPlan, "mirror_percent", 0),
        (ShadowPlan, "max_seconds", 10),
        (ShadowPlan, "min_pairs", 0),
        (BlueGreenPlan, "bake_max_seconds", 600),
        (BlueGreenPlan, "bake_margin", -1),
    ],
)
def test_a_wrong_knob_of_another_kind_is_named(kind, knob, value):
    with pytest.raises(ParameterError, match=f"The {knob} parameter of (Shadow|BlueGreen)Rollout"):
        kind.of(candidate="v2", model_uri="models:/m/2", **{knob: value})


def test_alpha_is_shared_by_all_tests():
    slow, score = {"name": "slow", "kind": "rate"}, {"name": "score", "kind": "mean"}
    made = plan(metrics=[slow, score])
    shares = [made.alpha_of(name) for name in ("errors", "latency", "slow", "score")]
    assert sum(shares) == pytest.approx(made.alpha)


@pytest.mark.parametrize(("knob", "value"), [("alpha", "much"), ("on_inconclusive", "shrug")])
def test_a_knob_of_the_wrong_type_is_named(knob, value):
    with pytest.raises(RecordError, match=knob):
        plan(**{knob: value})


def test_the_next_weight_is_the_first_step_above():
    assert [plan().next_weight(weight) for weight in (0, 5, 10, 50)] == [5, 25, 25, 100]
