from __future__ import annotations

import re
import socket
import sys

import numpy as np
import pandas as pd
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.drift.evidently import evidently_page
from airflow_mlops_provider.steps.drift.reference import profile_dataset
from airflow_mlops_provider.steps.snapshot import write_dataset

ROWS = 1_000


@pytest.fixture
def frame():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "hour": rng.normal(size=ROWS),
            "origin": rng.choice(["EWR", "JFK", None], ROWS),
            "late": pd.array(rng.choice([True, False], ROWS), dtype="boolean"),
            "gust": np.full(ROWS, np.nan),
            "time": pd.date_range("2013-01-01", periods=ROWS, freq="h", tz="UTC"),
        }
    )


@pytest.fixture
def profile(frame, workspace):
    dataset = write_dataset(frame, "flights", workspace, "test")
    return profile_dataset(dataset, [*frame], workspace, sample_rows=500)


@pytest.mark.filterwarnings("error:Converting to Period")
def test_the_page_is_whole_and_no_connection_is_opened(frame, profile, monkeypatch):
    asked = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *address, **_: asked.append(address))
    monkeypatch.setattr(socket.socket, "connect", lambda _, address: asked.append(address))
    html = evidently_page(frame.assign(hour=frame["hour"] + 1), profile)
    assert asked == []
    assert "hour" in html
    assert "Data Drift" in html
    assert not re.search(r"<(?:script|link|img)[^>]*(?:src|href)=", html)


def test_only_the_named_columns_are_read(frame, profile, tmp_path):
    path = str(tmp_path / "now.parquet")
    frame[["hour"]].to_parquet(path)
    assert evidently_page(path, profile, columns=["hour"])


def test_a_profile_without_a_sample_says_what_to_do(frame, workspace):
    dataset = write_dataset(frame, "flights", workspace, "test")
    profile = profile_dataset(dataset, None, workspace)
    with pytest.raises(DataError, match="sample_rows=10000, or use renderer='html'"):
        evidently_page(frame, profile)


def test_columns_without_values_are_no_comparison(frame, profile):
    with pytest.raises(DataError, match=r"\['gust'\] has values on both sides"):
        evidently_page(frame, profile, columns=["gust"])


def test_a_missing_package_says_what_to_install(frame, monkeypatch):
    monkeypatch.setitem(sys.modules, "evidently", None)
    with pytest.raises(ParameterError, match=r"airflow-provider-mlops\[evidently\]"):
        evidently_page(frame, "/w/p.json")
