from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_mlops_provider.exceptions import DataError, ParameterError, SourceChangedError
from airflow_mlops_provider.steps import sources
from airflow_mlops_provider.steps.sources import Part, parts_of

TIMES = pd.date_range("2013-01-01", periods=3, freq="D")


def rows(part: Part, columns: list[str] | None = None) -> list[dict[str, object]]:
    return pa.Table.from_batches(part.batches(columns)).to_pylist()


def parquet(path: Path, **columns: object) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("source", ["in", "in/*", "in/*.parquet", "file://{}/in", "in/a.parquet"])
def test_files_come_sorted_whatever_names_them(tmp_path: Path, source: str) -> None:
    parquet(tmp_path / "in" / "b.parquet", n=[2])
    parquet(tmp_path / "in" / "a.parquet", n=[1])
    where = source.format(tmp_path) if "{}" in source else str(tmp_path / source)
    found = [Path(part.path).name for part in parts_of(where)]
    assert found == ["a.parquet", "b.parquet"][: len(found)]
    assert len(found) == (1 if "a.parquet" in source else 2)


def test_hidden_files_of_a_folder_and_other_formats_are_no_parts(tmp_path: Path) -> None:
    parquet(tmp_path / "in" / "a.parquet", n=[1])
    parquet(tmp_path / "in" / ".b.parquet", n=[2])
    (tmp_path / "in" / "_SUCCESS").touch()
    assert [Path(part.path).name for part in parts_of(f"{tmp_path}/in")] == ["a.parquet"]


def test_a_file_named_like_a_glob_is_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "[2013] flights.parquet", n=[1])
    assert rows(parts_of(str(path))[0]) == [{"n": 1}]


def test_any_file_system_of_fsspec_is_read() -> None:
    fsspec.filesystem("memory").pipe("/sources/a.csv", b"n\n1\n")
    assert rows(parts_of("memory://sources/*.csv")[0]) == [{"n": 1}]


def test_a_file_that_came_twice_counts_once_and_is_told(tmp_path: Path) -> None:
    first = parquet(tmp_path / "in" / "a.parquet", n=[1])
    (tmp_path / "in" / "again.parquet").write_bytes(first.read_bytes())
    parquet(tmp_path / "in" / "other.parquet", n=[2])
    parts = parts_of(f"{tmp_path}/in")
    assert [Path(part.path).name for part in parts] == ["a.parquet", "other.parquet"]
    assert [len(part.copies) for part in parts] == [1, 0]
    assert parts[0].copies[0].endswith("again.parquet")


@pytest.mark.parametrize("name", ["a.parquet", "a.csv"])
def test_some_columns_are_read_in_the_asked_order(tmp_path: Path, name: str) -> None:
    frame = pd.DataFrame({"a": [1], "b.c": ["x"], "d": [2.5]})
    write = frame.to_csv if name.endswith("csv") else frame.to_parquet
    write(tmp_path / name, index=False)
    part = parts_of(str(tmp_path / name))[0]
    assert part.schema.names == ["a", "b.c", "d"]
    assert list(rows(part, ["d", "b.c"])[0].items()) == [("d", 2.5), ("b.c", "x")]
    with pytest.raises(DataError, match=rf"{name} has no column \['e'\]"):
        rows(part, ["e"])


def test_types_are_told_before_and_kept_while_reading(tmp_path: Path) -> None:
    table = {
        "naive": pa.array(TIMES, pa.timestamp("ns")),
        "zoned": pa.array(TIMES, pa.timestamp("s", tz="America/New_York")),
        "word": pa.array(["a", None, "a"]).dictionary_encode(),
        "large": pa.array(["x", "y", None], pa.large_string()),
        "bytes": pa.array([b"x", b"y", None], pa.large_binary()),
    }
    part = parts_of(str(parquet(tmp_path / "a.parquet", **table)))[0]
    utc = pa.timestamp("us", tz="UTC")
    assert part.schema.types == [utc, utc, pa.string(), pa.string(), pa.binary()]
    assert all(batch.schema == part.schema for batch in part.batches())
    assert rows(part)[1] == {
        "naive": dt.datetime(2013, 1, 2, tzinfo=dt.UTC),
        "zoned": dt.datetime(2013, 1, 2, tzinfo=dt.UTC),
        "word": None,
        "large": "y",
        "bytes": b"y",
    }


def test_parquet_is_read_in_bounded_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BATCH_ROWS", 4)
    part = parts_of(str(parquet(tmp_path / "a.parquet", n=range(10))))[0]
    assert [batch.num_rows for batch in part.batches()] == [4, 4, 2]


def test_a_time_beyond_microseconds_is_named(tmp_path: Path) -> None:
    far = pa.array([10**15], pa.timestamp("s"))
    path = tmp_path / "a.arrow"
    with pytest.raises(DataError, match=r"Column 'at' of .*a.arrow has type timestamp\[s\]"):
        sources.normalised(pa.table({"at": far}), str(path))


def changed(path: Path) -> None:
    parquet(path, n=range(20))


def removed(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("change", [changed, removed, cut])
def test_a_file_that_changes_after_it_was_listed_is_told_so(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    path = parquet(tmp_path / "a.parquet", n=range(10))
    part = parts_of(str(path))[0]
    change(path)
    with pytest.raises(SourceChangedError, match=r"a.parquet changed while it was read"):
        rows(part)


def test_a_file_that_changes_while_it_is_read_is_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BATCH_ROWS", 4)
    path = parquet(tmp_path / "a.parquet", n=range(10))
    batches = parts_of(str(path))[0].batches()
    next(batches)
    path.touch()
    with pytest.raises(SourceChangedError):
        list(batches)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    twice = pa.table([[1], [2]], names=["n", "n"])
    pq.write_table(twice, tmp_path / "twice.parquet")
    (tmp_path / "twice.csv").write_text("n,n\n1,2\n")
    (tmp_path / "row.csv").write_text("a,b\n1,2\n3,4,5\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "text.parquet").write_text("text")
    for name, said in [
        ("twice.parquet", r"twice.parquet has several columns named \['n'\]"),
        ("twice.csv", r"twice.csv has several columns named \['n'\]"),
        ("row.csv", r"row.csv as CSV: .*Expected 2 columns, got 3"),
        ("empty.csv", "empty.csv as CSV"),
        ("text.parquet", "text.parquet as Parquet"),
    ]:
        part = parts_of(str(tmp_path / name))[0]
        for read in (lambda part=part: part.schema, lambda part=part: rows(part)):
            with pytest.raises(DataError, match=said):
                read()


def test_nothing_to_read_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No file at .*\*.csv"):
        parts_of(f"{tmp_path}/*.csv")
    with pytest.raises(ParameterError, match="fsspec URI as source, got 'gopher://a'"):
        parts_of("gopher://a")
