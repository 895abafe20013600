from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.snapshot import (
    read_dataset,
    snapshot_dataset,
    write_dataset,
)

DAYS = pd.date_range("2013-01-01", periods=6, freq="D", tz="UTC")


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "at": DAYS,
            "n": [1, 2, None, 4, 5, 6],
            "word": ["a", None, "b", "c", "nan", ""],
            "flag": [True, False, True, False, True, False],
        }
    )


@pytest.fixture
def workspace(tmp_path: Path) -> str:
    return str(tmp_path / "workspace")


def stored(workspace: str) -> list[str]:
    return [path.name for path in Path(workspace).rglob("*") if path.is_file()]


def test_snapshot_keeps_the_rows_of_the_half_open_window(
    frame: pd.DataFrame, tmp_path: Path, workspace: str
) -> None:
    frame.to_parquet(tmp_path / "in.parquet")
    ref = snapshot_dataset(
        str(tmp_path / "in.parquet"),
        name="d",
        workspace=workspace,
        time_column="at",
        window_start="2013-01-02",
        window_end="2013-01-04T01:00:00+01:00",
        columns=["word", "at"],
    )
    assert read_dataset(ref)["word"].tolist() == [None, "b"]
    assert ref.n_rows == 2
    assert ref.columns == {"word": "string", "at": "timestamp[us, tz=UTC]"}
    assert ref.window_end == "2013-01-04T00:00:00+00:00"
    assert ref.uri == f"{workspace}/datasets/d/{ref.file_hash}.parquet"


def test_snapshot_twice_is_one_file(frame: pd.DataFrame, tmp_path: Path, workspace: str) -> None:
    frame.to_parquet(tmp_path / "in.parquet")
    refs = [
        snapshot_dataset(str(tmp_path / "in.parquet"), name="d", workspace=workspace)
        for _ in range(2)
    ]
    assert refs[0] == refs[1]
    assert stored(workspace) == [f"{refs[0].file_hash}.parquet"]


@pytest.mark.parametrize("source", ["many", "many/*.parquet", "file://{}/many", "one.parquet"])
def test_the_files_a_dataset_came_in_leave_no_trace(
    frame: pd.DataFrame, tmp_path: Path, workspace: str, source: str
) -> None:
    (tmp_path / "many").mkdir()
    frame.to_parquet(tmp_path / "one.parquet")
    frame[:2].to_parquet(tmp_path / "many" / "b.parquet")
    frame[2:].to_parquet(tmp_path / "many" / "a.parquet")
    where = source.format(tmp_path) if "{}" in source else str(tmp_path / source)
    whole = write_dataset(frame, "whole", workspace, "frame")
    assert snapshot_dataset(where, name="d", workspace=workspace).logical_hash == whole.logical_hash


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zip"])
def test_csv_is_read_with_its_types(tmp_path: Path, workspace: str, suffix: str) -> None:
    path = tmp_path / f"in{suffix}"
    pd.DataFrame({"at": DAYS, "n": range(6), "word": ["x", None] * 3}).to_csv(path, index=False)
    ref = snapshot_dataset(
        str(path), name="d", workspace=workspace, time_column="at", window_start="2013-01-05"
    )
    assert ref.n_rows == 2
    assert ref.columns["n"] == "int64"
    assert read_dataset(ref)["word"].tolist() == ["x", None]


def damaged(folder: Path) -> None:
    """Write files that begin well and break in a page, a footer or a stream."""
    pd.DataFrame({"at": DAYS, "word": [f"word {n}" for n in range(6)]}).to_parquet(
        folder / "page.parquet", compression="gzip"
    )
    raw = (folder / "page.parquet").read_bytes()
    footer = len(raw) - 8 - int.from_bytes(raw[-8:-4], "little")
    (folder / "page.parquet").write_bytes(raw[:4] + bytes(footer - 4) + raw[footer:])
    (folder / "footer.parquet").write_bytes(raw[:footer] + b"\xff" * 60 + raw[footer + 60 :])
    (folder / "cut.csv.gz").write_bytes(gzip.compress(b"at,n\n2013-01-01,1\n" * 99)[:-20])
    (folder / "text.csv.gz").write_text("at,n")
    (folder / "text.csv.zip").write_text("at,n")


