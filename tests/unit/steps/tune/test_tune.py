from __future__ import annotations

import math
import sys

import mlflow
import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID
from sklearn.ensemble import RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.records import SearchSpec
from airflow_mlops_provider.steps.track import TaskRun
from airflow_mlops_provider.steps.tune import run_trials, tune_model
from tests.training import spec_of

DEPTH = {"max_depth": {"type": "int", "low": 1, "high": 8}}
EVERY_KIND = {
    "max_depth": {"type": "int", "low": 2, "high": 4},
    "ccp_alpha": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True, "points": 2},
    "criterion": {"type": "categorical", "choices": ["gini", "entropy"]},
}


class Picky(DecisionTreeClassifier):
    """Refuses to learn with a depth in ``REFUSED``."""

    REFUSED: tuple[int, ...] = (1, 2, 3)

    def fit(self, *args, **kwargs):
        if self.max_depth in self.REFUSED:
            raise ValueError(f"depth {self.max_depth} is not to my liking\nand never was")
        return super().fit(*args, **kwargs)


class Hopeless(Picky):
    REFUSED = tuple(range(1, 9))


def arguments(dataset, estimator=DecisionTreeClassifier, **changes):
    params = changes.pop("params", {})
    trusted = [f"{estimator.__module__}.{estimator.__qualname__}"]
    given = {"features": ["hour"], "target": "late", "params": params, "trusted_types": trusted}
    spec = spec_of(dataset, estimator, **given)
    return spec, SearchSpec(**{"space": DEPTH, "n_trials": 4, **changes})


def tune(dataset, run, estimator=DecisionTreeClassifier, *, workspace=None, **changes):
    factory = estimator if estimator in (Picky, Hopeless) else None
    spec, search = arguments(dataset, estimator, **changes)
    return tune_model(spec, search, run=run, factory=factory, workspace=workspace)


@pytest.fixture
def fresh(client, experiment):
    """Open one more run, since a run keeps the parameters of one model."""
    return lambda: TaskRun(client, client.create_run(experiment).info.run_id, experiment)


def table(client, run):
    uri = client.get_run(run.run_id).info.artifact_uri
    return mlflow.artifacts.load_dict(f"{uri}/trials.json")["trials"]


def nested(client, run):
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run.run_id}'"
    return client.search_runs([run.experiment_id], query)


def test_the_best_of_the_trials_is_trained(client, run, dataset):
    model = tune(dataset, run, params={"random_state": 0})
    metrics = client.get_run(run.run_id).data.metrics
    assert metrics["tune_trials"] == 4
    assert 0.5 < metrics["tune_best_score"] < 1
    best = max(table(client, run), key=lambda trial: trial["score"])
    assert model.params == {"random_state": 0, **best["params"]}
    assert metrics["tune_best_score"] == best["score"]


@pytest.mark.parametrize("method", ["optuna", "random"])
def test_the_same_seed_gives_the_same_trials(client, fresh, dataset, method):
    seen = []
    for seed in (7, 7, 8):
        run = fresh()
        tune(dataset, run, method=method, seed=seed, space=EVERY_KIND, n_trials=12)
        rows = table(client, run)
        seen.append([(row["params"], row["score"], row["fold_scores"]) for row in rows])
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize(
    ("method", "trials"), [("optuna", 3), ("random", 3), ("halving", 3), ("grid", 3 * 2 * 2)]
)
def test_every_method_searches_every_kind_of_range(client, run, dataset, method, trials):
    model = tune(dataset, run, method=method, space=EVERY_KIND, n_trials=3)
    assert set(model.params) == set(EVERY_KIND)
    assert 2 <= model.params["max_depth"] <= 4
    rows = table(client, run)
    assert len(rows) == trials
    for row in rows:
        assert row["state"] in {"COMPLETE", "PRUNED"}
        assert len(row["fold_scores"]) == 3
        assert math.isclose(row["score"], sum(row["fold_scores"]) / 3)
        assert row["seconds"] > 0


def test_a_random_search_keeps_what_it_drew_twice(client, run, dataset):
    space = {"max_depth": {"type": "int", "low": 1, "high": 2}}
    tune(dataset, run, method="random", space=space, n_trials=5)
    assert len(table(client, run)) == 5


@pytest.mark.parametrize("method", ["optuna", "grid"])
def test_each_trial_is_a_run_nested_in_the_task(client, run, dataset, method):
    tune(dataset, run, method=method)
    rows = table(client, run)
    runs = {int(each.data.tags["mlops.trial"]): each for each in nested(client, run)}
    assert sorted(runs) == [row["number"] for row in rows]
    for row in rows:
        each = runs[row["number"]]
        assert each.info.status == "FINISHED"
        assert each.data.metrics["score"] == pytest.approx(row["score"])
        assert each.data.params == {"max_depth": str(row["params"]["max_depth"])}


@pytest.mark.parametrize("method", ["optuna", "grid"])
def test_a_trial_that_fails_keeps_its_reason_and_the_search_goes_on(client, run, dataset, method):
    space = {"max_depth": {"type": "categorical", "choices": [1, 2, 3, 4, 5, 6]}}
    model = tune(dataset, run, Picky, method=method, space=space, n_trials=12)
    assert model.params["max_depth"] > 3
    rows = table(client, run)
    assert {row["state"] for row in rows} == {"COMPLETE", "FAIL"}
    for row in rows:
        refused = row["params"]["max_depth"] <= 3
        assert refused == (row["state"] == "FAIL") == (row["score"] is None)
        if refused:
            assert "is not to my liking" in row["error"]
            assert "\n" not in row["error"]
    assert {each.info.status for each in nested(client, run)} == {"FINISHED", "FAILED"}


