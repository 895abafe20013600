import ast
import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import textwrap

import pytest
from airflow.sdk import BaseOperator

import airflow_mlops_provider

HEAVY = ["mlflow", "feast", "great_expectations", "sklearn", "pandas", "numpy", "scipy"]
PARSED = ["assets", "decorators", "hooks", "links", "operators", "plugin", "sensors", "triggers"]
NOT_OF_THE_STEP = {"deferrable"}
"""Arguments about how Airflow runs the task, which no template should change."""


def modules(*rooms):
    for room in rooms:
        name = f"{airflow_mlops_provider.__name__}.{room}"
        package = importlib.import_module(name)
        yield name
        for each in pkgutil.walk_packages(getattr(package, "__path__", []), f"{name}."):
            yield each.name


def public_operators():
    return sorted(
        (
            value
            for name in modules("operators", "sensors")
            for value in vars(importlib.import_module(name)).values()
            if inspect.isclass(value)
            and issubclass(value, BaseOperator)
            and value.__module__ == name
            and not value.__name__.startswith("_")
        ),
        key=lambda operator: operator.__name__,
    )


def own_arguments(operator):
    if "__init__" not in vars(operator):
        return set()
    own = inspect.signature(vars(operator)["__init__"]).parameters.values()
    return {each.name for each in own if each.kind is each.KEYWORD_ONLY}


@pytest.fixture(params=public_operators(), ids=lambda operator: operator.__name__)
def operator(request):
    return request.param


def test_what_airflow_parses_is_light():
    code = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))"
    )
    names = json.dumps(list(modules(*PARSED)))
    command = [sys.executable, "-c", code, names, json.dumps(HEAVY)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert json.loads(output.splitlines()[-1]) == []


def test_each_argument_is_a_template_field(operator):
    assert own_arguments(operator) - NOT_OF_THE_STEP <= set(operator.template_fields)


def test_each_argument_is_documented(operator):
    documented = inspect.getdoc(operator)
    assert [name for name in own_arguments(operator) if f"    {name}: " not in documented] == []


def test_constructors_only_assign(operator):
    if "__init__" not in vars(operator):
        return
    source = textwrap.dedent(inspect.getsource(vars(operator)["__init__"]))
    for statement in ast.parse(source).body[0].body:
        words = ast.unparse(statement)
        assert words.startswith("super().__init__(") or _is_assignment(statement), words


def _is_assignment(statement):
    """Whether it is ``self.x = x``."""
    return (
        isinstance(statement, ast.Assign)
        and isinstance(statement.value, ast.Name)
        and ast.unparse(statement.targets[0]) == f"self.{statement.value.id}"
    )
