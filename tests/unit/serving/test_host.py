from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_mlops_provider.exceptions import (
    ModelError,
    RegistryConflictError,
    ServingUnavailableError,
)
from airflow_mlops_provider.serving import host as module
from airflow_mlops_provider.serving import slots
from airflow_mlops_provider.serving import state as states
from airflow_mlops_provider.serving.host import ServingHost
from airflow_mlops_provider.serving.options import DeploymentOptions
from airflow_mlops_provider.serving.processes import Born
from airflow_mlops_provider.serving.state import Deployment, EndpointState
from airflow_mlops_provider.serving.workers import Worker

V1, V2 = Deployment(model_uri="models:/m/1"), Deployment(model_uri="models:/m/2")
STATE = EndpointState(deployments={"v1": V1, "v2": V2}, traffic={"v1": 100})
KEY = ("e", "v2")


class FakeEnvoy:
    """Takes over what it is told, late or never."""

    def __init__(self, *address) -> None:
        self.ended = self.stuck = self.edited = False
        self.told = self.served = self.ports = None
        self.pid, self.instance = 1, "first"

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
    returncode = -9

    def __init__(self) -> None:
        self.pid = next(self.pids)
        self.gone = asyncio.Event()

    async def wait(self) -> int:
        await self.gone.wait()
        return -9

    def kill(self) -> None:
        self.gone.set()


class FakeWorker(Worker):
    """A scorer that answers while it is not hung, and holds the memory it was given."""

    hung = False
    held = 1.0

    @property
    def memory_mb(self) -> float:
        return self.held

    async def ping(self, client) -> bool:
        return not self.hung


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "Envoy", FakeEnvoy)
    monkeypatch.setattr(module, "_TICK_SECONDS", 0.01)
    monkeypatch.setattr(slots, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(slots, "_LOOK_SECONDS", 0.01)
    return tmp_path


@pytest.fixture
async def host(folder, monkeypatch):
    async with running(folder, STATE, monkeypatch) as host:
        yield host


@asynccontextmanager
async def running(folder, state, monkeypatch):
    """Run a host whose scorers are ``launched`` here; they end once they may: ``draining``."""
    states.save(folder / "state.json", {"e": state})
    host = ServingHost(folder, "uri", "127.0.0.1", 1, hung_seconds=0.05)
    host.launched = []
    host.draining = asyncio.Event()
    host.draining.set()

    async def launch(key, deployment, number, timeout):
        process = FakeProcess()
        host.launched.append(process)
        await asyncio.sleep(0)
        return FakeWorker(process, Born(process.pid, 0), 1000 + process.pid, number, [])

    async def stop(process):
        await host.draining.wait()
        process.gone.set()

    async def keep():
        pass

    host._orphans.keep = keep
    host._scorers._launcher = SimpleNamespace(start=launch)
    monkeypatch.setattr(slots, "stop", stop)
    await host.start()
    try:
        yield host
    finally:
        host.draining.set()
        await host.stop()


async def until(holds) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.01)


def stored(host):
    return states.load(host.folder / "state.json")


def workers(host, key=KEY):
    return list(host._scorers._teams[key].workers())


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


async def test_router_whose_file_was_edited_is_told_again(host):
    host._envoy.served = None
    host._envoy.edited = True
    await until(lambda: host._envoy.served == host.endpoints)


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
    workers(host)[0].process.kill()
    await until(lambda: host._envoy.told is not None and len(alive(host)) == 2)
    await asyncio.sleep(0.1)
    assert len(host.launched) == 3
    host._envoy.stuck = False
    await until(lambda: host._envoy.ports[KEY] == [workers(host)[0].port])


@pytest.mark.parametrize("error", [BlockingIOError("try again"), RuntimeError("a bug")])
async def test_scorer_comes_back_although_it_could_not_be_started_once(host, error):
    launch = host._scorers._launcher.start

    async def refused(*arguments):
        host._scorers._launcher.start = launch
        raise error

    host._scorers._launcher.start = refused
    workers(host)[0].process.kill()
    await until(lambda: len(alive(host)) == 2)


