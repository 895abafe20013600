from __future__ import annotations

import json

import mlflow
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mlflow.models import ModelSignature, infer_signature
from mlflow.types import ColSpec, Schema
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from airflow_mlops_provider.serving.native import same
from airflow_mlops_provider.serving.scoring import Predictor

N = 40
RNG = np.random.default_rng(0)
NUMBERS = pd.DataFrame(RNG.normal(size=(N, 3)), columns=["a", "b", "c"])
MIXED = pd.DataFrame(
    {
        "x": RNG.normal(size=N),
        "f": RNG.normal(size=N).astype("float32"),
        "n": RNG.integers(0, 9, N),
        "i": RNG.integers(0, 9, N).astype("int32"),
        "ok": RNG.integers(0, 2, N).astype(bool),
        "s": RNG.choice(["red", "green"], N).astype(object),
    }
)
LABELS = (NUMBERS["a"] > 0).astype(int)


def logistic():
    model = LogisticRegression().fit(NUMBERS, LABELS)
    return model, infer_signature(NUMBERS, model.predict_proba(NUMBERS)), "predict_proba"


def boosted():
    holes = NUMBERS.mask(NUMBERS > 1)
    model = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=2).fit(holes, LABELS)
    return model, infer_signature(holes, model.predict_proba(holes)), "predict_proba"


def mixed():
    prepare = ColumnTransformer(
        [("s", OneHotEncoder(handle_unknown="ignore"), ["s"])], remainder=StandardScaler()
    )
    model = make_pipeline(prepare, LogisticRegression()).fit(MIXED, LABELS)
    return model, infer_signature(MIXED, model.predict(MIXED)), "predict"


@pytest.fixture(scope="module", params=[logistic, boosted, mixed], ids=lambda make: make.__name__)
def predictors(request, tmp_path_factory):
    model = saved(tmp_path_factory.mktemp("model") / "m", *request.param())
    found = Predictor(model, native=True)
    assert found.native is not None
    return found, Predictor(model)


def saved(path, model, signature, predict):
    mlflow.sklearn.save_model(
        model,
        path,
        signature=signature,
        pyfunc_predict_fn=predict,
        pip_requirements=["scikit-learn"],
        serialization_format="cloudpickle",
    )
    return mlflow.pyfunc.load_model(str(path))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 3),
    st.floats(),
    st.sampled_from([1e308, 1e300, "red", "1.5", "", "nan", [1], {"a": 1}, 10**400]),
)
PLAIN = {
    "double": st.one_of(st.floats(), st.integers(-9, 9), st.none()),
    "float": st.one_of(st.floats(width=32), st.none()),
    "long": st.integers(-(2**63), 2**63 - 1),
    "integer": st.integers(-(2**31), 2**31 - 1),
    "boolean": st.booleans(),
    "string": st.one_of(st.sampled_from(["red", "blue"]), st.text(max_size=3), st.none()),
}


@st.composite
def payloads(draw, types):
    """Most values are what the signature says; rows and columns may be amiss."""
    names = draw(st.permutations([*types]))
    if draw(st.integers(0, 9)) == 0:
        names = draw(st.lists(st.sampled_from([*types, "extra"]), max_size=len(types) + 1))
    odd = draw(st.integers(0, 2)) == 0
    cell = {name: PLAIN[types[name].name] if name in types else VALUES for name in names}
    rows = [
        [draw(VALUES if odd and draw(st.integers(0, 3)) == 0 else cell[name]) for name in names]
        for _ in range(draw(st.integers(0, 3)))
    ]
    if draw(st.booleans()):
        return {"dataframe_records": [dict(zip(names, row, strict=True)) for row in rows]}
    split = {"columns": names, "data": rows}
    if draw(st.integers(0, 9)) == 0:
        split["index"] = [*range(len(rows))]
    return {"dataframe_split": split}


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_native_and_pyfunc_answer_and_refuse_alike(predictors, data):
    native, pyfunc = predictors
    payload = data.draw(payloads(native.native.types))
    ours, theirs = native.answer(payload), pyfunc.answer(payload)
    assert ours.status == theirs.status
    assert getattr(ours.error, "error_class", None) == getattr(theirs.error, "error_class", None)
    assert ours.outputs == theirs.outputs
    if theirs.status != 400:
        assert as_text(ours.rows) == as_text(theirs.rows)


def as_text(rows):
    return json.dumps(rows, sort_keys=True)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("form", ["dataframe_split", "dataframe_records"])
def test_plain_requests_do_not_reach_pyfunc(predictors, form, monkeypatch):
    native, _ = predictors
    row = [{"string": "red", "boolean": True}.get(t.name, 1) for t in native.native.types.values()]
    row = [
        1.0 if t.name == "float" else v
        for t, v in zip(native.native.types.values(), row, strict=True)
    ]
    monkeypatch.setattr(native, "_ask", None)
    names = [*native.native.types]
    split = {"columns": names, "data": [row] * 3}
    records = [dict(zip(names, row, strict=True))] * 3
    found = native.answer({form: split if form == "dataframe_split" else records})
    assert found.error is None
    assert len(found.outputs) == 3


class ByName(ClassifierMixin, BaseEstimator):
    """Silently answers something else without the names of the columns."""

    def fit(self, frame, labels):
        return self

    def predict(self, frame):
        return np.ones(len(frame)) if hasattr(frame, "columns") else np.zeros(len(frame))


class Wrapped(LinearRegression):
    """Depends on what only pyfunc has gone through."""

    def predict(self, frame):
        return np.random.default_rng().normal(size=len(frame))


def test_an_estimator_that_needs_names_gets_a_frame(tmp_path):
    model = ByName().fit(NUMBERS, LABELS)
    loaded = saved(tmp_path / "m", model, infer_signature(NUMBERS, np.ones(N)), "predict")
    found = Predictor(loaded, native=True)
    assert found.native.as_array is False


def test_an_estimator_that_does_not_agree_is_left_to_pyfunc(tmp_path):
    model = Wrapped().fit(NUMBERS, LABELS)
    loaded = saved(tmp_path / "m", model, infer_signature(NUMBERS, np.ones(N)), "predict")
    assert Predictor(loaded, native=True).native is None


@pytest.mark.parametrize(
    "inputs",
    [[ColSpec("datetime", "a")], [ColSpec("double")]],
    ids=["datetime", "unnamed"],
)
def test_a_signature_beyond_plain_columns_is_left_to_pyfunc(tmp_path, inputs):
    model = LinearRegression().fit(NUMBERS[["a"]].to_numpy(), LABELS)
    loaded = saved(tmp_path / "m", model, ModelSignature(inputs=Schema(inputs)), "predict")
    assert Predictor(loaded, native=True).native is None


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (np.array([np.nan]), np.array([np.nan]), True),
        (np.array([0.0]), np.array([-0.0]), False),
        (np.array([1.0]), np.array([1]), False),
        (np.array(["a"], object), np.array(["a"], object), True),
        (np.array([1.0]), [1.0], False),
        (pd.DataFrame({"a": [1.0]}), pd.DataFrame({"b": [1.0]}), False),
        (pd.Series([1.0]), pd.Series([1.0]), True),
        (ValueError, TypeError, False),
    ],
)
def test_sameness_is_of_types_and_bits(one, other, alike):
    assert same(one, other) is alike
