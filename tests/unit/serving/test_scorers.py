from __future__ import annotations

import json

import pytest

from airflow_mlops_provider.serving import scorers
from airflow_mlops_provider.serving.observer import Observer
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.processes import Born
from airflow_mlops_provider.serving.scorers import Scorers
from airflow_mlops_provider.serving.state import Deployment
from airflow_mlops_provider.serving.workers import Worker

KEY = ("e", "v1")
TWO = Deployment(model_uri="models:/m/1", options=DeploymentOptions.of({"workers": 2}))


async def moved() -> None:
    pass


def found_by(folder, tracking_uri="uri") -> Scorers:
    return Scorers(folder, tracking_uri, Observer(folder), lambda key: True, moved, 30)


@pytest.fixture
def left(tmp_path, monkeypatch):
    """Two scorers of a host that died, the second of which died with it."""

    def find(described, folder):
        born = Born(**described.pop("born"))
        return None if born.pid == 2 else Worker(process=None, born=born, **described)

    monkeypatch.setattr(scorers.Worker, "find", find)
    first = found_by(tmp_path)
    team = first._teams[KEY] = first._team(KEY, TWO)
    for number, slot in enumerate(team.slots):
        arguments = first._launcher.arguments(KEY, TWO, number)
        slot.worker = Worker(None, Born(number + 1, 0.5), 1001 + number, number, arguments)
    first._keep()
    return tmp_path


def test_scorers_that_run_are_adopted(left):
    second = found_by(left)
    second.adopt({KEY: TWO, ("e", "v2"): TWO})
    assert second.addresses == {KEY: [1001], ("e", "v2"): []}
    assert second.pids == {1}
    assert second.status(KEY)["wanted"] == 2


def test_scorer_is_not_adopted_for_another_model_options_or_registry(left):
    others = (
        (found_by(left), Deployment(model_uri="models:/m/2", options=TWO.options)),
        (found_by(left), Deployment(model_uri="models:/m/1")),
        (found_by(left, "other"), TWO),
    )
    for host, deployment in others:
        host.adopt({KEY: deployment})
        assert host.addresses == {KEY: []}


def test_scorers_of_other_code_are_not_adopted(left):
    file = left / "processes" / "scorers.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "version": "0"}))
    host = found_by(left)
    host.adopt({KEY: TWO})
    assert host.addresses == {KEY: []}


def test_number_of_a_scorer_is_free_once_it_has_gone(tmp_path):
    host = found_by(tmp_path)
    team = host._team(KEY, TWO)
    with team.number() as first, team.number() as second:
        assert (first, second) == (0, 1)
    team.slots[1].leaving = Worker(None, Born(1, 0), 1, 0, [])
    with team.number() as third:
        assert third == 1