async def test_scorer_that_dies_again_and_again_is_started_ever_more_slowly(host, monkeypatch):
    pauses, pause = [], slots._pause

    def seen(failures):
        pauses.append(pause(failures))
        return 0

    monkeypatch.setattr(slots, "_pause", seen)
    for n in range(2, 12):
        workers(host)[0].process.kill()
        await until(lambda n=n: len(host.launched) == n + 1 and workers(host))
    assert pauses == sorted(pauses)
    assert pauses[0] > 0
    assert pauses[-1] > 100 * pauses[0]
    monkeypatch.setattr(slots, "_STEADY_SECONDS", 0)
    workers(host)[0].process.kill()
    await until(lambda: pauses[-1] == 0)
    await until(lambda: host.status("e")["v2"]["restarts"] == {"ended": 11})


async def test_hung_scorer_is_replaced(host):
    silent = workers(host)[0]
    silent.hung = True
    await until(lambda: workers(host) not in ([], [silent]))
    assert silent.process.gone.is_set()
    await until(lambda: host.status("e")["v2"]["restarts"] == {"hung": 1})


async def test_scorer_that_grew_too_large_serves_until_another_does(folder, monkeypatch):
    limited = replace(V2, options=DeploymentOptions.of({"memory_mb": 100}))
    state = replace(STATE, deployments={"v1": V1, "v2": limited})
    async with running(folder, state, monkeypatch) as host:
        large = workers(host)[0]
        host.draining.clear()
        large.held = 101.0
        await until(lambda: host._envoy.ports[KEY] not in ([], [large.port]))
        assert not large.process.gone.is_set()
        assert workers(host)[0].number == 1  # the large one still writes the files of number 0
        host.draining.set()
        await until(lambda: host.status("e")["v2"]["restarts"] == {"memory": 1})
        assert large.process.gone.is_set()


async def test_each_worker_is_brought_back_alone(folder, monkeypatch):
    state = replace(
        STATE, deployments={"v2": replace(V2, options=DeploymentOptions.of({"workers": 3}))}
    )
    async with running(folder, replace(state, traffic={}), monkeypatch) as host:
        first, second, third = workers(host)
        assert {each.number for each in (first, second, third)} == {0, 1, 2}
        assert sorted(host._envoy.ports[KEY]) == sorted(
            each.port for each in (first, second, third)
        )
        second.process.kill()
        await until(lambda: len(workers(host)) == 3 and second not in workers(host))
        found = workers(host)
        assert [found[0], found[2]] == [first, third]
        assert found[1].number == second.number


async def test_options_are_kept_by_who_names_none(host):
    two = DeploymentOptions.of({"workers": 2})
    await host.create_deployment("e", "v3", "models:/m/3", 1, two)
    before = host.endpoints
    await host.create_deployment("e", "v3", "models:/m/3", 1)
    assert host.endpoints == before
    with pytest.raises(RegistryConflictError, match="workers=2"):
        await host.create_deployment("e", "v3", "models:/m/3", 1, DeploymentOptions())
    with pytest.raises(RegistryConflictError, match="models:/m/9"):
        await host.create_deployment("e", "v3", "models:/m/9", 1)


async def test_limit_that_a_scorer_exceeds_at_once_is_refused(host):
    launch = host._scorers._launcher.start

    async def heavy(*arguments):
        worker = await launch(*arguments)
        worker.held = 300.0
        return worker

    host._scorers._launcher.start = heavy
    small = DeploymentOptions.of({"memory_mb": 100})
    with pytest.raises(ModelError, match=r"holds 300 MB .*memory_mb=100"):
        await host.create_deployment("e", "v3", "models:/m/3", 1, small)
    assert len(alive(host)) == 2


async def test_one_worker_that_cannot_be_started_leaves_none(host):
    launch = host._scorers._launcher.start

    async def only_first(key, deployment, number, timeout):
        if number:
            raise ModelError("no room")
        return await launch(key, deployment, number, timeout)

    host._scorers._launcher.start = only_first
    two = DeploymentOptions.of({"workers": 2})
    with pytest.raises(ModelError):
        await host.create_deployment("e", "v3", "models:/m/3", 1, two)
    assert "v3" not in host.endpoints["e"].deployments
    assert len(alive(host)) == 2


async def test_deployment_made_again_while_its_old_scorer_drains_keeps_the_new_one(host):
    host.draining.clear()
    deleting = asyncio.create_task(host.delete_deployment("e", "v2"))
    await until(lambda: "v2" not in host.endpoints["e"].deployments)
    creating = asyncio.create_task(host.create_deployment("e", "v2", "models:/m/3", 1))
    await asyncio.sleep(0.05)
    host.draining.set()
    await asyncio.gather(deleting, creating)
    assert host.ref("e").deployments["v2"] == "models:/m/3"
    assert [workers(host)[0].process] == host.launched[2:]
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
