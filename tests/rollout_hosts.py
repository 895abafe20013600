"""A serving host with the deployments that rollouts are tried on, traffic, and short rollouts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import mlflow
import numpy as np

from airflow_mlops_provider.steps.rollout.drive import Driver, begin
from airflow_mlops_provider.steps.rollout.kinds import read_state
from airflow_mlops_provider.steps.rollout.plan import BlueGreenPlan, CanaryPlan, ShadowPlan
from tests.serving_hosts import Host, log_classifier, log_function, put, registry

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.client import ServingClient

ENDPOINT = "e"
DEPLOYMENTS = {"v1": "good", "v2": "good", "v3": "failing"}
FAST = {"interval_seconds": 0.5, "lease_seconds": 60}
QUICK = {"interval_seconds": 0.1, "lease_seconds": 60, "dry_run_metrics": ["latency"]}
"""Latencies of so few requests say nothing."""
_QUICK_BAKE = {"bake_seconds": 0.3, "min_requests": 20}
_QUICK_STEPS = {**_QUICK_BAKE, "steps": (20, 60, 100), "step_min_seconds": 0, "min_requests": 5}
_QUICK_SHADOW = {"min_seconds": 0.3, "min_pairs": 50}
ROWS = [{"dataframe_split": {"columns": ["x", "y"], "data": [[x, 0.2]]}} for x in (-2.0, 0.5, 2.0)]
FAILS = ROWS[2]
"""A request that v3 fails."""


class Failing(mlflow.pyfunc.PythonModel):
    """Fails where x is above 1."""

    def predict(self, context, model_input, params=None):
        if model_input["x"].iloc[0] > 1:
            raise ArithmeticError("too large")
        return np.full(len(model_input), 0.5)


@dataclass
class RolloutHost:
    """A host with one endpoint, since loading a model takes longer than a short rollout."""

    host: Host
    models: dict[str, str]

    @property
    def client(self) -> ServingClient:
        return self.host.client

    def reset(self) -> None:
        """Let v1 serve everything and nobody roll anything out; v2 is the same model."""
        self.client.create_endpoint(ENDPOINT)
        self.client.clear_rollout(ENDPOINT)
        for name, model in DEPLOYMENTS.items():
            self.client.create_deployment(ENDPOINT, name, self.models[model])
        ref = put(self.client, ENDPOINT, {"v1": 100}, mirror_traffic={}, shield=False)
        for name in ref.deployments.keys() - DEPLOYMENTS.keys():
            self.client.delete_deployment(ENDPOINT, name)

    def canary(self, candidate: str = "v2", **knobs: Any) -> CanaryPlan:
        defaults = {"step_min_seconds": 3, "step_max_seconds": 60, "min_requests": 30}
        return self._plan(CanaryPlan, candidate, defaults | {"bake_seconds": 1} | knobs)

    def shadow(self, candidate: str = "v2", **knobs: Any) -> ShadowPlan:
        defaults = {"min_pairs": 100, "min_seconds": 2, "max_seconds": 60}
        return self._plan(ShadowPlan, candidate, defaults | knobs)

    def blue_green(self, candidate: str = "v2", **knobs: Any) -> BlueGreenPlan:
        defaults = {"min_requests": 60, "bake_seconds": 2, "bake_max_seconds": 60}
        return self._plan(BlueGreenPlan, candidate, defaults | knobs)

    def quick(self, kind: str, candidate: str = "v2", patience: float = 60, **knobs: Any) -> Any:
        """Return the plan of a rollout of a few seconds, undecided after ``patience`` seconds."""
        make, defaults = {
            "canary": (self.canary, {"step_max_seconds": patience, **_QUICK_STEPS}),
            "blue_green": (self.blue_green, {"bake_max_seconds": patience, **_QUICK_BAKE}),
            "shadow": (self.shadow, {"max_seconds": patience, **_QUICK_SHADOW}),
        }[kind]
        return make(candidate, **QUICK | defaults | knobs)

    def ended(self, plan: Any) -> Any:
        """Return how the rollout of ``plan`` ended, which the endpoint has to agree with."""
        document, ref = self.client.get_rollout(ENDPOINT), self.client.get_state(ENDPOINT)
        state = read_state(document)
        assert (state.identity, state.ended) == (plan.identity, True)
        assert (ref.traffic, ref.mirror_traffic, ref.shield) == (state.traffic, {}, False)
        return state

    def counted(self, name: str) -> int:
        """Return how many requests a deployment has answered."""
        return int(self.client.observe(ENDPOINT)[name]["requests"])

    def drive(
        self, plan: Any, holds: Callable[[Any], bool] | None = None, seconds: float = 90
    ) -> Any:
        """Drive a rollout until its state is as asked, or to its end; return that state."""
        begin(self.client, ENDPOINT, plan, time.time())
        driver, deadline = Driver(self.client, ENDPOINT, plan), time.monotonic() + seconds
        while time.monotonic() < deadline:
            state = driver.tick(time.time())
            if state and (state.ended or (holds and holds(state))):
                return state
            time.sleep(plan.interval_seconds)
        raise AssertionError(f"no end: {state}")

    @contextmanager
    def traffic(
        self, rate: float = 60, threads: int = 2, rows: Sequence[dict] = ROWS
    ) -> Iterator[list[tuple[int, str | None]]]:
        """Send requests at a bounded rate; gives the list of (status, deployment) seen."""
        url = f"{self.client.get_state(ENDPOINT).url}/invocations"
        seen: list[tuple[int, str | None]] = []
        ended = threading.Event()

        def run() -> None:
            with httpx.Client(timeout=40) as http:
                for number in count():
                    if ended.wait(threads / rate):
                        return
                    answer = http.post(url, json=rows[number % len(rows)])
                    seen.append((answer.status_code, answer.headers.get("x-deployment")))

        workers = [threading.Thread(target=run) for _ in range(threads)]
        for worker in workers:
            worker.start()
        try:
            yield seen
        finally:
            ended.set()
            for worker in workers:
                worker.join()

    def _plan(self, kind: Any, candidate: str, knobs: dict[str, Any]) -> Any:
        uri = self.models[DEPLOYMENTS.get(candidate, "good")]
        return kind.of(candidate=candidate, model_uri=uri, **FAST | knobs)


@contextmanager
def rollout_host(make_folder: Callable[[str], Path]) -> Iterator[RolloutHost]:
    """Start a host of its own workspace and registry, and end it with all it started."""
    tracking_uri = registry(make_folder("mlflow"))
    models = {"good": log_classifier("good"), "failing": log_function("failing", Failing())}
    host = Host(make_folder("workspace"), tracking_uri)
    try:
        yield RolloutHost(host, models)
        assert host.stop() == 0
    finally:
        host.close()


def statuses(seen: list[tuple[int, str | None]]) -> set[int]:
    """Return the status codes that users saw."""
    return {status for status, _ in seen}
