from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.steps.arrivals import (
    SeenFiles,
    arrival,
    modified_times,
    settled_files,
)

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


def test_of_a_folder_all_files_below_are_meant(tmp_path):
    (tmp_path / "day=1").mkdir()
    (tmp_path / "day=1" / "a.parquet").touch()
    (found,) = modified_times(str(tmp_path))
    assert found.endswith("day=1/a.parquet")


def test_new_and_rewritten_files_are_news_and_the_rest_is_not():
    seen = SeenFiles.of({"a": ago(90), "b": ago(90)})
    kept = SeenFiles.from_json(seen.to_json())
    assert kept.news({"a": ago(90), "b": ago(50), "c": ago(99)}) == ["b", "c"]
    assert kept.news({"a": ago(90)}) == []


def test_the_memory_of_many_files_fits_into_what_airflow_keeps():
    many = {f"s3://bucket/landing/{number}": ago(number) for number in range(5_000)}
    seen = SeenFiles.of(many)
    assert len(json.dumps(seen.to_json())) < 65_535
    assert seen.news(many) == []
    assert seen.news({**many, "s3://bucket/new": NOON}) == ["s3://bucket/new"]


@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 3), max_size=6), max_size=8)
)
def test_every_version_of_a_file_is_news_exactly_once(looks):
    told, seen = [], SeenFiles()
    for look in looks:
        modified = {uri: ago(-at) for uri, at in look.items()}
        told += [(uri, modified[uri]) for uri in seen.news(modified)]
        seen = SeenFiles.from_json(SeenFiles.of({**modified}).to_json())
        assert seen.news(modified) == []
    assert {item for look in looks for item in look.items()} == {
        (uri, -int((NOON - at).total_seconds())) for uri, at in told
    }


def test_an_arrival_is_the_same_for_the_same_files():
    modified = {"a": ago(9), "b": ago(5)}
    event = arrival(["a", "b"], modified)
    assert event["n_files"] == 2
    assert event["newest"] == ago(5).isoformat()
    assert event == arrival(["a", "b"], modified)
    assert event["id"] != arrival(["a"], modified)["id"]
    assert event["id"] != arrival(["a", "b"], {"a": ago(9), "b": ago(4)})["id"]
    many = {str(number): ago(number) for number in range(99)}
    assert len(arrival(sorted(many), many)["files"]) == 20


class CachingFileSystem(LocalFileSystem):
    """Answers from its last listing, as those of object stores do."""

    protocol = "caching"
    cachable = True

    def glob(self, path, **kwargs):
        if path not in self.dircache:
            self.dircache[path] = super().glob(path, **kwargs)
        return self.dircache[path]

    def invalidate_cache(self, path=None):
        self.dircache.clear()


def test_files_are_found_behind_a_cached_listing(tmp_path):
    fsspec.register_implementation("caching", CachingFileSystem, clobber=True)
    assert modified_times(f"caching://{tmp_path}/*") == {}
    (tmp_path / "a.parquet").touch()
    assert len(modified_times(f"caching://{tmp_path}/*")) == 1