def bad_sources(folder: Path) -> dict[str, str]:
    damaged(folder)
    (folder / "empty.parquet").touch()
    (folder / "empty.csv").touch()
    (folder / "text.parquet").write_text("this is no Parquet at all")
    (folder / "mixed").mkdir()
    pd.DataFrame({"at": DAYS, "n": 1}).to_parquet(folder / "mixed" / "a.parquet")
    pd.DataFrame({"at": DAYS, "n": "one"}).to_parquet(folder / "mixed" / "b.parquet")
    pd.DataFrame({"at": ["soon"], "n": 1}).to_parquet(folder / "timeless.parquet")
    pd.DataFrame({"at": DAYS[:0]}).to_parquet(folder / "rowless.parquet")
    return {path.name: str(path) for path in folder.iterdir()} | {"missing": f"{folder}/missing"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing", "No file at .*missing"),
        ("empty.parquet", "empty.parquet as Parquet"),
        ("empty.csv", "empty.csv as CSV"),
        ("text.parquet", "text.parquet as Parquet"),
        ("page.parquet", "page.parquet as Parquet"),
        ("footer.parquet", "footer.parquet as Parquet"),
        ("cut.csv.gz", "cut.csv.gz as CSV"),
        ("text.csv.gz", "text.csv.gz as CSV"),
        ("text.csv.zip", "text.csv.zip as CSV"),
        ("mixed", "disagree about a column"),
        ("timeless.parquet", "Column 'at' of .*timeless.parquet has type string"),
        ("rowless.parquet", "No rows in .*rowless.parquet"),
    ],
)
def test_bad_sources_are_named_and_leave_nothing(
    tmp_path: Path, workspace: str, source: str, message: str
) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(DataError, match=message):
        snapshot_dataset(
            bad_sources(tmp_path / "in")[source],
            name="d",
            workspace=workspace,
            time_column="at",
            window_start="2013-01-01",
        )
    assert stored(workspace) == []


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"columns": ["at", "nonsense"]}, DataError, "no column.*nonsense"),
        ({"time_column": "nonsense", "window_end": "2014"}, DataError, "no column.*nonsense"),
        ({"time_column": "at", "window_start": "2014-01-01"}, DataError, "No rows.*2014"),
        ({"window_start": "2014-01-01"}, ParameterError, "time_column"),
        ({"time_column": "at", "window_start": "soon"}, ParameterError, "window_start.*'soon'"),
        ({"name": "../d"}, ParameterError, "name.*a name of letters"),
    ],
)
def test_bad_arguments_are_named(
    frame: pd.DataFrame,
    tmp_path: Path,
    workspace: str,
    arguments: dict[str, object],
    error: type[Exception],
    message: str,
) -> None:
    frame.to_parquet(tmp_path / "in.parquet")
    with pytest.raises(error, match=message):
        snapshot_dataset(
            str(tmp_path / "in.parquet"), **{"name": "d", "workspace": workspace, **arguments}
        )


def test_a_frame_of_mixed_types_is_refused(workspace: str) -> None:
    with pytest.raises(DataError, match=r"frame from frame.*column x"):
        write_dataset(pd.DataFrame({"x": [1, "one"]}), "d", workspace, "frame")


def test_nested_values_are_refused_by_name(workspace: str) -> None:
    with pytest.raises(DataError, match=r"'pairs': 'list"):
        write_dataset(pd.DataFrame({"pairs": [[1, 2], [3]]}), "d", workspace, "frame")


def test_a_deleted_dataset_is_named(frame: pd.DataFrame, workspace: str) -> None:
    ref = write_dataset(frame, "d", workspace, "frame")
    Path(ref.uri).unlink()
    with pytest.raises(DataError, match=f"{ref.file_hash}.parquet is gone"):
        read_dataset(ref)


def test_an_unknown_column_of_a_dataset_is_told_with_those_it_has(
    frame: pd.DataFrame, workspace: str
) -> None:
    ref = write_dataset(frame, "d", workspace, "frame")
    with pytest.raises(DataError, match=r"no column \['m'\]. It has \['at', 'n', 'word', 'flag'\]"):
        read_dataset(ref, ["n", "m"])


def test_a_frame_is_kept_by_column_and_nothing_else_is_a_frame(
    frame: pd.DataFrame, workspace: str
) -> None:
    ref = write_dataset(frame, "d", workspace, "maker", columns=["word", "n"])
    assert [*ref.columns] == ["word", "n"]
    with pytest.raises(DataError, match=r"maker has no column \['m'\]"):
        write_dataset(frame, "d", workspace, "maker", columns=["m"])
    with pytest.raises(DataError, match="pandas frame or an Arrow table from maker, got NoneType"):
        write_dataset(None, "d", workspace, "maker")  # type: ignore[arg-type]  # what it is about


def test_times_are_stored_in_microseconds(workspace: str) -> None:
    ref = write_dataset(pd.DataFrame({"at": DAYS.as_unit("ns")}), "d", workspace, "frame")
    assert pq.read_schema(ref.uri).field("at").type == pa.timestamp("us", tz="UTC")
