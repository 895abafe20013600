from __future__ import annotations

import asyncio
import threading

import pytest

from airflow_mlops_provider.triggers import looking
from airflow_mlops_provider.triggers.looking import shared_look


@pytest.fixture
def world():
    """Something to look at, which answers once it is let."""
    looked, answer = [], threading.Event()

    def look(*question):
        looked.append((question, threading.current_thread().name))
        assert answer.wait(10)
        if question == ("broken",):
            raise LookupError(question)
        return question

    look.looked, look.answer = looked, answer
    return look


async def test_a_thousand_who_ask_the_same_share_one_look(world, monkeypatch):
    monkeypatch.setattr(looking, "FRESH_SECONDS", 600)
    asked = [asyncio.create_task(shared_look(world, "same")) for _ in range(1000)]
    await asyncio.sleep(0)
    world.answer.set()
    assert await asyncio.gather(*asked) == [("same",)] * 1000
    assert await shared_look(world, "same") == ("same",)
    assert len(world.looked) == 1


async def test_a_thousand_questions_take_a_few_threads(world):
    before = threading.active_count()
    asked = [asyncio.create_task(shared_look(world, n)) for n in range(1000)]
    await asyncio.sleep(0.05)
    assert threading.active_count() - before <= looking._THREADS
    world.answer.set()
    assert await asyncio.gather(*asked) == [(n,) for n in range(1000)]
    assert len({thread for _, thread in world.looked}) <= looking._THREADS


async def test_one_who_gives_up_takes_nothing_from_the_others(world):
    first, second = (asyncio.create_task(shared_look(world, "x")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    world.answer.set()
    assert await second == ("x",)


async def test_an_old_answer_is_not_given_again_nor_kept(world, monkeypatch):
    monkeypatch.setattr(looking, "FRESH_SECONDS", 0)
    world.answer.set()
    for n in (1, 1, 2):
        await shared_look(world, n)
    assert len(world.looked) == 3
    assert (world, (1,)) not in looking._looks


async def test_who_looks_is_told_what_went_wrong(world):
    world.answer.set()
    with pytest.raises(LookupError):
        await shared_look(world, "broken")