@pytest.mark.parametrize("method", ["optuna", "grid", "random"])
def test_if_all_trials_fail_the_first_reason_is_told(client, run, dataset, method):
    with pytest.raises(ModelError, match=r"first failed with .*is not to my liking"):
        tune(dataset, run, Hopeless, method=method)
    assert {row["state"] for row in table(client, run)} == {"FAIL"}


@pytest.mark.parametrize("method", ["optuna", "grid"])
def test_a_score_that_is_no_number_is_a_failure(client, run, dataset, method, monkeypatch):
    from airflow_mlops_provider.steps.tune import problem, searches

    def scorer(model, rows, labels):
        return math.nan if model.max_depth == 1 else 0.5

    monkeypatch.setattr(problem, "get_scorer", lambda name: scorer)
    monkeypatch.setattr(searches, "get_scorer", lambda name: scorer)
    space = {"max_depth": {"type": "categorical", "choices": [1, 2]}}
    assert tune(dataset, run, method=method, space=space, n_trials=8).params == {"max_depth": 2}
    for row in table(client, run):
        first = row["params"]["max_depth"] == 1
        assert row["score"] == (None if first else 0.5)
        assert row["state"] == ("FAIL" if first else "COMPLETE")
        assert not first or "roc_auc is" in row["error"]


@pytest.mark.parametrize("pruner", ["median", "hyperband"])
def test_bad_trials_are_pruned_after_their_first_folds(client, run, dataset, pruner):
    space = {"max_depth": {"type": "int", "low": 1, "high": 60}}
    tune(dataset, run, pruner=pruner, space=space, n_trials=20, n_splits=5)
    pruned = [row for row in table(client, run) if row["state"] == "PRUNED"]
    assert pruned
    for row in pruned:
        assert row["score"] is None
        assert 1 <= len(row["fold_scores"]) < 5


@pytest.mark.parametrize(("cv", "column"), [("stratified", None), ("group", "origin")])
def test_folds_may_be_stratified_or_keep_groups_together(client, run, dataset, cv, column):
    tune(dataset, run, cv=cv, group_column=column, n_splits=2)
    assert {len(row["fold_scores"]) for row in table(client, run)} == {2}


def test_two_workers_run_the_first_trials_of_one(client, fresh, dataset):
    seen = []
    for workers in (1, 2):
        run = fresh()
        tune(dataset, run, n_workers=workers, n_trials=6)
        seen.append([(row["number"], row["state"], row["params"]) for row in table(client, run)])
    assert seen[0] == seen[1]


def test_after_the_timeout_no_trial_begins(client, run, dataset):
    tune(dataset, run, n_trials=500, timeout_seconds=1)
    assert 1 <= len(table(client, run)) < 500


def test_a_grid_skips_what_the_timeout_leaves(run, dataset):
    with pytest.raises(ModelError, match="timeout_seconds were over before this fit"):
        tune(dataset, run, method="grid", timeout_seconds=1e-9)


def test_a_search_goes_on_where_another_ended(client, fresh, dataset, workspace):
    runs = [fresh(), fresh(), fresh()]
    for run, trials, kept in zip(runs, (3, 6, 6), (workspace, workspace, None), strict=True):
        tune(dataset, run, workspace=kept, n_trials=trials)
    first, second, at_once = (table(client, run) for run in runs)
    assert second[:3] == first
    assert [row["params"] for row in second] == [row["params"] for row in at_once]
    assert [len(nested(client, run)) for run in runs] == [3, 3, 6]


def test_workers_share_a_study_and_the_last_step_trains_with_the_best(
    client, run, dataset, workspace
):
    spec, search = arguments(dataset, n_trials=5)
    few = SearchSpec(**{**search.to_xcom(), "n_trials": 2})
    first = run_trials(spec, few, run=run, workspace=workspace, worker=0)
    second = run_trials(spec, search, run=run, workspace=workspace, worker=1)
    assert (first.ran, first.finished, second.ran, second.finished) == (2, 2, 3, 5)
    assert first.name == second.name
    model = tune_model(spec, search, run=run, workspace=workspace)
    rows = table(client, run)
    assert len(rows) == len(nested(client, run)) == 5
    assert second.best_score == max(row["score"] for row in rows)
    assert model.params in [row["params"] for row in rows]


def test_progress_is_told_after_each_trial(run, dataset):
    seen = []
    spec, search = arguments(dataset)
    tune_model(spec, search, run=run, progress=seen.append)
    assert [each["finished"] for each in seen] == [1, 2, 3, 4]
    assert seen[-1]["best_score"] == max(each["last"]["score"] for each in seen)


def test_threads_run_trials_too(client, run, dataset):
    changes = {"params": {"n_estimators": 3}, "n_workers": 2, "joblib_backend": "threading"}
    tune(dataset, run, RandomForestClassifier, **changes)
    assert {row["state"] for row in table(client, run)} == {"COMPLETE"}


def test_without_optuna_the_extra_is_named(run, dataset, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ParameterError, match=r"airflow-provider-mlops\[optuna\]"):
        tune(dataset, run)
