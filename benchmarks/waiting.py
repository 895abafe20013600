"""What rollouts cost Airflow while they wait: 200 at once, under a real scheduler and triggerer.

Each is a mapped `CanaryRolloutOperator` on an endpoint of its own. The endpoints are played by
one admin API without scorers and router, because 400 models do not fit on one machine: Airflow's
side is what is measured. Compared with rollouts that are not deferrable, of which each would hold
a worker slot. The triggerer's memory is compared with its own before any rollout waited, and the
longest silence of a rollout with a third of its lease.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from airflow_mlops_provider.serving import state as states
from airflow_mlops_provider.serving.admin import build_app
from airflow_mlops_provider.serving.counters import Counters
from airflow_mlops_provider.serving.state import EndpointState
from airflow_mlops_provider.stack.local import LocalStack
from airflow_mlops_provider.stack.service import free_ports
from benchmarks import Measure

LEASE_SECONDS, INTERVAL_SECONDS, WATCHED_SECONDS = 120, 15, 60
MAX_MB_A_ROLLOUT = 1.0
_TOKEN = "benchmark"  # noqa: S105 - of a server that lives for this benchmark
_DAG = """
from airflow.sdk import DAG
from airflow_mlops_provider.operators import CanaryRolloutOperator

version = {version!r}
with DAG("waiting", max_active_tasks=16):
    CanaryRolloutOperator.partial(
        task_id="canary", candidate=version, step_min_seconds=3600, step_max_seconds=7200,
        interval_seconds={interval}, lease_seconds={lease}, deferrable=True,
    ).expand(endpoint=[f"e{{number}}" for number in range({n})])
"""
_VERSION = {
    "name": "m",
    "version": "2",
    "model_uri": "models:/m/2",
    "model_id": None,
    "run_id": "r",
    "aliases": [],
}


class PlayedHost:
    """Endpoints with a champion each, which change as a serving host's do and serve nothing."""

    router_url = "http://127.0.0.1:1"

    def __init__(self, folder: Path, n: int) -> None:
        wanted = states.Deployment(model_uri="models:/m/1")
        champion = states.with_deployment(EndpointState(), "v1", wanted)
        champion = states.with_traffic(champion, {"v1": 100}, generation=0)
        self.endpoints = {f"e{number}": champion for number in range(n)}
        self.told: dict[str, list[float]] = {endpoint: [] for endpoint in self.endpoints}
        self._nothing = Counters(folder / "nothing.bin").read()

    def ref(self, endpoint: str) -> Any:
        """Return one endpoint."""
        return states.find(self.endpoints, endpoint).ref(endpoint, self.router_url)

    async def create_deployment(
        self, endpoint: str, name: str, model_uri: str, timeout: float, options: Any
    ) -> Any:
        """Have a deployment, which nothing serves."""
        current = self.endpoints[endpoint]
        wanted = states.wanted_deployment(current, name, model_uri, options)
        self.endpoints[endpoint] = states.with_deployment(current, name, wanted)
        return self.ref(endpoint)

    async def set_traffic(self, endpoint: str, **wanted: Any) -> Any:
        """Move traffic that is none."""
        self.endpoints[endpoint] = states.with_traffic(self.endpoints[endpoint], **wanted)
        return self.ref(endpoint)

    async def observe(self, endpoint: str) -> Any:
        """Return counters of nothing."""
        return dict.fromkeys(self.endpoints[endpoint].deployments, self._nothing)

    def rollout(self, endpoint: str) -> Any:
        """Return the rollout's document."""
        return self.endpoints[endpoint].rollout

    async def put_rollout(self, endpoint: str, **wanted: Any) -> None:
        """Keep it, and when."""
        self.endpoints[endpoint] = states.with_rollout(self.endpoints[endpoint], **wanted)
        self.told[endpoint].append(time.monotonic())

    def silence(self, since: float) -> float:
        """Return the longest time in which a rollout was not heard of, from ``since`` to now."""
        now = time.monotonic()
        heard = ([since, *(t for t in times if t > since), now] for times in self.told.values())
        return max(b - a for times in heard for a, b in pairwise(times))


class Stack(LocalStack):
    """Airflow whose serving host is played."""

    host_port = 0

    def airflow_env(self) -> dict[str, str]:
        """Return Airflow's configuration, with a Connection to the played host."""
        host = {"host": f"http://127.0.0.1:{self.host_port}", "extra": {"token": _TOKEN}}
        connection = json.dumps({"conn_type": "mlops_serving", **host})
        return {**super().airflow_env(), "AIRFLOW_CONN_SERVING_DEFAULT": connection}


def run(quick: bool) -> list[Measure]:
    """Let 10 rollouts wait when quick, else 200."""
    n = 10 if quick else 200
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dags").mkdir()
        code = _DAG.format(version=_VERSION, n=n, interval=INTERVAL_SECONDS, lease=LEASE_SECONDS)
        (folder / "dags" / "waiting.py").write_text(code)
        host = PlayedHost(folder, n)
        with served(host), Stack(folder / "home", folder / "dags") as stack:
            held, idle_mb, busy_mb, silence = _waited(stack, host, n)
    a_rollout = (busy_mb - idle_mb) / n
    return [
        Measure("waiting: worker slots", held, n, "slots", "ours is 0", held == 0, 1),
        Measure(
            "waiting: triggerer",
            busy_mb,
            idle_mb,
            "MB",
            f"at most {MAX_MB_A_ROLLOUT:g} MB a rollout",
            a_rollout <= MAX_MB_A_ROLLOUT,
            1,
        ),
        Measure(
            "waiting: longest silence",
            silence,
            LEASE_SECONDS / 3,
            "s",
            "ours is less",
            silence < LEASE_SECONDS / 3,
            1,
        ),
    ]


def _waited(stack: Stack, host: PlayedHost, n: int) -> tuple[int, float, float, float]:
    """Return slots held, the triggerer's memory before and while, and the longest silence."""
    client = stack.client()
    idle = triggerer_mb()
    client.wait_for_dag("waiting")
    run_id = client.trigger("waiting")
    deadline = time.monotonic() + 60 + 15 * n
    while Counter(client.task_states("waiting", run_id).values()) != {"deferred": n}:
        if time.monotonic() > deadline:
            raise TimeoutError(str(Counter(client.task_states("waiting", run_id).values())))
        time.sleep(2)
    since = time.monotonic()
    time.sleep(WATCHED_SECONDS)
    silence = host.silence(since)
    now = Counter(client.task_states("waiting", run_id).values())
    return n - now["deferred"], idle, triggerer_mb(), silence


def triggerer() -> list[psutil.Process]:
    """Return the triggerer's processes."""
    ours = psutil.Process().children(recursive=True)
    found = [each for each in ours if each.cmdline()[-1:] == ["triggerer"]]
    return found + [child for each in found for child in each.children() if child not in found]


def triggerer_mb() -> float:
    """Return the memory of the triggerer's processes."""
    return sum(each.memory_info().rss for each in triggerer()) / 1e6


@contextmanager
def served(host: PlayedHost) -> Iterator[None]:
    """Serve the admin API of a played host."""
    import uvicorn

    (port,) = free_ports(1)
    Stack.host_port = port
    app = build_app(host, _TOKEN)  # type: ignore[arg-type]  # it plays the host
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()
