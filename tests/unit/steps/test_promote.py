from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from threading import Barrier

import pytest

from airflow_mlops_provider.exceptions import (
    MlflowUnavailableError,
    ModelError,
    ParameterError,
    RegistryConflictError,
)
from airflow_mlops_provider.steps import promotion_lock as locking
from airflow_mlops_provider.steps.promote import (
    promote_version,
    roll_back,
    set_alias,
)
from airflow_mlops_provider.steps.promotion_lock import promotion_lock
from airflow_mlops_provider.steps.register import find_version, register_model


@pytest.fixture
def versions(client, name, models):
    return [register_model(client, model, name=name) for model in models]


def aliases(client, name):
    found = client.get_registered_model(name).aliases
    return {alias: str(version) for alias, version in found.items()}


def test_promotion_moves_all_three_aliases(client, name, models):
    register_model(client, models[0], name=name)
    second = register_model(client, models[1], name=name)
    assert promote_version(client, second, expected_champion="1").aliases == ["champion"]
    assert find_version(client, name, "previous").version == "1"
    assert find_version(client, name, "challenger") is None


def test_promoting_again_changes_nothing(client, name, models):
    register_model(client, models[0], name=name)
    second = register_model(client, models[1], name=name)
    for _ in range(2):
        promote_version(client, second, expected_champion="1")
    assert find_version(client, name, "previous").version == "1"


def test_a_promotion_decided_against_an_older_champion_is_refused(client, name, models):
    register_model(client, models[0], name=name)
    second = register_model(client, models[1], name=name)
    third = register_model(client, models[2], name=name)
    promote_version(client, third, expected_champion="1")
    with pytest.raises(RegistryConflictError, match="found 3"):
        promote_version(client, second, expected_champion="1")
    assert find_version(client, name, "champion").version == "3"


def test_a_version_that_is_not_registered_is_not_promoted(client, name, models):
    version = register_model(client, models[0], name=name)
    for unknown in (replace(version, name="nobody"), replace(version, version="9")):
        with pytest.raises(ModelError, match=f"models:/{unknown.name}/{unknown.version}"):
            promote_version(client, unknown, expected_champion=None)


def test_two_promotions_against_one_champion_cannot_both_win(client, name, versions):
    start = Barrier(2)

    def run(version):
        start.wait()
        try:
            return promote_version(client, version, expected_champion="1").version
        except RegistryConflictError:
            return None

    with ThreadPoolExecutor(2) as pool:
        won = [version for version in pool.map(run, versions[1:]) if version]
    assert [find_version(client, name, "champion").version] == won
    assert find_version(client, name, "previous").version == "1"


def test_a_promotion_that_died_half_way_is_finished_by_the_next_try(client, name, versions):
    client.set_registered_model_alias(name, "previous", "1")  # as far as it came
    assert promote_version(client, versions[1], expected_champion="1").version == "2"
    assert aliases(client, name) == {"champion": "2", "previous": "1", "challenger": "3"}


def test_the_lock_of_a_dead_process_is_broken(client, name, versions, monkeypatch):
    monkeypatch.setattr(locking, "_STALE_SECONDS", 0.3)
    client.create_registered_model(f"{name}.promotion-lock")
    assert promote_version(client, versions[1], expected_champion="1").version == "2"
    assert not client.search_registered_models("name LIKE '%.promotion-lock'")


def test_a_lock_that_is_held_too_long_is_said(client, name, monkeypatch):
    monkeypatch.setattr(locking, "_WAIT_SECONDS", 0.3)
    with (
        promotion_lock(client, name),
        pytest.raises(MlflowUnavailableError, match="Another promotion"),
        promotion_lock(client, name),
    ):
        pass


def test_whoever_lost_the_lock_neither_writes_nor_frees_it(client, name, monkeypatch):
    monkeypatch.setattr(locking, "_STALE_SECONDS", 0.3)
    with ExitStack() as later:
        with promotion_lock(client, name) as held_up:
            held_up()
            rival = later.enter_context(promotion_lock(client, name))
            with pytest.raises(MlflowUnavailableError, match="took"):
                held_up()
        rival()
    assert not client.search_registered_models("name LIKE '%.promotion-lock'")


def test_a_request_that_reached_the_server_twice_still_gets_the_lock(client, name, monkeypatch):
    create = type(client).create_registered_model

    def twice(self, *arguments, **named):
        create(self, *arguments, **named)
        return create(self, *arguments, **named)

    monkeypatch.setattr(type(client), "create_registered_model", twice)
    with promotion_lock(client, name) as require_held:
        require_held()


def test_rolling_back_goes_one_step_at_a_time(client, name, versions):
    promote_version(client, versions[1], expected_champion="1")
    promote_version(client, versions[2], expected_champion="2")
    assert roll_back(client, name, reason="slow", by="a").version == "2"
    assert aliases(client, name) == {"champion": "2", "previous": "1"}
    assert client.get_model_version(name, "3").tags["mlops.rolled_back"] == "slow"
    assert roll_back(client, name, reason="wrong", by="b").version == "1"
    assert aliases(client, name) == {"champion": "1"}
    with pytest.raises(ModelError, match="got 1 and None"):
        roll_back(client, name, reason="more", by="c")


def test_the_same_roll_back_twice_goes_back_once(client, name, versions):
    promote_version(client, versions[1], expected_champion="1")
    promote_version(client, versions[2], expected_champion="2")
    for _ in range(2):
        assert roll_back(client, name, reason="slow", by="a run's task").version == "2"
    assert aliases(client, name) == {"champion": "2", "previous": "1"}


def test_a_roll_back_that_died_half_way_is_finished_by_the_next_try(client, name, versions):
    promote_version(client, versions[1], expected_champion="1")
    client.set_model_version_tag(name, "2", "mlops.rolled_back_by", "a")
    client.set_registered_model_alias(name, "champion", "1")  # as far as it came
    assert roll_back(client, name, reason="slow", by="a").version == "1"
    assert aliases(client, name) == {"champion": "1", "challenger": "3"}


def test_after_a_promotion_died_half_way_a_roll_back_goes_to_what_was_there_before(
    client, name, versions
):
    promote_version(client, versions[1], expected_champion="1")
    client.set_registered_model_alias(name, "previous", "2")  # as far as version 3 came
    assert roll_back(client, name, reason="slow", by="a").version == "1"
    client.set_registered_model_alias(name, "previous", "1")
    with pytest.raises(ModelError, match="got 1 and None"):
        roll_back(client, name, reason="slow", by="b")


def test_a_champion_that_is_another_by_now_is_not_rolled_back(client, name, versions):
    promote_version(client, versions[1], expected_champion="1")
    with pytest.raises(RegistryConflictError, match="found 2"):
        roll_back(client, name, reason="slow", by="a", expected_champion="1")
    assert find_version(client, name, "champion").version == "2"


def test_an_alias_of_ones_own_is_set(client, name, versions):
    for _ in range(2):
        assert "staging" in set_alias(client, f"models:/{name}/2", "staging").aliases
    assert set_alias(client, f"models:/{name}@champion", "staging").version == "1"


@pytest.mark.parametrize(
    ("model", "alias", "error"),
    [
        ("models:/{}/2", "champion", ParameterError),
        ("models:/{}/2", "previous", ParameterError),
        ("models:/{}/9", "staging", ModelError),
    ],
)
def test_an_alias_that_cannot_be_set_is_said(client, name, versions, model, alias, error):
    with pytest.raises(error):
        set_alias(client, model.format(name), alias)
