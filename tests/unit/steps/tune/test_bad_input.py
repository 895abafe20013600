"""What cannot be searched is refused at once, by the name of the parameter."""

from __future__ import annotations

import sys

import pytest
from sklearn.linear_model import RidgeClassifier
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import SearchSpec
from airflow_mlops_provider.steps.tune import run_trials, tune_model
from tests.training import spec_of

DEPTH = {"max_depth": {"type": "int", "low": 1, "high": 8}}


def ranged(**changes):
    return {"space": {"max_depth": {"type": "int", "low": 1, "high": 8, **changes}}}


BAD = {
    "an unknown method": ({"method": "bayes"}, "method parameter of tune must be one of"),
    "an unknown backend": ({"joblib_backend": "mpi"}, "joblib_backend parameter"),
    "an unknown pruner": ({"pruner": "asha"}, "pruner parameter"),
    "unknown folds": ({"cv": "loo"}, "cv parameter"),
    "groups without a column": ({"cv": "group"}, "group_column parameter"),
    "a column without groups": ({"group_column": "origin"}, "group_column parameter"),
    "groups by no column": ({"cv": "group", "group_column": "crew"}, "group_column parameter"),
    "no trials": ({"n_trials": 0}, "n_trials parameter of tune must be at least 1"),
    "no workers": ({"n_workers": 0}, "n_workers parameter"),
    "no time": ({"timeout_seconds": 0}, "timeout_seconds parameter"),
    "one fold": ({"n_splits": 1}, "n_splits parameter"),
    "more folds than rows": ({"n_splits": 5_000}, "n_splits parameter.* 990 labelled rows"),
    "an unknown scorer": ({"scoring": "sharpness"}, "scoring parameter"),
    "a name that is no folder's": ({"study": "../mine"}, "study parameter"),
    "a grid in a study": ({"method": "grid", "study": "mine"}, "pruner or study parameter"),
    "a grid that is pruned": ({"method": "grid", "pruner": "median"}, "pruner or study"),
    "no space": ({"space": {}}, "search_space parameter"),
    "a range that is none": ({"space": {"max_depth": 3}}, r"search_space\['max_depth'\]"),
    "an unknown kind": (ranged(type="integer"), r"search_space\['max_depth'\]\['type'\]"),
    "an unknown key": (ranged(base=2), r"search_space\['max_depth'\] .*\['base'\]"),
    "no upper bound": ({"space": {"max_depth": {"type": "int", "low": 1}}}, r"\['high'\]"),
    "a bound as text": (ranged(high="8"), r"\['high'\].* finite int"),
    "half an int": (ranged(low=0.5), r"\['low'\].* finite int"),
    "a bound that is NaN": (ranged(type="float", low=float("nan")), r"\['low'\].* finite float"),
    "low above high": (ranged(low=9), r"\['low'\].* at most high, which is 8"),
    "the logarithm of zero": (ranged(low=0, log=True), r"\['low'\].* positive where log"),
    "a step of zero": (ranged(step=0), r"\['step'\]"),
    "a step in a logarithm": (ranged(step=2, log=True), r"\['step'\]"),
    "no points": (ranged(points=0), r"\['points'\]"),
    "no choices": ({"space": {"criterion": {"type": "categorical", "choices": []}}}, "choices"),
    "choices that are no values": (
        {"space": {"criterion": {"type": "categorical", "choices": [["gini"]]}}},
        "choices",
    ),
    "an unknown parameter": ({"space": {"depth": DEPTH["max_depth"]}}, "params.*'depth'"),
    "a parameter that is fixed": ({"params": {"max_depth": 3}}, "search_space.*does not fix"),
}


def tune(dataset, run, estimator=DecisionTreeClassifier, workspace=None, **changes):
    params = changes.pop("params", {})
    spec = spec_of(dataset, estimator, features=["hour"], target="late", params=params)
    search = SearchSpec(**{"space": DEPTH, "n_trials": 2, **changes})
    return tune_model(spec, search, run=run, workspace=workspace)


