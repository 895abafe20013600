"""What waiting sensors cost Airflow: 1,000 at once, under a real scheduler and triggerer.

Half of them wait for drift and half for an endpoint to keep its limits, ten names of each. They are
deferred by the scheduler itself (`start_from_trigger`), because starting 1,000 processes first
would take half an hour of two cores; a trigger then holds the context of its task as well, so its
memory is an upper bound. Compared with sensors that are not deferrable, of which each would hold a
worker slot; with the triggerer's own memory before any sensor waited; and with as many looks as
sensors that share none would take.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks import Measure
from benchmarks.waiting import PlayedHost, Stack, served, triggerer, triggerer_mb

NAMES, INTERVAL_SECONDS, WATCHED_SECONDS, READY_SECONDS = 10, 30, 60, 600
IMPORTS_MB, MAX_MB_A_SENSOR, MAX_THREADS, MAX_BLOCKED = 50, 0.5, 8, 0.05
_DAG = """
from airflow.sdk import DAG
from airflow.triggers.base import StartTriggerArgs
from airflow_mlops_provider.sensors import DataDriftSensor, EndpointHealthSensor


def waiting(sensor, trigger, **arguments):
    start = StartTriggerArgs(
        trigger_cls="airflow_mlops_provider.triggers." + trigger,
        trigger_kwargs={{**arguments, "poke_interval": {interval}}},
        next_method="execute_complete", next_kwargs=None, timeout=None,
    )
    attributes = {{"start_from_trigger": True, "start_trigger_args": start}}
    return type("Waiting" + sensor.__name__, (sensor,), attributes)


limits = {{"max_error_rate": 0.05, "window_seconds": 60.0, "min_requests": 100}}
with DAG("sensors", max_active_tasks={n}):
    for number in range({names}):
        name = f"e{{number}}"
        waiting(
            DataDriftSensor, "drift.DataDriftTrigger", workspace={workspace!r}, name=name,
            since=None,
        ).partial(task_id="drift_" + name, deferrable=True, name=name).expand(
            since=[None] * ({n} // {names} // 2)
        )
        waiting(
            EndpointHealthSensor, "endpoint.EndpointHealthTrigger", endpoint=name, deployment=None,
            serving_conn_id="serving_default", limits=limits,
        ).partial(task_id="endpoint_" + name, deferrable=True, endpoint=name).expand(
            deployment=[None] * ({n} // {names} // 2)
        )
"""


class CountingHost(PlayedHost):
    """A played host that counts who looks."""

    def __init__(self, folder: Path, n: int) -> None:
        super().__init__(folder, n)
        self.looks: Counter[str] = Counter()

    def ref(self, endpoint: str) -> Any:
        """Return one endpoint."""
        self.looks[endpoint] += 1
        return super().ref(endpoint)


def run(quick: bool) -> list[Measure]:
    """Let 40 sensors wait when quick, else 1,000."""
    n = 40 if quick else 1000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "dags").mkdir()
        stack = Stack(folder / "home", folder / "dags")
        code = _DAG.format(
            n=n, names=NAMES, interval=INTERVAL_SECONDS, workspace=str(stack.workspace)
        )
        (folder / "dags" / "sensors.py").write_text(code)
        host = CountingHost(folder, NAMES)
        with served(host), stack:
            found = _waited(stack, host, n)
    held, idle_mb, busy_mb, threads, looks, ready, blocked = found
    allowed_mb = IMPORTS_MB + MAX_MB_A_SENSOR * n
    alone = n / 2 * WATCHED_SECONDS / INTERVAL_SECONDS
    return [
        Measure("sensors: worker slots", held, n, "slots", "ours is 0", held == 0, 1),
        Measure(
            "sensors: triggerer",
            busy_mb,
            idle_mb,
            "MB",
            f"at most {IMPORTS_MB} MB and {MAX_MB_A_SENSOR:g} MB a sensor more",
            busy_mb - idle_mb <= allowed_mb,
            1,
        ),
        Measure(
            "sensors: threads of the triggerer",
            threads[1],
            threads[0],
            "",
            f"at most {MAX_THREADS} more",
            threads[1] - threads[0] <= MAX_THREADS,
            1,
        ),
        Measure("sensors: looks at the host", looks, alone, "", "ours is less", looks < alone, 1),
        Measure(
            "sensors: until all wait", ready, READY_SECONDS, "s", "less", ready < READY_SECONDS, 1
        ),
        Measure(
            "sensors: loop blocked",
            blocked,
            WATCHED_SECONDS,
            "s",
            f"at most {MAX_BLOCKED:.0%} of the time",
            blocked <= MAX_BLOCKED * WATCHED_SECONDS,
            1,
        ),
    ]


def _waited(
    stack: Stack, host: CountingHost, n: int
) -> tuple[int, float, float, tuple[int, int], int, float, float]:
    """Return slots held, memory and threads before and while, looks, and seconds.

    The seconds are those until all waited, and those the event loop was blocked while watched.
    """
    client = stack.client()
    client.wait_for_dag("sensors")
    idle, idle_threads = triggerer_mb(), _threads()
    run_id = client.trigger("sensors")
    began = time.monotonic()
    while (states := Counter(client.task_states("sensors", run_id).values())) != {"deferred": n}:
        if time.monotonic() - began > READY_SECONDS:
            raise TimeoutError(str(states))
        time.sleep(2)
    ready = time.monotonic() - began
    while len(host.looks) < NAMES:  # the triggerer takes up trigger after trigger
        if time.monotonic() - began > READY_SECONDS:
            raise TimeoutError(str(host.looks))
        time.sleep(1)
    time.sleep(INTERVAL_SECONDS)
    looks, blocked = host.looks.total(), _blocked(stack)
    time.sleep(WATCHED_SECONDS)
    looks, blocked = host.looks.total() - looks, _blocked(stack) - blocked
    held = n - Counter(client.task_states("sensors", run_id).values())["deferred"]
    return held, idle, triggerer_mb(), (idle_threads, _threads()), looks, ready, blocked


def _blocked(stack: Stack) -> float:
    """Return for how many seconds the triggerer says that its event loop was blocked."""
    said = (stack.logs / "airflow.log").read_text(errors="replace")
    return sum(map(float, re.findall(r"async thread was blocked for ([\d.]+) seconds", said)))


def _threads() -> int:
    return sum(each.num_threads() for each in triggerer())
