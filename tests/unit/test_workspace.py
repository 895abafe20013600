from __future__ import annotations

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider import workspace as ws


@pytest.fixture(params=["path", "memory"])
def folder(request, tmp_path):
    return str(tmp_path) if request.param == "path" else f"memory://{tmp_path.name}"


def test_bytes_come_back(folder):
    uri = ws.join(folder, "a", "b.bin")
    ws.write_bytes(uri, b"one")
    ws.write_bytes(uri, b"two")
    assert ws.exists(uri)
    assert ws.file_hash(uri) == hashlib.sha256(b"two").hexdigest()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    uri = str(tmp_path / "state.json")
    ws.write_json(uri, {"generation": 1})

    def write():
        with ws.atomic_path(uri) as temporary:
            ws.write_bytes(temporary, b"half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write()
    assert ws.read_json(uri) == {"generation": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        ws.write_json(str(tmp_path / "a.json"), {"auc": float("nan")})
    assert os.listdir(tmp_path) == []


def test_the_same_content_is_stored_once(tmp_path):
    first = ws.store_by_content(str(tmp_path), ".txt", lambda uri: ws.write_bytes(uri, b"abc"))
    second = ws.store_by_content(str(tmp_path), ".txt", lambda uri: ws.write_bytes(uri, b"abc"))
    assert first == second
    assert os.listdir(tmp_path) == [f"{first[1]}.txt"]


def test_content_that_could_not_be_written_leaves_nothing(tmp_path):
    def broken(uri):
        ws.write_bytes(uri, b"half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        ws.store_by_content(str(tmp_path), ".txt", broken)
    assert os.listdir(tmp_path) == []


@given(st.lists(st.text("abc/", min_size=1), min_size=1))
def test_join_never_doubles_a_slash_between_parts(parts):
    joined = ws.join("s3://bucket/", *[part.strip("/") or "x" for part in parts])
    assert joined.startswith("s3://bucket/")
    assert not joined.endswith("/")
