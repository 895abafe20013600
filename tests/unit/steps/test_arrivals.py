from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from airflow_mlops_provider.steps.arrivals import modified_times, settled_files

NOON = datetime(2013, 2, 1, 12, tzinfo=UTC)


def ago(seconds):
    return NOON - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("modified", "since", "files"),
    [
        ({}, None, []),
        ({"b": ago(10), "a": ago(99)}, None, ["a", "b"]),
        ({"b": ago(9), "a": ago(99)}, None, []),
        ({"b": ago(20), "a": ago(99)}, ago(30), ["b"]),
        ({"a": ago(30)}, ago(30), ["a"]),
        ({"a": ago(99)}, ago(30), []),
    ],
)
def test_files_count_once_all_of_them_settled(modified, since, files):
    assert settled_files(modified, NOON, settle_seconds=10, since=since) == files


def test_only_visible_files_are_looked_at(tmp_path):
    for name in ("a.parquet", ".b.parquet.tmp", "c.csv"):
        (tmp_path / name).touch()
    (tmp_path / "folder.parquet").mkdir()
    found = modified_times(f"{tmp_path}/*")
    assert sorted(uri.rpartition("/")[2] for uri in found) == ["a.parquet", "c.csv"]
    assert all(abs(at - datetime.now(UTC)) < timedelta(hours=1) for at in found.values())
    assert modified_times(f"{tmp_path}/nowhere/*") == {}
