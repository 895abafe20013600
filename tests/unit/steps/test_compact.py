import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps import compact as compact_module
from airflow_mlops_provider.steps import segments as segments_module
from airflow_mlops_provider.steps.compact import compact_log
from tests.prediction_logs import Killed, kill_at, record, write_segment


@pytest.fixture
def log(tmp_path):
    return tmp_path / "logs"


def compact(log, workspace=None, **options):
    options = {"endpoint": "flights", "workspace": str(workspace or log.parent / "ws")} | options
    return compact_log(str(log), **options)


def rows(ref):
    return pq.read_table(ref.uri.removeprefix("file://")).to_pylist()


def test_records_become_sorted_rows_with_flat_inputs_and_a_score(log):
    write_segment(log, "b", [record(2, inputs={"x": 2.0, "carrier": "UA"})])
    write_segment(log, "a", [record(1, entity_id=None)])
    (log / "c.open").write_text("still being written")
    ref = compact(log)
    first, second = rows(ref)
    assert [first["request_id"], second["request_id"]] == ["r1", "r2"]
    assert first["input.carrier"] is None
    assert (second["input.carrier"], second["input.x"], second["score"]) == ("UA", 2.0, 0.5)
    assert first["entity_id"] is None
    assert ref.n_rows == 2
    assert ref.model_versions == ["models:/flights/1"]
    assert (ref.window_start, ref.window_end) == (
        "2013-07-01T00:00:01+00:00",
        "2013-07-01T00:00:02+00:00",
    )


def test_a_second_run_gives_the_same_file_and_a_new_segment_only_adds(log):
    write_segment(log, "a", [record(1)])
    first = compact(log)
    assert compact(log) == first
    write_segment(log, "b", [record(2)])
    (log / "a.jsonl").write_text(" " * (log / "a.jsonl").stat().st_size)  # would not be readable
    assert [row["request_id"] for row in rows(compact(log))] == ["r1", "r2"]


def test_repeated_records_count_once_but_attempts_rows_and_deployments_do_not(log):
    write_segment(log, "a", [record(1), record(1), record(1, attempt=2), record(1, row=1)])
    write_segment(log, "b", [record(1), record(1, deployment="v2", shadow=True)])
    keys = [(row["attempt"], row["row"], row["deployment"]) for row in rows(compact(log))]
    assert sorted(keys) == [(1, 0, "v1"), (1, 0, "v2"), (1, 1, "v1"), (2, 0, "v1")]


@pytest.mark.parametrize("torn", ['{"request_id": "r9", "ro', "{}\n", "[1]\n", "\x00\x00", "null"])
def test_a_torn_line_is_counted_and_left_out(log, torn):
    write_segment(log, "a", [record(1)], torn)
    write_segment(log, "b", [], '{"request')
    ref = compact(log)
    assert (ref.n_rows, ref.n_unreadable) == (1, 2)
    assert compact(log).n_unreadable == 2


@pytest.mark.parametrize(
    ("output", "score", "text"),
    [
        (0.25, 0.25, None),
        (1, 1.0, None),
        (True, 1.0, None),
        ([0.75, 0.25], 0.25, None),
        ([[0.75, 0.25]], 0.25, None),
        ({"late": 0.25}, 0.25, None),
        ("UA", None, "UA"),
        (["a", "b"], None, '["a", "b"]'),
        ([], None, "[]"),
        (None, None, None),
    ],
)
def test_a_numeric_output_is_the_score_and_any_other_is_kept(log, output, score, text):
    write_segment(log, "a", [record(1, outputs=output)])
    (row,) = rows(compact(log))
    assert (row["score"], row["output"]) == (score, text)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        ([True, 3], [1, 3]),
        ([True, None], [True, None]),
        ([None, None], [None, None]),
        ([1, "a"], ["1.0", "a"]),
        ([[1, 2], "a"], ["[1, 2]", "a"]),
        ([2**70, 1], [repr(2.0**70), "1.0"]),
        (["\ud83d", "ok"], ["?", "ok"]),
    ],
)
@pytest.mark.parametrize("apart", [False, True], ids=["one segment", "a segment each"])
def test_inputs_of_different_types_meet_in_one_column(log, values, expected, apart):
    records = [record(i, inputs={"x": value}) for i, value in enumerate(values)]
    if apart:
        for entry in records:
            write_segment(log, entry["request_id"], [entry])
            compact(log)
    else:
        write_segment(log, "a", records)
    assert [row["input.x"] for row in rows(compact(log))] == expected


