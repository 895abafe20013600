from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
import zipfile

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.records import ModelVersionRef
from airflow_mlops_provider.steps.evaluate.answers import load_model, predict_answers
from airflow_mlops_provider.steps.export import export_model
from airflow_mlops_provider.steps.export.bundle import sampled
from airflow_mlops_provider.steps.export.convert import NotConverted, to_onnx
from airflow_mlops_provider.steps.snapshot import write_dataset

NUMBERS = ["a", "b", "d"]


def frame_of(rows=500, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "a": rng.normal(size=rows),
            "b": rng.normal(size=rows),
            "c": rng.choice(["x", "y", "z"], rows),
            "d": rng.integers(0, 9, rows),
        }
    )


def late(frame):
    return ((frame.a + frame.b * (frame.c == "x")) > 0).astype(int)


def three(frame):
    return pd.cut(frame.a, [-9, -0.5, 0.5, 9], labels=False)


def by_name():
    columns = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["c"]), (StandardScaler(), NUMBERS)
    )
    return make_pipeline(columns, LogisticRegression())


CONVERTED = {
    "matrix": (make_pipeline(StandardScaler(), LogisticRegression()), NUMBERS, late),
    "columns": (by_name(), [*NUMBERS, "c"], late),
    "classes": (RandomForestClassifier(5, random_state=0), NUMBERS, three),
    "trees": (RandomForestRegressor(5, random_state=0), NUMBERS, late),
    "linear": (LinearRegression(), NUMBERS, late),
}


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment in a store of its own."""
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    folder = tmp_path_factory.mktemp("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_registry_uri(f"sqlite:///{folder}/mlflow.db")
    yield mlflow.create_experiment("export", artifact_location=f"{folder}/artifacts")
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@pytest.fixture(scope="module")
def register(experiment):
    """Register an estimator, fitted, with or without an input example."""

    def make(estimator, columns, target, *, example=True):
        frame = frame_of()
        features = frame[columns]
        estimator.fit(features, target(frame))
        function = "predict_proba" if hasattr(estimator, "predict_proba") else "predict"
        with mlflow.start_run(experiment_id=experiment) as run:
            info = mlflow.sklearn.log_model(
                estimator,
                name="model",
                signature=infer_signature(features, getattr(estimator, function)(features)),
                input_example=features.head(5) if example else None,
                pyfunc_predict_fn=function,
                pip_requirements=["scikit-learn"],
                skops_trusted_types=["sklearn.tree._tree.Tree"],
                registered_model_name="late model",
            )
        number = str(info.registered_model_version)
        client = mlflow.MlflowClient()
        client.update_model_version("late model", number, description="Tells what is late.")
        return ModelVersionRef(
            name="late model",
            version=number,
            model_uri=f"models:/late model/{number}",
            model_id=info.model_id,
            run_id=run.info.run_id,
            aliases=[],
            tags={"train_hash": "abc"},
        )

    return make


def unpacked(bundle, folder):
    with zipfile.ZipFile(bundle.uri) as archive:
        archive.extractall(folder)
    return folder, json.loads((folder / "MANIFEST.json").read_text())


@pytest.mark.parametrize("kind", CONVERTED)
def test_what_is_packed_answers_as_the_model_does(register, workspace, tmp_path, kind):
    estimator, columns, target = CONVERTED[kind]
    version = register(estimator, columns, target)
    data = write_dataset(frame_of(seed=1), "flights", workspace, "test")
    bundle = export_model(version, workspace=workspace, dataset=data)
    assert (bundle.format, bundle.n_compared) == ("onnx", 505), bundle.reason
    folder, manifest = unpacked(bundle, tmp_path / "edge")
    rows = frame_of(7, seed=2)[columns]
    (folder / "rows.json").write_text(rows.to_json(orient="records"))
    command = [sys.executable, "-I", folder / "predict.py", folder / "rows.json"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    expected = predict_answers(load_model(version.model_uri), rows)
    assert np.allclose(json.loads(output), expected, atol=1e-5)
    assert manifest["max_difference"] <= manifest["tolerance"] == 1e-5


def test_the_bundle_says_what_is_in_it(register, workspace, tmp_path):
    version = register(*CONVERTED["linear"])
    folder, manifest = unpacked(export_model(version, workspace=workspace), tmp_path / "edge")
    found = {path.name for path in folder.iterdir()}
    assert found == {*manifest["files"], "MANIFEST.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert manifest["model"]["run_id"] == version.run_id
    assert manifest["model"]["tags"] == {"train_hash": "abc"}
    assert "Tells what is late." in (folder / "MODEL_CARD.md").read_text()
    needed = [line.partition("==")[0] for line in (folder / "requirements.txt").open()]
    assert needed == ["numpy", "onnxruntime"]
    tree = ast.parse((folder / "predict.py").read_text())
    imported = {
        name.name for each in ast.walk(tree) if isinstance(each, ast.Import) for name in each.names
    }
    assert imported == {"json", "sys", *needed}
    assert len(json.loads((folder / "input_example.json").read_text())) == 5


def test_rows_to_compare_on_come_from_all_of_the_dataset(workspace):
    frame = frame_of(1_000).assign(a=np.arange(1_000.0))
    data = write_dataset(frame, "flights", workspace, "test")
    found = sampled(data, ["a"], 10)
    assert found.a.tolist() == [100.0 * index for index in range(10)]
    assert len(sampled(data, ["a"], 5_000)) == 1_000


@pytest.mark.parametrize("format", ["onnx", "mlflow"])
def test_the_same_version_gives_the_same_file(register, workspace, tmp_path, format):
    version = register(*CONVERTED["columns"])
    one = export_model(version, workspace=workspace, format=format)
    two = export_model(version, workspace=str(tmp_path / "other"), format=format)
    assert one.file_hash == two.file_hash
    assert one == export_model(version, workspace=workspace, format=format)


def test_what_does_not_convert_is_packed_as_it_is_with_the_reason(register, workspace, tmp_path):
    odd = make_pipeline(FunctionTransformer(np.sin), LogisticRegression())
    version = register(odd, NUMBERS, late)
    bundle = export_model(version, workspace=workspace)
    assert bundle.format == "mlflow"
    assert "skl2onnx or ONNX Runtime" in bundle.reason
    folder, manifest = unpacked(bundle, tmp_path / "edge")
    assert manifest["reason"] == bundle.reason
    rows = frame_of(3)[NUMBERS]
    answers = mlflow.pyfunc.load_model(str(folder / "model")).predict(rows)
    assert np.allclose(answers, odd.predict_proba(rows))
    with pytest.raises(ModelError, match="cannot be exported as ONNX: skl2onnx"):
        export_model(version, workspace=workspace, format="onnx")


def test_answers_that_differ_are_not_delivered(register, workspace):
    version = register(*CONVERTED["trees"])
    bundle = export_model(version, workspace=workspace, tolerance=0.0)
    assert bundle.format == "mlflow"
    assert "its answers differ by up to" in bundle.reason
    assert bundle.max_difference > 0


def test_nothing_to_compare_on_is_no_agreement(register, workspace):
    version = register(*CONVERTED["linear"], example=False)
    bundle = export_model(version, workspace=workspace)
    assert (bundle.format, bundle.n_compared) == ("mlflow", 0)
    assert "no input example and no dataset" in bundle.reason


def test_a_model_that_answers_something_else_is_told(register):
    version = register(*CONVERTED["linear"])
    other = LogisticRegression().fit(frame_of()[NUMBERS], three(frame_of()))
    pyfunc = load_model(version.model_uri)
    found = to_onnx(other, pyfunc, frame_of(20)[NUMBERS], 1e-5)
    assert isinstance(found, NotConverted)


@pytest.mark.parametrize(
    ("options", "name"),
    [({"format": "pmml"}, "format"), ({"tolerance": -1}, "tolerance"), ({"sample_rows": 0}, "tol")],
)
def test_an_argument_out_of_range_is_named(workspace, options, name):
    version = ModelVersionRef(
        name="m", version="1", model_uri="models:/m/1", model_id=None, run_id=None, aliases=[]
    )
    with pytest.raises(ParameterError, match=f"The {name}"):
        export_model(version, workspace=workspace, **options)
