from __future__ import annotations

import asyncio
import itertools
from types import SimpleNamespace

import pytest

from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.serving import host as module
from airflow_mlops_provider.serving import scorers
from airflow_mlops_provider.serving import state as states
from airflow_mlops_provider.serving.host import ServingHost
from airflow_mlops_provider.serving.scorers import Running
from airflow_mlops_provider.serving.state import Deployment, EndpointState

V1, V2 = Deployment(model_uri="models:/m/1"), Deployment(model_uri="models:/m/2")
STATE = EndpointState(deployments={"v1": V1, "v2": V2}, traffic={"v1": 100})
KEY = ("e", "v2")


class FakeEnvoy:
    """Takes over what it is told, late or never."""

    def __init__(self, *address) -> None:
        self.ended = self.stuck = False
        self.told = self.served = self.ports = None

    async def start(self, endpoints, addresses) -> None:
        self.ended = False
        self.told = self.served = endpoints
        self.ports = dict(addresses)

    async def apply(self, endpoints, addresses) -> None:
        self.told = endpoints
        await asyncio.sleep(0)
        if self.stuck:
            raise ServingUnavailableError("Envoy did not take over its configuration.")
        await self.start(endpoints, addresses)

    async def unanswered(self) -> dict[str, int]:
        return {}

    async def stop(self) -> None:
        self.ended = True


class FakeProcess:
    """A scorer that lives until it is stopped or dies."""

    pids = itertools.count(1)

    def __init__(self) -> None:
        self.pid = next(self.pids)
        self.gone = asyncio.Event()

    async def wait(self) -> int:
        await self.gone.wait()
        return -9


@pytest.fixture
async def host(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Envoy", FakeEnvoy)
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(scorers, "_PAUSE_SECONDS", 0.01)
    states.save(tmp_path / "state.json", {"e": STATE})
    host = ServingHost(tmp_path, "uri", "127.0.0.1", 1)
    host.launched = []
    host.draining = asyncio.Event()
    host.draining.set()

    async def launch(key, model_uri, timeout):
        process = FakeProcess()
        host.launched.append(process)
        await asyncio.sleep(0)
        return Running(process, 1000 + process.pid)

    async def stop(process):
        await host.draining.wait()
        process.gone.set()

    host._scorers._launch = launch
    monkeypatch.setattr(scorers, "stop", stop)
    await host.start()
    yield host
    host.draining.set()
    await host.stop()


async def until(holds) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def stored(host):
    return states.load(host.folder / "state.json")


def alive(host):
    return [process for process in host.launched if not process.gone.is_set()]


async def test_change_the_router_does_not_take_over_is_no_change_and_can_be_repeated(host):
    host._envoy.stuck = True
    wanted = {"traffic": {"v2": 100}, "generation": 0}
    with pytest.raises(ServingUnavailableError):
        await host.set_traffic("e", **wanted)
    assert (host.ref("e").traffic, host.ref("e").generation) == ({"v1": 100}, 0)
    assert stored(host) == host.endpoints
    host._envoy.stuck = False
    again = await host.set_traffic("e", **wanted)
    assert (again.traffic, again.generation) == ({"v2": 100}, 1)
    assert host._envoy.served == stored(host) == host.endpoints


async def test_router_is_brought_back_to_what_is_stored(host):
    host._envoy.stuck = True
    with pytest.raises(ServingUnavailableError):
        await host.set_traffic("e", traffic={"v2": 100}, generation=0)
    host._envoy.served = host._envoy.told  # it was only late
    host._envoy.stuck = False
    await until(lambda: host._envoy.served == host.endpoints)
    assert host.endpoints["e"].traffic == {"v1": 100}


async def test_state_that_cannot_be_stored_is_not_served(host, monkeypatch):
    def full(path, endpoints):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module.states, "save", full)
        with pytest.raises(OSError, match="No space"):
            await host.set_traffic("e", traffic={"v2": 100}, generation=0)
    await until(lambda: host._envoy.served == host.endpoints)
    assert host.endpoints["e"].traffic == {"v1": 100}


async def test_repeat_whose_answer_was_lost_is_answered_again(host):
    wanted = {"traffic": {"v2": 100}, "generation": 0}
    first = await host.set_traffic("e", **wanted)
    assert await host.set_traffic("e", **wanted) == first


async def test_lease_that_expires_while_the_router_is_stuck_rolls_back_later(host):
    await host.set_traffic("e", traffic={"v1": 50, "v2": 50}, generation=0)
    host._envoy.stuck = True
    document = {"document": {"state": "STEP"}, "rollback_traffic": {"v1": 100}}
    await host.put_rollout("e", lease_seconds=0.01, **document)
    await until(lambda: host._envoy.told["e"].traffic == {"v1": 100})
    assert host.rollout("e") == {"state": "STEP"}
    host._envoy.stuck = False
    await until(lambda: host.rollout("e")["state"] == "ROLLED_BACK")
    assert host._envoy.served["e"].traffic == {"v1": 100}


async def test_router_that_ended_is_started_with_what_is_stored(host):
    host._envoy.served = None
    host._envoy.ended = True
    await until(lambda: host._envoy.served == host.endpoints)
    assert not host._envoy.ended


async def test_scorer_comes_back_once_while_the_router_is_stuck(host):
    host._envoy.stuck = True
    host._scorers._running[KEY].process.gone.set()
    await until(lambda: host._envoy.told is not None and len(alive(host)) == 2)
    await asyncio.sleep(0.1)
    assert len(host.launched) == 3
    host._envoy.stuck = False
    await until(lambda: host._envoy.ports[KEY] == host._scorers._running[KEY].port)


async def test_scorer_comes_back_although_the_machine_refused_it_once(host, monkeypatch):
    launch = host._scorers._launch

    async def refused(*arguments):
        host._scorers._launch = launch
        raise BlockingIOError("Resource temporarily unavailable")

    host._scorers._launch = refused
    host._scorers._running[KEY].process.gone.set()
    await until(lambda: len(alive(host)) == 2)


async def test_deployment_made_again_while_its_old_scorer_drains_keeps_the_new_one(host):
    host.draining.clear()
    deleting = asyncio.create_task(host.delete_deployment("e", "v2"))
    await until(lambda: "v2" not in host.endpoints["e"].deployments)
    creating = asyncio.create_task(host.create_deployment("e", "v2", "models:/m/3", 1))
    await asyncio.sleep(0.05)
    host.draining.set()
    await asyncio.gather(deleting, creating)
    assert host.ref("e").deployments["v2"] == "models:/m/3"
    assert [host._scorers._running[KEY].process] == host.launched[2:]
    assert len(alive(host)) == 2


async def test_older_count_of_lost_requests_does_not_overtake_a_newer(host):
    answers = [SimpleNamespace(total=1, wait=0.05), SimpleNamespace(total=2, wait=0)]
    await asyncio.sleep(0.05)
    for task in host._watches:
        task.cancel()

    async def unanswered():
        answer = answers.pop(0)
        await asyncio.sleep(answer.wait)
        return {"e/v1": answer.total}

    host._envoy.unanswered = unanswered
    await asyncio.gather(host.observe("e"), host.observe("e"))
    assert host._observer.read("e", "v1")["errors"] == 2