def test_inputs_that_were_refused_leave_the_columns_alone(log):
    refused = record(2, status=400, outputs=None, inputs={"x": "a lot", "extra": 1})
    write_segment(log, "a", [record(1), refused])
    first, second = rows(compact(log))
    assert (first["input.x"], first["refused_inputs"]) == (1.0, None)
    assert (second["input.x"], second["refused_inputs"]) == (None, '{"x": "a lot", "extra": 1}')
    assert "input.extra" not in first


def test_the_window_includes_its_start_and_excludes_its_end(log):
    write_segment(log, "a", [record(i) for i in range(5)])
    ref = compact(log, window_start="2013-07-01T00:00:01", window_end="2013-07-01T02:00:03+02:00")
    assert [row["request_id"] for row in rows(ref)] == ["r1", "r2"]
    assert ref.window_end == "2013-07-01T00:00:03+00:00"


def test_a_log_without_closed_segments_gives_an_empty_batch(log):
    log.mkdir()
    ref = compact(log)
    assert (ref.n_rows, rows(ref), ref.window_start) == (0, [], None)


def test_bad_input_is_named(log):
    with pytest.raises(DataError, match=r"No prediction log at .*logs\. .*send it traffic"):
        compact(log)
    write_segment(log, "a", [], "a,b\n1,2\n")
    with pytest.raises(DataError, match=r"No line of .*a\.jsonl"):
        compact(log)
    with pytest.raises(ParameterError, match="endpoint parameter of compact_log"):
        compact(log, endpoint="../flights")
    with pytest.raises(ParameterError, match="window_end parameter of compact_log"):
        compact(log, window_end="tomorrow")
    with pytest.raises(ParameterError, match=r"after window_start.* CronDataIntervalTimetable"):
        compact(log, window_start="2013-07-01", window_end="2013-07-01")


@pytest.mark.parametrize("call", ["mv", "_open"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(6))
def test_a_kill_at_any_point_leaves_what_the_next_run_needs(log, monkeypatch, call, when, nth):
    write_segment(log, "a", [record(1), record(2)], '{"torn')
    compact(log)
    write_segment(log, "b", [record(2), record(3)], '{"torn')
    undisturbed = compact(log, log.parent / "other")
    with monkeypatch.context() as patch, suppress(Killed):
        kill_at(patch, call, when, nth)
        compact(log)
    again = compact(log)
    assert again.file_hash == undisturbed.file_hash
    assert (again.n_rows, again.n_unreadable) == (3, 2)


_records = st.lists(
    st.builds(
        record,
        st.integers(0, 5),
        attempt=st.integers(1, 2),
        latency_ms=st.sampled_from([1.0, 2.0]),
        inputs=st.dictionaries(
            st.sampled_from(["x", "y"]), st.sampled_from([None, True, 1, 2.5, "a", 2**70, [1]])
        ),
    ),
    max_size=4,
)


@settings(max_examples=30, deadline=None)
@given(segments=st.lists(st.tuples(_records, st.booleans()), min_size=1, max_size=5))
def test_the_batch_does_not_depend_on_when_segments_were_compacted(segments):
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "logs")
        log.mkdir()
        for i, (records, compacted) in enumerate(segments):
            write_segment(log, str(i), records, '{"torn')
            if compacted:
                compact(log)
        step_by_step, at_once = compact(log), compact(log, Path(folder, "other"))
        assert step_by_step.file_hash == at_once.file_hash
        assert step_by_step.n_unreadable == at_once.n_unreadable == len(segments)


