"""What importing all public operators, sensors and triggers adds to importing airflow.sdk."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import airflow_mlops_provider
from benchmarks import Measure, in_turns

ADDED_SECONDS = 0.1
_ROOMS = ["operators", "sensors", "triggers", "decorators"]

SDK = [
    "from airflow.sdk import BaseOperator, BaseSensorOperator, BaseHook, Asset, AssetAlias, conf",
    "from airflow.sdk.exceptions import AirflowFailException",
    "from airflow.triggers.base import BaseTrigger, TriggerEvent",
]
"""What an operator, a sensor and a trigger that do nothing would import."""


def run(quick: bool) -> list[Measure]:
    """Compare CPU seconds in fresh interpreters."""
    n = 5 if quick else 15
    statements = [*SDK, *(f"import {name}" for name in _modules())]
    ours, theirs = in_turns(n, lambda: cpu_seconds(statements), lambda: cpu_seconds(SDK))
    goal = f"ours - theirs <= {ADDED_SECONDS} s"
    holds = ours - theirs <= ADDED_SECONDS
    return [Measure("imports: all operators", ours, theirs, "s", goal, holds, n)]


def cpu_seconds(statements: list[str]) -> float:
    """Return the CPU seconds that ``statements`` take in a new interpreter."""
    before = ["import time", "start = time.process_time()"]
    code = "\n".join([*before, *statements, "print(time.process_time() - start)"])
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    return float(output.splitlines()[-1])


def _modules() -> list[str]:
    found = pkgutil.walk_packages(airflow_mlops_provider.__path__, "airflow_mlops_provider.")
    return [each.name for each in found if each.name.split(".")[1] in _ROOMS]
