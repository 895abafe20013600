from __future__ import annotations

import sys

import pytest
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import SearchSpec
from airflow_mlops_provider.steps.tune import tune_model
from tests.training import spec_of

DEPTH = {"max_depth": {"type": "int", "low": 1, "high": 8}}


def tune(dataset, run, **changes):
    params = changes.pop("params", {})
    spec = spec_of(dataset, DecisionTreeClassifier, features=["hour"], target="late", params=params)
    search = SearchSpec(**{"space": DEPTH, "n_trials": 4, **changes})
    return tune_model(spec, search, run=run)


def test_the_best_of_the_trials_is_trained(client, run, dataset):
    model = tune(dataset, run, params={"random_state": 0})
    trials = client.get_run(run.run_id).data.metrics
    assert trials["tune_trials"] == 4
    assert 0.5 < trials["tune_best_score"] < 1
    assert model.params["random_state"] == 0
    assert 1 <= model.params["max_depth"] <= 8


def test_the_same_seed_finds_the_same_parameters(client, experiment, run, dataset):
    assert tune(dataset, run, seed=7).params == tune(dataset, run, seed=7).params


def test_every_kind_of_range_is_searched(run, dataset):
    space = {
        "max_depth": {"type": "int", "low": 2, "high": 3},
        "ccp_alpha": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
        "criterion": {"type": "categorical", "choices": ["gini", "entropy"]},
    }
    assert set(tune(dataset, run, space=space, n_trials=2).params) == set(space)


def test_an_unknown_kind_of_range_is_named(run, dataset):
    with pytest.raises(ParameterError, match=r"search_space\['max_depth'\]"):
        tune(dataset, run, space={"max_depth": {"type": "integer"}})


def test_without_optuna_the_extra_is_named(run, dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ParameterError, match=r"airflow-provider-mlops\[optuna\]"):
        tune(dataset, run)
