"""Models and rows for behavioural tests, without MLflow where it plays no part."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature

from airflow_mlops_provider.steps.behaviour.check import _result
from airflow_mlops_provider.steps.behaviour.plans import Subject
from airflow_mlops_provider.steps.behaviour.suite import load_suite


class Model:
    """What pyfunc promises: a signature, and ``predict``."""

    def __init__(self, function, data):
        self.function = function
        self.calls = []
        schema = infer_signature(data.astype(dict.fromkeys(numeric(data), float))).inputs
        self.metadata = SimpleNamespace(get_input_schema=lambda: schema)

    def predict(self, frame):
        self.calls.append(len(frame))
        return self.function(frame)


def numeric(data):
    return data.select_dtypes("number").columns


def rows_of(n=50, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "x": rng.normal(size=n),
            "y": rng.normal(size=n),
            "steps": rng.integers(0, 5, n),
            "word": rng.choice(["a", "B", "c"], n),
        }
    )


@pytest.fixture
def tried():
    """Run one test on a function of the features, and give its result."""

    def run(function, data=None, **test):
        data = rows_of() if data is None else data
        (declared,) = load_suite([{"name": "t", **test}]).tests
        model = Model(function, data)
        run.calls = model.calls
        return _result(declared, Subject(model, "models:/m/1", "dataset", data, 0))

    return run
