from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from airflow_mlops_provider.exceptions import DataError, ModelError, ParameterError, PermanentError
from airflow_mlops_provider.records import EarlyStopping, ModelRef, TrainingSpec
from airflow_mlops_provider.steps.model_log import CODE_TAG, requirements
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from airflow_mlops_provider.steps.track import TaskRun
from airflow_mlops_provider.steps.train import model_ref, train_model
from tests.training import evaluate, spec_of, train
from tests.unit.steps.conftest import frame_of

FEATURES = ["hour", "origin"]
BOOSTING = "sklearn.ensemble.HistGradientBoostingClassifier"
LOGISTIC = "sklearn.linear_model.LogisticRegression"
LINEAR = "sklearn.linear_model.LinearRegression"


def classifier(max_iter: int = 10):
    columns = make_column_transformer((OneHotEncoder(), ["origin"]), remainder="passthrough")
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=max_iter))


class Homemade(ClassifierMixin, BaseEstimator):
    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict_proba(self, x):
        return np.full((len(x), 2), 0.5)

    def predict(self, x):
        return np.zeros(len(x))


@pytest.fixture
def open_run(client, experiment):
    def opened():
        return TaskRun(client, client.create_run(experiment).info.run_id, experiment)

    return opened


def test_a_model_is_logged_with_data_signature_and_requirements(client, run, dataset):
    model = train(
        dataset, classifier, run=run, features=FEATURES, target="late", params={"max_iter": 5}
    )
    assert ModelRef.from_xcom(model.to_xcom()) == model
    assert model.metrics.pop("fit_seconds") > 0
    counted = {"train_rows": 990.0, "train_unlabelled": 10.0, "train_features": 2.0}
    assert model.metrics == {**counted, "train_iterations": 5.0}
    info = mlflow.models.get_model_info(model.model_uri)
    assert info.signature.inputs.input_names() == FEATURES
    assert info.flavors["sklearn"]["serialization_format"] == "skops"
    inputs = client.get_run(run.run_id).inputs.dataset_inputs
    assert [(i.dataset.name, {t.key: t.value for t in i.tags}["sha256"]) for i in inputs] == [
        ("flights", dataset.file_hash)
    ]


def test_the_logged_model_gives_probabilities(run, dataset):
    model = train(dataset, classifier, run=run, features=FEATURES, target="late")
    rows = read_dataset(dataset)[FEATURES].head(3)
    scores = mlflow.pyfunc.load_model(model.model_uri).predict(rows)
    assert scores.shape == (3, 2)
    assert scores.sum(axis=1) == pytest.approx(1)


def test_a_regressor_is_served_by_its_prediction(run, dataset):
    model = train(
        dataset, "sklearn.linear_model.LinearRegression", run=run, features=["hour"], target="late"
    )
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    assert loaded.predict(read_dataset(dataset)[["hour"]].head(3)).shape == (3,)


def test_code_nobody_trusted_is_refused_by_name(run, dataset):
    arguments = {"run": run, "features": ["hour"], "target": "late"}
    with pytest.raises(ModelError, match=r"Homemade.*trusted_types"):
        train(dataset, Homemade, **arguments)
    name = f"{Homemade.__module__}.Homemade"
    assert train(dataset, Homemade, **arguments, trusted_types=[name])


def test_the_input_example_can_be_scored_as_a_server_would(run, dataset):
    model = train(dataset, classifier, run=run, features=FEATURES, target="late")
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    example = mlflow.models.Model.load(model.model_uri).load_input_example()
    assert example.columns.tolist() == FEATURES
    assert loaded.predict(example).shape == (5, 2)


def test_categories_are_learned_as_such_and_served_as_text(run, dataset, holdout, workspace):
    model = train(
        dataset,
        BOOSTING,
        run=run,
        features=FEATURES,
        target="late",
        categorical=["origin"],
        params={"categorical_features": "from_dtype", "max_iter": 20},
    )
    inputs = mlflow.models.get_model_info(model.model_uri).signature.inputs
    assert [str(each.type) for each in inputs] == ["DataType.double", "DataType.string"]
    report = evaluate(model.model_uri, holdout, workspace=workspace, run=run)
    assert report.metrics["auc"].value > 0.7


@pytest.mark.parametrize("seeds", [(0, 0), (1, 2)])
def test_the_same_spec_gives_the_same_model(open_run, dataset, seeds):
    spec = spec_of(
        dataset,
        "sklearn.ensemble.RandomForestClassifier",
        features=["hour"],
        target="late",
        params={"n_estimators": 5},
    )
    rows = read_dataset(dataset)[["hour"]]
    scores = []
    for seed in seeds:
        model = train_model(replace(spec, seed=seed), run=open_run())
        scores.append(mlflow.pyfunc.load_model(model.model_uri).predict(rows))
    assert np.array_equal(*scores) == (seeds[0] == seeds[1])


