from __future__ import annotations

from unittest.mock import MagicMock

import pytest
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.sensors import rollout
from airflow_mlops_provider.sensors.rollout import RolloutApprovalSensor
from tests.serving_fake import with_champion


@pytest.fixture
def target(monkeypatch):
    fake = with_champion()
    hook = MagicMock()
    hook.return_value.get_conn.return_value = fake
    monkeypatch.setattr(rollout, "ServingHook", hook)
    return fake


def asks(**changes):
    return RolloutApprovalSensor(task_id="t", endpoint="e", candidate="v2", **changes).poke({})


@pytest.mark.parametrize(
    ("document", "found"),
    [
        (None, False),
        ({"candidate": "v1", "state": "AWAIT_APPROVAL"}, False),
        ({"candidate": "v2", "state": "STEP", "weight": 50}, False),
        ({"candidate": "v2", "state": "AWAIT_APPROVAL", "weight": 25}, False),
        ({"candidate": "v2", "state": "AWAIT_APPROVAL", "weight": 50}, True),
    ],
)
def test_it_waits_for_the_weight_at_which_it_asks(target, document, found):
    target.rollout = document
    assert asks(weight="50") is found


def test_any_weight_will_do_unless_one_is_named(target):
    target.rollout = {"candidate": "v2", "state": "AWAIT_APPROVAL", "weight": 25}
    assert asks() is True


def test_a_host_that_is_down_may_still_come(target):
    target.down = True
    assert asks() is False
    assert target.closed == 1


def test_a_rollout_that_ended_needs_no_approval(target):
    target.rollout = {"candidate": "v2", "state": "ROLLED_BACK"}
    with pytest.raises(AirflowSkipException, match="ROLLED_BACK"):
        asks()
