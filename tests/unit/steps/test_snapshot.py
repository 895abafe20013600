from __future__ import annotations

import datetime as dt
import gzip
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError, SourceChangedError
from airflow_mlops_provider.steps import tables
from airflow_mlops_provider.steps.card import DataCard
from airflow_mlops_provider.steps.snapshot import (
    read_dataset,
    read_table,
    snapshot_dataset,
    write_batches,
    write_dataset,
    write_table,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef

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


def keep(source: Path, workspace: str, **arguments: Any) -> DatasetRef:
    return snapshot_dataset(str(source), name="d", workspace=workspace, **arguments)


def test_shards_may_lack_add_and_reorder_columns(tmp_path: Path, workspace: str) -> None:
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"n": [1], "word": ["a"]}), tmp_path / "in" / "a.parquet")
    pq.write_table(pa.table({"late": [0.5], "n": [2.5]}), tmp_path / "in" / "b.parquet")
    ref = keep(tmp_path / "in", workspace)
    assert ref.columns == {"n": "double", "word": "string", "late": "double"}
    assert read_table(ref).to_pylist() == [
        {"n": 1.0, "word": "a", "late": None},
        {"n": 2.5, "word": None, "late": 0.5},
    ]
    assert keep(tmp_path / "in", workspace, columns=["word"]).columns == {"word": "string"}


def test_shards_of_other_types_are_named_with_their_column(tmp_path: Path, workspace: str) -> None:
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": ["one"]}), tmp_path / "b.parquet")
    said = r"'n' is int64 in .*a.parquet, but string in .*b.parquet"
    with pytest.raises(DataError, match=said):
        keep(tmp_path / "*.parquet", workspace)


def test_a_shard_that_came_twice_counts_once(
    frame: pd.DataFrame, tmp_path: Path, workspace: str
) -> None:
    frame.to_parquet(tmp_path / "a.parquet")
    once = keep(tmp_path / "*.parquet", workspace)
    (tmp_path / "again.parquet").write_bytes((tmp_path / "a.parquet").read_bytes())
    card = DataCard()
    twice = keep(tmp_path / "*.parquet", workspace, card=card)
    assert (twice.logical_hash, twice.file_hash) == (once.logical_hash, once.file_hash)
    assert [Path(copy).name for part in card.parts for copy in part.copies] == ["again.parquet"]


GOOD = {
    "one row": {"n": [1]},
    "all null": {"n": [None, None]},
    "constant": {"n": [1.0, 1.0]},
    "infinite": {"n": [float("inf"), float("-inf"), float("nan")]},
    "unicode": {"größe 🛫": ["naïve", "日本"]},
    "several zones": {
        "at": [
            pd.Timestamp("2013-01-01", tz="America/New_York"),
            pd.Timestamp("2013-01-01", tz="UTC"),
        ]
    },
}


@pytest.mark.parametrize("kind", GOOD)
def test_unusual_columns_are_kept_as_they_are(workspace: str, kind: str) -> None:
    frame = pd.DataFrame({name: pd.Series(v, dtype=object) for name, v in GOOD[kind].items()})
    ref = write_dataset(frame, "d", workspace, "frame")
    kept = read_dataset(ref)
    assert [*kept] == [*frame]
    for name in frame:
        for was, now in zip(frame[name], kept[name], strict=True):
            assert now == was or (pd.isna(was) and pd.isna(now))


def test_naive_times_among_aware_ones_are_utc(workspace: str) -> None:
    aware = dt.datetime(2013, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))
    naive = dt.datetime(2013, 1, 1)
    for times in ([aware, naive], [naive, aware]):
        frame = pd.DataFrame({"at": pd.Series(times, dtype=object)})
        kept = read_table(write_dataset(frame, "d", workspace, "frame"))
        assert set(kept["at"].to_pylist()) == {dt.datetime(2013, 1, 1, tzinfo=dt.UTC)}


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        (pd.DataFrame({"n": []}), "No rows in maker for dataset 'd'"),
        (pd.DataFrame([[1, 2]], columns=["n", "n"]), r"maker has several columns named \['n'\]"),
        (pd.DataFrame([[1, 2]], columns=[1, "1"]), r"maker has several columns named \['1'\]"),
        (pd.DataFrame({"n": [1, "one"]}), "column n"),
        (pd.DataFrame({"n": [1, 2**70]}, dtype=object), "maker has a column of mixed types"),
    ],
)
def test_frames_that_make_no_dataset_are_named(
    workspace: str, frame: pd.DataFrame, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        write_dataset(frame, "d", workspace, "maker")
    assert stored(workspace) == []


def test_frames_that_come_one_by_one_get_one_type(workspace: str) -> None:
    pieces = [
        pd.DataFrame({"n": [1], "word": [None]}),
        pa.table({"n": [2.5], "word": ["a"]}),
        pa.record_batch({"n": pa.array([None], pa.int8())}),
    ]
    ref = write_batches(iter(pieces), "d", workspace, "maker")
    assert ref.columns == {"n": "double", "word": "string"}
    assert read_table(ref)["n"].to_pylist() == [1.0, 2.5, None]


def test_what_comes_one_by_one_is_narrowed_and_checked(workspace: str) -> None:
    pieces = [pa.table({"at": DAYS, "n": range(6)})]
    ref = write_batches(
        pieces, "d", workspace, "maker", time_column="at", window_end="2013-01-03", columns=["n"]
    )
    assert read_table(ref)["n"].to_pylist() == [0, 1]
    for wrong, said in [
        ([], "No rows in maker"),
        ([None], "frame or an Arrow table from maker, got NoneType"),
        ([pa.table({"n": [1]}), pa.table({"n": ["a"]})], "'n' is int64 in chunk 1 of maker"),
    ]:
        with pytest.raises(DataError, match=said):
            write_batches(wrong, "d", workspace, "maker")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 40), max_size=4), st.sampled_from([3, 7, 1 << 18]))
