from __future__ import annotations

import numpy as np
import pytest
import yaml
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.estimators import build_estimator, describe, named_paths
from tests.unit.steps.conftest import frame_of

DESCRIPTION = """
steps:
  - name: prepare
    transformers:
      - use: sklearn.preprocessing.OneHotEncoder
        with: {handle_unknown: ignore}
        columns: [origin]
      - name: numbers
        steps:
          - use: sklearn.impute.SimpleImputer
          - use: sklearn.preprocessing.StandardScaler
        columns: {dtype: number}
    remainder: passthrough
  - name: model
    use: sklearn.linear_model.LogisticRegression
    with: {C: 0.5}
"""
PARSED = yaml.safe_load(DESCRIPTION)
MODEL = {"use": "sklearn.linear_model.LogisticRegression"}


def test_a_description_builds_the_pipeline_it_describes():
    model = build_estimator(PARSED, {})
    assert isinstance(model, Pipeline)
    prepare = model.named_steps["prepare"]
    assert isinstance(prepare, ColumnTransformer)
    assert prepare.remainder == "passthrough"
    assert [name for name, _, _ in prepare.transformers] == ["onehotencoder", "numbers"]
    assert model.named_steps["model"].C == 0.5
    frame = frame_of(200)
    fitted = model.fit(frame[["hour", "origin"]], frame["late"])
    assert fitted.predict(frame[["hour", "origin"]]).shape == (200,)
    assert prepare.named_transformers_["numbers"].n_features_in_ == 1


def test_params_of_a_description_are_those_of_its_steps():
    model = build_estimator(PARSED, {"model__C": 2.0, "prepare__numbers": "drop"})
    assert model.get_params()["model__C"] == 2.0
    assert model.get_params()["prepare__numbers"] == "drop"


@pytest.mark.parametrize("name", ["model.yaml", "model.yml"])
def test_a_file_is_kept_by_its_content(tmp_path, name):
    (tmp_path / name).write_text(DESCRIPTION)
    assert describe(str(tmp_path / name)) == PARSED == describe(PARSED)


def test_estimators_nest_in_arguments_and_in_params():
    described = {"use": "sklearn.calibration.CalibratedClassifierCV", "with": {"estimator": MODEL}}
    assert isinstance(build_estimator(described, {}).estimator, LogisticRegression)
    named = build_estimator(described["use"], {"estimator": MODEL, "estimator__C": 3.0})
    assert named.estimator.C == 3.0
    several = {
        "use": "sklearn.ensemble.StackingClassifier",
        "with": {"estimators": [["a", MODEL], ["b", MODEL]]},
    }
    assert [name for name, _ in build_estimator(several, {}).estimators] == ["a", "b"]


def test_a_selector_by_pattern_takes_the_columns_it_matches():
    part = {
        "transformers": [
            {"use": "sklearn.preprocessing.StandardScaler", "columns": {"pattern": "^ho"}}
        ]
    }
    assert build_estimator(part, {}).fit(frame_of(10)).transform(frame_of(10)).shape == (10, 1)


def test_only_what_is_named_is_imported():
    assert list(named_paths(PARSED)) == [
        "sklearn.preprocessing.OneHotEncoder",
        "sklearn.impute.SimpleImputer",
        "sklearn.preprocessing.StandardScaler",
        "sklearn.linear_model.LogisticRegression",
    ]
    assert list(named_paths("a.b")) == ["a.b"]


@pytest.mark.parametrize(
    ("description", "said"),
    [
        ({}, r"The estimator parameter of train must be a mapping with one of \['use'"),
        ({"use": "a.b", "steps": []}, "must be a mapping with one of"),
        ({"steps": []}, "The steps parameter of train must be a list of parts"),
        ({"steps": [MODEL, {"use": "sklearn.Nothing"}]}, r"The steps\[1\]\.use parameter .* path"),
        ({"steps": [MODEL, {"use": 3}]}, r"steps\[1\]\.use .*an import path"),
        ({"steps": [MODEL, "sklearn"]}, r"steps\[1\] .*a mapping"),
        ({"steps": [MODEL | {"args": {}}]}, r"steps\[0\]\.args .*'with'"),
        ({"steps": [MODEL | {"with": [1]}]}, r"steps\[0\]\.with .*mapping of arguments"),
        ({"steps": [MODEL | {"with": {"D": 1}}]}, r"steps\[0\]\.with that .*'D'"),
        ({"steps": [{"transformers": [MODEL]}]}, r"steps\[0\]\.transformers\[0\]\.columns"),
        (
            {"transformers": [MODEL | {"columns": {"type": "x"}}]},
            r"transformers\[0\]\.columns .*'dtype'",
        ),
        ({"transformers": [MODEL | {"columns": ["a"]}], "remainder": "keep"}, "remainder"),
        ({"use": MODEL["use"], "with": {"C": {"use": "a.b"}}}, r"The with\.C\.use parameter"),
    ],
)
def test_an_error_names_its_place_in_the_description(description, said):
    with pytest.raises(ParameterError, match=said):
        build_estimator(description, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "an existing file"), ("a: [", "neither YAML nor JSON"), ("- a", "a mapping in")],
)
def test_a_file_that_describes_nothing_is_named(tmp_path, text, said):
    path = tmp_path / "model.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ParameterError, match=said) as error:
        describe(str(path))
    assert "model.yaml" in str(error.value)


def failing(rate: float = 1.0):
    raise ValueError("no such rate")


@pytest.mark.parametrize(
    ("estimator", "params", "said"),
    [
        ("sklearn.nowhere.Thing", {}, "import path"),
        ("Thing", {}, "import path"),
        ("sklearn.__version__", {}, "callable"),
        ("sklearn.linear_model.LinearRegression", {"depth": 3}, "depth"),
        ("sklearn.linear_model.LinearRegression", {"model__depth": 3}, "model"),
        (PARSED, {"model__depth": 3}, "depth"),
        (failing, {"rate": 3}, "no such rate"),
        (dict, {}, "fit method"),
    ],
)
def test_an_estimator_that_cannot_be_built_is_said(estimator, params, said):
    with pytest.raises(ParameterError, match=said):
        build_estimator(estimator, params)


def test_a_class_and_its_path_build_the_same():
    assert isinstance(
        build_estimator("sklearn.linear_model.LinearRegression", {}), LinearRegression
    )


def test_the_seed_is_set_wherever_no_other_is_given():
    described = {
        "steps": [
            {"use": "sklearn.decomposition.PCA"},
            {
                "use": "sklearn.ensemble.BaggingClassifier",
                "with": {"estimator": {"use": "sklearn.tree.DecisionTreeClassifier"}},
            },
        ]
    }
    params = build_estimator(described, {"pca__random_state": 7}, seed=3).get_params()
    states = {name: value for name, value in params.items() if name.endswith("random_state")}
    assert states == {
        "pca__random_state": 7,
        "baggingclassifier__random_state": 3,
        "baggingclassifier__estimator__random_state": 3,
    }
    assert build_estimator(RandomForestClassifier, {}).random_state is None


def test_the_same_seed_gives_the_same_model():
    frame = frame_of(500)
    rows, labels = frame[["hour"]], frame["late"]
    options = {"max_features": 0.5, "early_stopping": True}
    scores = [
        build_estimator(HistGradientBoostingClassifier, options, seed=seed)
        .fit(rows, labels)
        .predict_proba(rows)
        for seed in (1, 1, 2)
    ]
    assert np.array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
