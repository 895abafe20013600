from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import requests

from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.steps.behaviour import served
from tests.unit.steps.behaviour.conftest import rows_of

LOG = {"request_id": "r", "status": 200, "attempt": 1, "shadow": False, "model_uri": "models:/m/1"}


def by_x(frame):
    return frame["x"].to_numpy(dtype=float)


def answering(monkeypatch, answer):
    """Let the endpoint answer as ``answer(frame)`` says: a status, and what it sends."""
    asked = []

    def post(url, data, headers, timeout):
        body = json.loads(data)["dataframe_split"]
        asked.append((url, len(body["data"])))
        found = answer(pd.DataFrame(body["data"], columns=body["columns"]))
        if isinstance(found, Exception):
            raise found
        status, payload = found
        return SimpleNamespace(status_code=status, text=json.dumps(payload), json=lambda: payload)

    monkeypatch.setattr(served.requests, "post", post)
    return asked


def logged(tmp_path, frame):
    frame.to_parquet(tmp_path / "log.parquet")
    return {"kind": "consistency", "source": str(tmp_path / "log.parquet")}


def test_logged_answers_are_those_of_the_model_or_not(tried, tmp_path):
    rows = rows_of(100)
    test = logged(tmp_path, rows.assign(score=by_x(rows)))
    assert tried(by_x, **test).outcome == "passed"
    result = tried(lambda frame: by_x(frame) + (frame["word"] == "a") * 0.1, **test)
    assert result.failures == (rows["word"] == "a").sum()
    assert result.mean_shift == pytest.approx(0.1 * result.rate)
    first = result.counterexamples[0]
    assert first.after - first.before == pytest.approx(0.1)


def test_of_a_prediction_log_the_live_answers_of_the_model_count(tried, tmp_path):
    rows = rows_of(60).add_prefix("input.").assign(row=range(60), **LOG)
    rows["score"] = rows["input.x"]
    for column, value in (("shadow", True), ("status", 500), ("model_uri", "models:/m/2")):
        other = rows.assign(**{column: value}, request_id=column, score=9.0)
        rows = pd.concat([rows, other], ignore_index=True)
    result = tried(by_x, **logged(tmp_path, rows))
    assert (result.outcome, result.n) == ("passed", 60)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.drop(columns="score"), "`score`"),
        (lambda rows: rows.drop(columns="y"), r"['y']"),
        (lambda rows: rows.assign(score=np.nan), "No answer of models:/m/1"),
    ],
)
def test_answers_that_are_not_there_are_an_error(tried, tmp_path, change, said):
    rows = rows_of(10)
    result = tried(by_x, **logged(tmp_path, change(rows.assign(score=0.0))))
    assert result.outcome == "errored"
    assert said in result.detail


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (lambda frame: frame["x"].tolist(), "passed"),
        (lambda frame: [[1 - x, x] for x in frame["x"]], "passed"),
        (lambda frame: [{"no": 1 - x, "yes": x} for x in frame["x"]], "passed"),
        (lambda frame: [x + (x > 0) for x in frame["x"]], "failed"),
        (lambda frame: [1.0], "errored"),
        (lambda frame: ["late"] * len(frame), "errored"),
        (lambda frame: None, "errored"),
    ],
)
def test_an_endpoint_answers_as_the_model_does_or_not(tried, monkeypatch, answer, outcome):
    asked = answering(monkeypatch, lambda frame: (200, {"predictions": answer(frame)}))
    rows = rows_of(700).assign(y=np.nan)
    result = tried(by_x, rows, kind="consistency", url="http://host/e/")
    assert result.outcome == outcome
    assert asked[0] == ("http://host/e/invocations", 500)
    if outcome == "failed":
        assert result.failures == (rows["x"] > 0).sum()


def test_an_endpoint_that_refuses_is_an_error_of_the_test(tried, monkeypatch):
    answering(monkeypatch, lambda frame: (400, {"error": "no such column"}))
    result = tried(by_x, kind="consistency", url="http://host/e")
    assert result.outcome == "errored"
    assert "no such column" in result.detail
    assert tried(by_x, kind="consistency", url="file:///e").outcome == "errored"


@pytest.mark.parametrize("answer", [(503, {}), requests.ConnectionError("gone")])
def test_an_endpoint_that_is_not_there_may_be_tried_again(tried, monkeypatch, answer):
    answering(monkeypatch, lambda frame: answer)
    with pytest.raises(ServingUnavailableError, match="http://host/e"):
        tried(by_x, kind="consistency", url="http://host/e")