def test_the_same_rows_give_the_same_file_whatever_their_chunks(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], rows: int
) -> None:
    workspace = str(tmp_path_factory.mktemp("workspace"))
    words = [None if n % 7 == 0 else f"w{n % 5}" for n in range(40)]
    table = pa.table({"n": range(40), "word": words, "x": [n / 3 for n in range(40)]})
    edges = [0, *sorted(cuts), 40]
    pieces = [table.slice(a, b - a) for a, b in pairwise(edges)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tables, "_ROWS", rows)
        whole = write_table(table, "d", workspace, "test")
        chunked = write_table(pa.concat_tables(pieces), "d", workspace, "test")
        streamed = write_batches(pieces, "d", workspace, "test")
        assert pq.ParquetFile(whole.uri).num_row_groups == -(-40 // rows)
    assert whole == chunked == streamed


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.none() | st.integers(0, 10**6), min_size=1, max_size=20),
    st.lists(st.integers(0, 10**6), max_size=4),
)
def test_windows_that_follow_each_other_hold_each_row_once(
    tmp_path_factory: pytest.TempPathFactory, times: list[int | None], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("in")
    at = pa.array(times, pa.timestamp("us"))
    pq.write_table(pa.table({"at": at, "n": range(len(times))}), folder / "a.parquet")
    moment = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    edges = [None, *(moment + dt.timedelta(microseconds=cut) for cut in sorted(cuts)), None]
    seen: list[int] = []
    for start, end in pairwise(edges):
        window = {"time_column": "at", "window_start": start, "window_end": end}
        try:
            ref = keep(folder / "a.parquet", str(folder / "w"), **window)
        except DataError:  # the window holds no rows
            continue
        seen += read_table(ref)["n"].to_pylist()
    timed = [n for n, each in enumerate(times) if each is not None or not cuts]
    assert sorted(seen) == timed


def test_a_source_that_changes_while_it_is_read_leaves_nothing(
    tmp_path: Path, workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"n": range(10)}), path, row_group_size=2)
    cut = tables.row_groups

    def meddling(given: Any, n: int) -> Any:
        for number, table in enumerate(given):
            if number == 1:
                path.touch()
            yield from cut([table], n)

    monkeypatch.setattr("airflow_mlops_provider.steps.snapshot.row_groups", meddling)
    with pytest.raises(SourceChangedError, match=r"a.parquet changed"):
        keep(path, workspace)
    assert stored(workspace) == []


KILLED = """
import sys, time
import pyarrow as pa
from airflow_mlops_provider.steps import tables
from airflow_mlops_provider.steps.snapshot import _keep, _Target
from airflow_mlops_provider.steps.window import Window

tables._ROWS = 10
def rows():
    yield pa.table({"n": range(25)})
    print("written", flush=True)
    time.sleep(60)

target = _Target("d", sys.argv[1], "s", Window(None, None, None), None)
_keep(rows(), pa.schema([("n", pa.int64())]), target)
"""


def test_a_killed_worker_leaves_only_temporary_names(workspace: str) -> None:
    worker = subprocess.Popen([sys.executable, "-c", KILLED, workspace], stdout=subprocess.PIPE)
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"written\n"
    worker.kill()
    worker.wait()
    worker.stdout.close()
    (left,) = stored(workspace)
    assert left.startswith(".")
    assert left.endswith(".tmp")


def test_the_card_tells_what_is_in_the_dataset(tmp_path: Path, workspace: str) -> None:
    table = {"n": [3, None, 1], "word": ["<b>", "b", None], "x": [0.5, float("nan"), None]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    card = DataCard("data team", "CC0", "Flights <of> 2013")
    ref = keep(tmp_path / "in.parquet", workspace, card=card)
    facts = {name: (each.nulls, each.low, each.high) for name, each in card.columns.items()}
    assert facts == {"n": (1, 1, 3), "word": (1, None, None), "x": (1, 0.5, 0.5)}
    page = card.html(ref, {"When": "2013-02-01", "Processing script": "dags/a.py"})
    for said in ["data team", "CC0", "Flights &lt;of&gt; 2013", "in.parquet", "dags/a.py"]:
        assert said in page
    assert all(each in page for each in (ref.file_hash, ref.logical_hash, ref.schema_hash))
    assert "http" not in page