def test_memory_does_not_grow_with_the_log(log, monkeypatch):
    monkeypatch.setattr(compact_module, "_ROWS_AT_ONCE", 10)
    monkeypatch.setattr(segments_module, "PART_ROWS", 25)
    most = []
    conformed = compact_module.conformed
    monkeypatch.setattr(
        compact_module,
        "conformed",
        lambda table, schema: most.append(table.num_rows) or conformed(table, schema),
    )
    for i in range(7):
        write_segment(log, str(i), [record(10 * i + j) for j in reversed(range(13))])
    ref = compact(log)
    assert [row["request_id"] for row in rows(ref)] == [f"r{i}" for i in range(73)]
    assert max(most) <= 10
    parts = list((log.parent / "ws/predictions/flights/parts").iterdir())
    assert sorted(pq.read_metadata(part).num_rows for part in parts) == [13, 26, 26, 26]
    whole = pq.ParquetFile(ref.uri.removeprefix("file://")).metadata
    assert {whole.row_group(i).num_rows for i in range(whole.num_row_groups)} == {10, 3}


def test_dropped_and_hashed_inputs_are_carried_through(log):
    hashed = "0123456789abcdef" * 2
    write_segment(log, "a", [record(1, inputs={"x": 1.0}), record(2, inputs={"id": hashed})])
    assert [row["input.id"] for row in rows(compact(log))] == [None, hashed]


def test_a_new_model_version_may_log_other_inputs_in_the_middle_of_a_window(log):
    old = [record(i, inputs={"x": i, "gone": "a"}) for i in range(2)]
    new = {"deployment": "v2", "model_uri": "models:/flights/2"}
    write_segment(log, "a", old)
    compact(log)
    inputs = [{"x": 0.5, "new": [1]}, {"x": None, "new": None}]
    write_segment(log, "b", [record(2 + i, inputs=inputs[i], **new) for i in range(2)])
    ref = compact(log)
    found = [(row["input.x"], row["input.gone"], row["input.new"]) for row in rows(ref)]
    assert found == [(0, "a", None), (1, "a", None), (0.5, None, "[1]"), (None, None, None)]
    assert ref.model_versions == ["models:/flights/1", "models:/flights/2"]


@pytest.mark.parametrize("compacted", [False, True])
def test_a_truncated_segment_loses_what_was_cut_off_and_nothing_else(log, compacted):
    write_segment(log, "a", [record(i) for i in range(4)])
    write_segment(log, "b", [record(9)])
    if compacted:
        assert compact(log).n_unreadable == 0
    whole = (log / "a.jsonl").read_bytes()
    (log / "a.jsonl").write_bytes(whole[: len(whole) // 2 + 5])
    ref = compact(log)
    kept = [f"r{i}" for i in ((0, 1, 2, 3, 9) if compacted else (0, 1, 9))]
    assert [row["request_id"] for row in rows(ref)] == kept
    assert ref.n_unreadable == 1


def test_a_part_that_is_broken_is_named(log):
    write_segment(log, "a", [record(1)])
    compact(log)
    (part,) = (log.parent / "ws/predictions/flights/parts").iterdir()
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match=rf"Cannot read .*{part.name} as Parquet"):
        compact(log)


def test_windows_in_any_order_share_the_records_of_clocks_that_differ(log):
    ahead = {"deployment": "v2", "ts": "2013-07-01T00:00:59+00:00"}
    write_segment(log, "a", [record(i) for i in range(5)])
    write_segment(log, "b", [record(10 + i, **ahead) for i in range(3)])
    bounds = ["00:00:00", "00:00:03", "00:00:30", "00:01:00"]
    windows = [(f"2013-07-01T{a}", f"2013-07-01T{b}") for a, b in pairwise(bounds)]

    def found(workspace, order):
        return {
            start: compact(log, workspace, window_start=start, window_end=end)
            for start, end in order
        }

    forth, back = found(log.parent / "x", windows), found(log.parent / "y", windows[::-1])
    assert {start: ref.file_hash for start, ref in forth.items()} == {
        start: ref.file_hash for start, ref in back.items()
    }
    ids = [row["request_id"] for start in sorted(forth) for row in rows(forth[start])]
    assert sorted(ids) == sorted(f"r{i}" for i in (*range(5), 10, 11, 12))
