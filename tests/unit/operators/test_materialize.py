from __future__ import annotations

from datetime import UTC, datetime, timedelta
from unittest.mock import MagicMock, patch

import jinja2
import pytest
from airflow.sdk import DAG

from airflow_mlops_provider.operators import features
from airflow_mlops_provider.operators.features import FeastApplyOperator
from airflow_mlops_provider.operators.materialize import FeastMaterializeOperator

STEPS = "airflow_mlops_provider.steps.features.materialize"


class StateStore:
    """What Airflow keeps for the tries of a task."""

    def __init__(self):
        self.kept = {}

    def get(self, key, default=None):
        return self.kept.get(key, default)

    def set(self, key, value):
        self.kept[key] = value


@pytest.fixture
def context(context):
    context["ti"].max_tries = 2
    return {**context, "task_state_store": StateStore()}


@pytest.fixture
def store(monkeypatch):
    hook = MagicMock()
    monkeypatch.setattr(features, "FeastHook", hook)
    return hook.return_value.get_conn.return_value


def materializing(**changes):
    return FeastMaterializeOperator(
        task_id="t", repo_path="repo", workspace="/w", retries=2, **changes
    )


def test_it_hands_over_its_window(context, run, store):
    operator = materializing(
        start="2013-01-01", end="2013-02-01", feature_views=["v"], overlap="PT6H", chunk=60
    )
    with patch(f"{STEPS}.materialize", return_value=["v"]) as step:
        assert operator.execute(context) == ["v"]
    options = step.call_args.kwargs
    assert step.call_args.args == (store, ["v"], "2013-01-01", "2013-02-01")
    assert (options["overlap"], options["chunk"], options["done"]) == ("PT6H", 60, None)
    assert abs(options["now"] - datetime.now(UTC)) < timedelta(hours=1)


def test_being_told_to_stop_ends_the_work_and_nothing_else(context, run, store):
    operator = materializing(start="2013-01-01", end="2013-02-01")

    def told(*arguments, **options):
        operator.on_kill()
        pytest.fail("it went on")

    with patch(f"{STEPS}.materialize", told), pytest.raises(SystemExit, match="Told to stop"):
        operator.execute(context)
    operator.on_kill()


def test_a_retry_goes_on_and_a_clear_begins_anew(context, run, store):
    operator = materializing(start="2013-01-01", end="2013-02-01")
    with patch(f"{STEPS}.materialize", return_value=["v"]) as step:
        operator.execute(context)
        step.call_args.kwargs["keep"]({"until": {"v": "x"}})
        context["ti"].try_number = 2
        operator.execute(context)
        assert step.call_args.kwargs["done"] == {"until": {"v": "x"}}
        context["ti"].max_tries = 4  # as clearing after the second try sets it
        operator.execute(context)
        assert step.call_args.kwargs["done"] is None


@pytest.mark.parametrize(
    ("given", "window"),
    [
        ({"data_interval_start": "a", "data_interval_end": "b"}, ("a", "b")),
        ({"data_interval_start": None, "data_interval_end": None}, ("", "")),
        ({}, ("", "")),
    ],
)
def test_the_window_is_the_data_interval_if_there_is_one(given, window):
    with DAG("d"):
        operator = materializing()
    strict = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True)
    operator.render_template_fields({**given, "dag": operator.dag}, strict)
    assert (operator.start, operator.end) == window


def test_views_are_mapped_by_hand_or_from_what_was_applied():
    with DAG("d"):
        apply = FeastApplyOperator(task_id="apply", repo_path="repo")
        for n, views in enumerate(([["a"], ["b", "c"]], apply.output)):
            mapped = FeastMaterializeOperator.partial(task_id=f"t{n}", repo_path="repo").expand(
                feature_views=views
            )
            assert mapped.expand_input.value == {"feature_views": views}
