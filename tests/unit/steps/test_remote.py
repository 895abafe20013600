from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from airflow_mlops_provider.steps.remote import ISOLATED, requirements_of

ONLY = """
import importlib, json, sys

blocked = set(json.loads(sys.argv[1]))

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"No module named {name!r}")

sys.meta_path.insert(0, Blocked())
importlib.import_module(sys.argv[2])
"""


def with_dependencies(names):
    """The packages that are installed along with ``names``."""
    found = set()
    waiting = {canonicalize_name(name) for name in names}
    while waiting - found:
        name = (waiting - found).pop()
        found.add(name)
        try:
            needed = [Requirement(each) for each in requires(name) or []]
        except PackageNotFoundError:
            continue
        waiting |= {
            canonicalize_name(each.name)
            for each in needed
            if each.marker is None or each.marker.evaluate({"extra": ""})
        }
    return found


MODULES = {"evaluate": "evaluate.judge"}
"""What operators call of a step that is a package."""


@pytest.mark.parametrize("step", ISOLATED)
def test_a_step_imports_nothing_but_its_requirements(step):
    installed = with_dependencies(each.partition("==")[0] for each in requirements_of(step))
    blocked = [
        module
        for module, owners in packages_distributions().items()
        if not installed & {canonicalize_name(each) for each in owners}
        and module != "airflow_mlops_provider"
    ]
    assert "airflow" in blocked
    module = f"airflow_mlops_provider.steps.{MODULES.get(step, step)}"
    command = [sys.executable, "-c", ONLY, json.dumps(blocked), module]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
