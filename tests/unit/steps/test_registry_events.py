from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.promote import promote_version, set_alias
from airflow_mlops_provider.steps.register import register_model
from airflow_mlops_provider.steps.registry_events import (
    RegistryState,
    newest_version,
    registry_events,
    registry_state,
)

STATES = st.builds(
    RegistryState,
    st.integers(0, 5),
    st.dictionaries(st.sampled_from(["champion", "challenger", "mine"]), st.sampled_from("12345")),
)


@given(STATES, STATES)
def test_events_lead_from_one_state_to_the_other(before, after):
    newest, aliases = before.newest, dict(before.aliases)
    for event in registry_events("delay", before, after):
        assert event["name"] == "delay"
        if event["event"] == "version_created":
            newest = int(event["version"])
            continue
        assert event["previous"] == aliases.pop(event["alias"], None)
        if event["event"] == "alias_set":
            aliases[event["alias"]] = event["version"]
    assert aliases == after.aliases
    assert newest == max(before.newest, after.newest)


@given(STATES)
def test_nothing_happened_if_nothing_changed(state):
    assert registry_events("delay", state, state) == []
    assert RegistryState.of(state.to_json()) == state


def test_what_people_do_by_hand_is_seen(client, name, models):
    seen = [registry_state(client, name)]
    first = register_model(client, models[0], name=name)
    register_model(client, models[1], name=name)
    seen.append(registry_state(client, name))
    set_alias(client, first.model_uri, "staging")
    client.delete_registered_model_alias(name, "challenger")
    seen.append(registry_state(client, name))
    told = [
        [(event["event"], event["version"], event["alias"]) for event in events]
        for events in (registry_events(name, *pair) for pair in itertools.pairwise(seen))
    ]
    assert told == [
        [
            ("version_created", "1", None),
            ("version_created", "2", None),
            ("alias_set", "2", "challenger"),
            ("alias_set", "1", "champion"),
        ],
        [("alias_set", "1", "staging"), ("alias_deleted", None, "challenger")],
    ]


def test_the_newest_version_and_that_of_an_alias(client, name, models):
    assert newest_version(client, name) is None
    versions = [register_model(client, model, name=name) for model in models[:2]]
    assert newest_version(client, name).version == "2"
    assert newest_version(client, name, newer_than="2") is None
    assert newest_version(client, name, alias="champion").version == "1"
    promote_version(client, versions[1], expected_champion="1")
    assert newest_version(client, name, alias="champion", newer_than="1").version == "2"
    assert newest_version(client, name, alias="nobody") is None


def test_a_version_is_a_number(client, name):
    with pytest.raises(ParameterError, match="newer_than"):
        newest_version(client, name, newer_than="latest")