def test_all_that_shapes_the_model_is_kept_and_trains_it_again(client, run, dataset):
    spec = spec_of(
        dataset,
        {"steps": [{"use": BOOSTING, "name": "model"}]},
        features=["hour"],
        target="late",
        params={"model__max_iter": 7},
        seed=3,
        class_weight={"1": 2.0},
        early_stopping=EarlyStopping(patience=5),
    )
    first = train_model(spec, run=run)
    kept = mlflow.artifacts.load_dict(
        f"{client.get_run(run.run_id).info.artifact_uri}/records/TrainingSpec.json"
    )
    rows = read_dataset(dataset)[["hour"]]
    before = mlflow.pyfunc.load_model(first.model_uri).predict(rows)
    again = train_model(TrainingSpec.from_xcom(kept), run=run)
    assert np.array_equal(mlflow.pyfunc.load_model(again.model_uri).predict(rows), before)


def test_rows_of_no_weight_teach_nothing(run, tmp_path):
    frame = frame_of(200)
    told = pd.concat([frame.assign(w=1.0), frame.assign(late=1 - frame["late"], w=0.0)])
    models = []
    for rows, weight in ((told, "w"), (frame, None)):
        dataset = write_dataset(rows, "flights", str(tmp_path), "test")
        arguments = {"features": ["hour"], "target": "late", "weight_column": weight}
        model = train(dataset, LOGISTIC, run=run, **arguments)
        models.append(mlflow.pyfunc.load_model(model.model_uri).predict(frame[["hour"]]))
    assert np.allclose(*models, atol=1e-3)


def test_code_of_the_team_is_kept_with_its_hash_and_that_of_packages_is_not(
    client, open_run, dataset
):
    run = open_run()
    train(dataset, LOGISTIC, run=run, features=["hour"], target="late")
    assert CODE_TAG not in client.get_run(run.run_id).data.tags
    run = open_run()
    train(dataset, classifier, run=run, features=FEATURES, target="late")
    written = Path(__file__).read_bytes()
    found = client.get_run(run.run_id)
    assert json.loads(found.data.tags[CODE_TAG]) == {
        Path(__file__).name: hashlib.sha256(written).hexdigest()
    }
    kept = mlflow.artifacts.load_text(f"{found.info.artifact_uri}/code/{Path(__file__).name}")
    assert kept.encode() == written


def test_code_paths_go_with_the_model(run, dataset, tmp_path):
    (tmp_path / "helper.py").write_text("ANSWER = 42\n")
    arguments = {"run": run, "features": ["hour"], "target": "late"}
    model = train(dataset, LOGISTIC, **arguments, code_paths=[str(tmp_path / "helper.py")])
    folder = Path(mlflow.artifacts.download_artifacts(model.model_uri))
    assert (folder / "code" / "helper.py").is_file()
    with pytest.raises(ParameterError, match=r"code_paths .*gone\.py"):
        train(dataset, LOGISTIC, **arguments, code_paths=[str(tmp_path / "gone.py")])


def test_requirements_are_the_versions_of_what_the_model_holds():
    def names(model, serialization="skops"):
        return {each.partition("==")[0] for each in requirements(model, serialization)}

    fixed = {"numpy", "pandas", "scikit-learn", "scipy"}
    assert names(LinearRegression()) == fixed | {"skops"}
    assert names(LinearRegression(), "cloudpickle") == fixed | {"cloudpickle"}
    assert "pyarrow" in names(FunctionTransformer(pd.DataFrame, kw_args={"a": pa_scalar}))
    assert f"numpy=={version('numpy')}" in requirements(LinearRegression(), "skops")


def pa_scalar():
    return None


pa_scalar.__module__ = "pyarrow.lib"


def test_cloudpickle_keeps_what_skops_cannot(run, dataset):
    def lambdas():
        halved = FunctionTransformer(lambda rows: rows / 2)
        return make_pipeline(halved, HistGradientBoostingClassifier(max_iter=2))

    arguments = {"run": run, "features": ["hour"], "target": "late"}
    with pytest.raises(ModelError, match=r"skops cannot save|not trusted"):
        train(dataset, lambdas, **arguments)
    model = train(dataset, lambdas, **arguments, serialization="cloudpickle")
    flavor = mlflow.models.get_model_info(model.model_uri).flavors["sklearn"]
    assert flavor["serialization_format"] == "cloudpickle"


def test_an_attempt_has_one_model_whatever_its_process_left_behind(
    client, experiment, run, dataset
):
    arguments = {"run": run, "features": ["hour"], "target": "late"}
    first = train(dataset, LOGISTIC, **arguments)
    second = train(dataset, LOGISTIC, **arguments)
    found = client.search_logged_models(
        [experiment], filter_string=f"source_run_id = '{run.run_id}'"
    )
    assert [each.model_id for each in found] == [second.model_id] != [first.model_id]
    assert found[0].status == "READY"


def test_a_model_that_could_not_be_uploaded_is_not_ready(
    client, experiment, run, dataset, monkeypatch
):
    def refuse(*arguments):
        raise OSError("No space left on device")

    monkeypatch.setattr(run.client, "log_model_artifacts", refuse, raising=True)
    with pytest.raises(OSError, match="No space left"):
        train(dataset, LOGISTIC, run=run, features=["hour"], target="late")
    (found,) = client.search_logged_models(
        [experiment], filter_string=f"source_run_id = '{run.run_id}'"
    )
    assert found.status == "FAILED"