@pytest.mark.parametrize(("changes", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_searched_is_named(run, dataset, changes, message):
    with pytest.raises(ParameterError, match=message):
        tune(dataset, run, **changes)


def test_a_scorer_that_needs_probabilities_is_refused_where_there_are_none(run, dataset):
    space = {"alpha": {"type": "float", "low": 0.1, "high": 1}}
    with pytest.raises(ParameterError, match=r"scoring.*RidgeClassifier.*predict_proba"):
        tune(dataset, run, RidgeClassifier, space=space, scoring="neg_log_loss")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"space": {"max_depth": {"type": "int", "low": 1, "high": 9}}}, "search_space"),
        ({"estimator": "sklearn.ensemble.RandomForestClassifier"}, "estimator"),
        ({"params": {"random_state": 1}}, "estimator_params"),
        ({"scoring": "accuracy"}, "scoring"),
        ({"n_splits": 4}, "n_splits"),
        ({"seed": 5}, "seed"),
    ],
)
def test_a_study_of_another_search_is_refused_by_what_differs(
    run, dataset, workspace, changes, named
):
    tune(dataset, run, workspace=workspace, study="mine")
    with pytest.raises(ParameterError, match=f"made with another {named} "):
        tune(dataset, run, workspace=workspace, study="mine", **changes)


def test_a_study_of_other_data_is_refused(run, dataset, holdout, workspace):
    tune(dataset, run, workspace=workspace, study="mine")
    with pytest.raises(ParameterError, match="made with another dataset "):
        tune(holdout, run, workspace=workspace, study="mine")


def test_other_data_starts_a_study_of_its_own(run, dataset, holdout, workspace, tmp_path):
    tune(dataset, run, workspace=workspace)
    tune(holdout, run, workspace=workspace)
    assert len(list((tmp_path / "workspace" / "studies").iterdir())) == 2


def test_an_object_store_cannot_keep_a_journal(run, dataset):
    with pytest.raises(ParameterError, match="storage_conn_id"):
        tune(dataset, run, workspace="memory://bucket/workspace")


@pytest.mark.parametrize(
    "content",
    [b"SQLite format 3\0 and so on\n", b'{"op_code": 99}\n', b"[1, 2]\n", b'{"op_code": 0}\n{"op'],
)
def test_a_file_that_is_no_journal_is_named(run, dataset, workspace, tmp_path, content):
    journal = tmp_path / "workspace" / "studies" / "mine" / "journal.log"
    journal.parent.mkdir(parents=True)
    journal.write_bytes(content)
    with pytest.raises(DataError, match=r"journal of Optuna in .*journal.log"):
        tune(dataset, run, workspace=workspace, study="mine")


def test_a_torn_last_line_is_cut_off(client, run, dataset, workspace, tmp_path):
    tune(dataset, run, workspace=workspace, study="mine")
    journal = tmp_path / "workspace" / "studies" / "mine" / "journal.log"
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":8,"worker_')
    tune(dataset, run, workspace=workspace, study="mine")
    assert journal.read_bytes() == whole


@pytest.mark.parametrize(
    ("backend", "module", "extra"),
    [("ray", "ray", "ray"), ("dask", "distributed", "dask"), ("spark", "joblibspark", "spark")],
)
def test_a_backend_that_is_not_installed_names_its_extra(
    run, dataset, monkeypatch, backend, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ParameterError, match=rf"airflow-provider-mlops\[{extra}\]"):
        tune(dataset, run, joblib_backend=backend)


def test_only_optuna_shares_a_study(run, dataset):
    spec = spec_of(dataset, DecisionTreeClassifier, features=["hour"], target="late")
    with pytest.raises(ParameterError, match="method parameter of run_trials"):
        run_trials(spec, SearchSpec(space=DEPTH, method="grid"), run=run)
