from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock

import pytest

from airflow_mlops_provider.triggers.git import GitBranchTrigger
from tests.forges import Forge


@pytest.fixture
def forge(tmp_path):
    return Forge(tmp_path)


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    monkeypatch.setattr("airflow_mlops_provider.triggers.git._HAND_OVER_SECONDS", 0)


def watching(forge, seen=None):
    """Return a trigger whose triggerer kept ``seen``."""
    trigger = GitBranchTrigger(repository=forge.address, poke_interval=0.01)
    trigger.asset_state_store = AsyncMock()
    trigger.asset_state_store.aget.return_value = seen
    return trigger


async def told(events):
    return (await asyncio.wait_for(anext(events), 20)).payload


async def kept(trigger, head):
    """Wait until the trigger keeps ``head``."""
    while (head,) not in [call.args[1:] for call in trigger.asset_state_store.aset.mock_calls]:
        await asyncio.sleep(0.01)


async def test_each_push_is_one_event_with_its_commits_in_order(forge):
    base = forge.pushed({"a": "0"})
    trigger = watching(forge)
    events = trigger.run()
    waiting = asyncio.create_task(told(events))
    await asyncio.wait_for(kept(trigger, base), 20)  # what was there before is no push
    commits = [forge.commit({"a": str(n)}) for n in (1, 2)]
    forge.push()
    assert await waiting == {
        "repository": forge.address,
        "branch": "main",
        "commits": commits,
        "forced": False,
    }
    more = forge.pushed({"a": "3"})
    assert (await told(events))["commits"] == [more]
    await events.aclose()


async def test_a_forced_push_is_told_as_one(forge):
    base, seen = forge.pushed({"a": "0"}), forge.pushed({"a": "1"})
    forge.git("reset", "--quiet", "--hard", base)
    replaced = forge.commit({"a": "2"})
    forge.push("--force")
    payload = await told(watching(forge, seen).run())
    assert (payload["commits"], payload["forced"]) == ([replaced], True)


async def test_what_was_pushed_while_the_triggerer_was_away_is_told(forge):
    seen = forge.pushed({"a": "0"})
    commits = [forge.pushed({"a": str(n)}) for n in (1, 2, 3)]
    assert (await told(watching(forge, seen).run()))["commits"] == commits


async def test_a_head_is_kept_only_after_its_event_was_handed_over(forge):
    seen = forge.pushed({"a": "0"})
    forge.pushed({"a": "1"})
    trigger = watching(forge, seen)
    await told(trigger.run())
    trigger.asset_state_store.aset.assert_not_awaited()


def test_a_forge_that_does_not_answer_is_asked_again(forge, tmp_path):
    head = forge.pushed({"a": "0"})
    trigger = watching(forge)
    (tmp_path / "shop.git").rename(tmp_path / "away.git")
    assert trigger._look(tmp_path / "mirror", head) == (head, None)


def test_the_trigger_is_made_anew_from_what_it_serializes():
    path, arguments = GitBranchTrigger(repository="/r.git", branch="next").serialize()
    assert path.endswith("triggers.git.GitBranchTrigger")
    assert GitBranchTrigger(**arguments).serialize() == (path, arguments)