GIVEN = frame_of(100).assign(
    empty=np.nan,
    constant=1.0,
    text="late",
    infinite=lambda frame: frame["hour"].where(frame["hour"] < 1, np.inf),
    holes=lambda frame: frame["hour"].where(frame["hour"] < 0),
    negative=-1.0,
    huge=1e200,
)
BAD = {
    "no such feature": (LINEAR, {"features": ["hour", "altitude"]}, DataError, r"\['altitude'\]"),
    "no such target": (LINEAR, {"target": "early"}, DataError, r"\['early'\]"),
    "no such weights": (LINEAR, {"weight_column": "w"}, DataError, r"\['w'\]"),
    "no labels": (LINEAR, {"target": "empty"}, DataError, "got none in 100 rows"),
    "one class": (LOGISTIC, {"target": "constant"}, DataError, "at least two classes"),
    "one number": (LINEAR, {"target": "constant"}, DataError, "different numbers"),
    "text as target": (LINEAR, {"target": "text"}, DataError, "'text' of dataset 'd', got text"),
    "infinite target": (LINEAR, {"target": "infinite"}, DataError, "infinite ones"),
    "numbers as classes": (
        LOGISTIC,
        {"features": ["late"], "target": "hour"},
        ModelError,
        "continuous",
    ),
    "text as feature": (LOGISTIC, {"features": ["origin"]}, ModelError, "EWR|JFK"),
    "missing feature values": (LOGISTIC, {"features": ["holes"]}, ModelError, "contains NaN"),
    "bad parameter": (LOGISTIC, {"params": {"C": -1.0}}, ModelError, "'C' parameter"),
    "unknown parameter": (LOGISTIC, {"params": {"D": 1}}, ParameterError, "'D'"),
    "no features": (LINEAR, {"features": []}, ParameterError, "at least one column"),
    "doubled feature": (
        LINEAR,
        {"features": ["hour", "hour"]},
        ParameterError,
        r"\['hour'\] twice",
    ),
    "target as feature": (LINEAR, {"features": ["late"]}, ParameterError, "must not learn from"),
    "weight as feature": (LINEAR, {"weight_column": "hour"}, ParameterError, r"\['hour'\] twice"),
    "category that is no feature": (
        LINEAR,
        {"categorical": ["origin"]},
        ParameterError,
        "categorical",
    ),
    "negative weights": (LINEAR, {"weight_column": "negative"}, DataError, "'negative' of dataset"),
    "weights for who takes none": (
        "sklearn.neighbors.KNeighborsClassifier",
        {"weight_column": "constant"},
        ParameterError,
        "sample_weight",
    ),
    "missing weights": (LINEAR, {"weight_column": "holes"}, DataError, "nan"),
    "divergence": (
        "sklearn.linear_model.SGDRegressor",
        {"features": ["huge"]},
        ModelError,
        "overflow|diverged",
    ),
    "parameters that JSON cannot hold": (
        LINEAR,
        {"params": {"positive": LinearRegression()}},
        ParameterError,
        "positive",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_said_and_leaves_no_model(client, run, tmp_path, case):
    estimator, fields, error, said = BAD[case]
    dataset = write_dataset(GIVEN, "d", str(tmp_path), "test")
    with pytest.raises(PermanentError, match=said) as raised:
        train(dataset, estimator, run=run, **{"features": ["hour"], "target": "late", **fields})
    assert raised.type is error
    assert client.get_run(run.run_id).outputs.model_outputs == []


class Mean(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: pd.DataFrame):
        return np.full(len(model_input), 0.5)


def log_own(frame, **options):
    return mlflow.pyfunc.log_model(
        name="own", python_model=Mean(), pip_requirements=["numpy"], **options
    )


def test_a_model_of_another_flavour_is_evaluated_like_any(run, dataset, holdout, workspace):
    frame = read_dataset(dataset)[["hour"]]
    with mlflow.start_run(run_id=run.run_id):
        logged = log_own(frame, signature=mlflow.models.infer_signature(frame, np.zeros(3)))
    model = model_ref(logged, dataset=dataset.to_xcom(), target="late", metrics={"loss": 0.5})
    assert ModelRef.from_xcom(model.to_xcom()) == model
    assert (model.features, model.run_id) == (["hour"], run.run_id)
    assert model.train_hash == dataset.logical_hash
    report = evaluate(model.model_uri, holdout, workspace=workspace, run=run)
    assert report.metrics["auc"].value == 0.5


def test_a_model_without_names_of_its_inputs_or_with_nan_is_refused(run, dataset):
    frame = read_dataset(dataset)[["hour"]]
    signature = mlflow.models.infer_signature(frame, np.zeros(3))
    with mlflow.start_run(run_id=run.run_id):
        unsigned = log_own(frame, signature=False)
        logged = log_own(frame, signature=signature)
    with pytest.raises(ModelError, match="infer_signature"):
        model_ref(unsigned, dataset=dataset, target="late")
    with pytest.raises(ModelError, match="'loss': nan"):
        model_ref(logged, dataset=dataset, target="late", metrics={"loss": float("nan")})
