import tempfile
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps import label_columns, label_matching
from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.labels import LabelCounts, join_feedback, join_labels
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from tests.prediction_logs import START, Killed, kill_at, record, write_segment

NAMES = {"label_key": "flight", "label_column": "late"}
IN_TIME = NAMES | {"time_column": "landed"}


@pytest.fixture
def workspace(tmp_path):
    return str(tmp_path / "ws")


@pytest.fixture
def predictions(tmp_path, workspace):
    def make(*records):
        write_segment(tmp_path / "logs", "a", records)
        return compact_log(str(tmp_path / "logs"), endpoint="flights", workspace=workspace)

    return make


@pytest.fixture
def labels(workspace):
    def make(rows):
        frame = pd.DataFrame(rows)
        return write_dataset(frame, name="delays", workspace=workspace, source="test")

    return make


def joined(predictions, labels, workspace, **options):
    """Return ``request_id`` and label of what was joined, and what was counted."""
    counts = LabelCounts()
    options = NAMES | options
    ref = join_labels(predictions, labels, workspace=workspace, counts=counts, **options)
    frame = pd.DataFrame() if ref is None else read_dataset(ref)
    return list(zip(frame["request_id"], frame["label"], strict=True)) if len(frame) else [], counts


def at(seconds):
    return START + timedelta(seconds=seconds)


def told(counts):
    return {name: n for name, n in vars(counts).items() if n}


class TestById:
    def test_only_labelled_predictions_stay_with_all_their_columns(
        self, predictions, labels, workspace
    ):
        batch = predictions(
            record(1), record(2), record(3, entity_id=None), record(4, entity_id="e1")
        )
        ref = join_labels(
            batch,
            labels({"flight": ["e1", "e9", None], "late": [1, 0, 1]}),
            workspace=workspace,
            **NAMES,
        )
        frame = read_dataset(ref)
        assert frame[["request_id", "label"]].to_numpy().tolist() == [["r1", 1], ["r4", 1]]
        assert frame["input.x"].tolist() == [1.0, 4.0]
        assert frame["label_ts"].isna().all()
        assert ref.columns["label"] == "int64"
        assert ref.columns["label_ts"] == "timestamp[us, tz=UTC]"

    def test_labels_that_have_not_come_are_none(self, predictions, labels, workspace):
        batch = predictions(record(1), record(2))
        assert joined(batch, labels({"flight": ["e9"], "late": [1]}), workspace)[0] == []
        waiting = labels({"flight": ["e1", "e2"], "late": [None, 1.0]})
        assert joined(batch, waiting, workspace)[0] == [("r2", 1.0)]

    @pytest.mark.parametrize("keys", [[7, 8], [7.0, 8.0], ["7", "8"]])
    def test_keys_meet_as_text(self, predictions, labels, workspace, keys):
        batch = predictions(record(1, entity_id="7"), record(2, entity_id=8))
        found, _ = joined(batch, labels({"flight": keys, "late": [0, 1]}), workspace)
        assert found == [("r1", 0), ("r2", 1)]

    @pytest.mark.parametrize("late", [[0, 1], [0.5, 1.5], ["no", "yes"], [False, True]])
    def test_labels_keep_their_type(self, predictions, labels, workspace, late):
        batch = predictions(record(1), record(2))
        found, _ = joined(batch, labels({"flight": ["e1", "e2"], "late": late}), workspace)
        assert found == [("r1", late[0]), ("r2", late[1])]

    def test_a_label_is_of_its_row_if_rows_are_told(self, predictions, labels, workspace):
        batch = predictions(record(1), record(1, row=1), record(2))
        truth = labels({"flight": ["r1", "r1", "r2"], "late": [0, 1, 1], "n": [0, 1, 7]})
        options = {"key": "request_id", "row_column": "n"}
        found, counts = joined(batch, truth, workspace, **options)
        assert found == [("r1", 0), ("r1", 1)]
        assert counts.unknown == 1
        whole = labels({"flight": ["r1"], "late": [1]})
        assert joined(batch, whole, workspace, key="request_id")[0] == [("r1", 1), ("r1", 1)]

    def test_an_input_may_be_the_key(self, predictions, labels, workspace):
        truth = labels({"flight": [2], "late": [1]})
        found, _ = joined(predictions(record(1), record(2)), truth, workspace, key="input.x")
        assert found == [("r2", 1)]

    def test_labels_of_the_predictions_themselves_are_replaced(
        self, predictions, labels, workspace
    ):
        truth = labels({"flight": ["e1"], "late": [1]})
        once = join_labels(predictions(record(1)), truth, workspace=workspace, **NAMES)
        again = predictions(record(1))
        again = type(again)(uri=once.uri, n_rows=1, file_hash=once.file_hash, model_versions=[])
        corrected = labels({"flight": ["e1"], "late": [0]})
        assert joined(again, corrected, workspace)[0] == [("r1", 0)]


class TestSettling:
    def test_identical_labels_count_once(self, predictions, labels, workspace):
        truth = labels({"flight": ["e1", "e1", "e1"], "late": [1, 1, 1]})
        found, counts = joined(predictions(record(1)), truth, workspace)
        assert found == [("r1", 1)]
        assert told(counts) == {
            "predictions": 1, "labelled": 1, "labels": 3, "joined": 1, "repeated": 2
        }  # fmt: skip

    def test_contradicting_labels_are_refused_or_left_out(self, predictions, labels, workspace):
        batch = predictions(record(1), record(2))
        truth = labels({"flight": ["e1", "e1", "e2"], "late": [0, 1, 0]})
        with pytest.raises(DataError, match=r"one label for each 'flight'.* 1 of them \(e1\)"):
            joined(batch, truth, workspace)
        found, counts = joined(batch, truth, workspace, on_conflict="drop")
        assert found == [("r2", 0)]
        assert (counts.contradicting, counts.joined) == (2, 1)

    def test_the_last_correction_holds_and_tells_when(self, predictions, labels, workspace):
        times = [at(30), at(10), None]
        truth = labels({"flight": ["e1"] * 3, "late": [1, 0, 0], "known": times})
        ref = join_labels(
            predictions(record(1)), truth, workspace=workspace, updated_column="known", **NAMES
        )
        frame = read_dataset(ref)
        assert frame["label"].tolist() == [1]
        assert frame["label_ts"].tolist() == [pd.Timestamp(at(30))]

    def test_corrections_may_be_numbered(self, predictions, labels, workspace):
        truth = labels({"flight": ["e1"] * 3, "late": [1, 0, 0], "n": [3, 1, 2]})
        found, counts = joined(predictions(record(1)), truth, workspace, updated_column="n")
        assert (found, counts.corrected) == ([("r1", 1)], 2)

    def test_two_last_corrections_may_contradict_each_other(self, predictions, labels, workspace):
        truth = labels({"flight": ["e1"] * 3, "late": [1, 0, 1], "n": [3, 3, 1]})
        with pytest.raises(DataError, match="several for 1 of them"):
            joined(predictions(record(1)), truth, workspace, updated_column="n")


class TestInTime:
    def test_the_last_prediction_before_the_event_gets_the_label(
        self, predictions, labels, workspace
    ):
        batch = predictions(*(record(i, entity_id="e") for i in (10, 20, 30)))
        truth = labels({"flight": ["e"] * 2, "late": [0, 1], "landed": [at(25), at(31)]})
        found, counts = joined(batch, truth, workspace, **IN_TIME)
        assert found == [("r20", 0), ("r30", 1)]
        assert told(counts) == {"predictions": 3, "labelled": 2, "labels": 2, "joined": 2}

    @pytest.mark.parametrize(
        ("seconds", "options", "fate"),
        [
            (10, {}, "joined"),
            (9.5, {}, "early"),
            (9.5, {"clock_skew": 0.5}, "joined"),
            (9.5, {"clock_skew": "PT0.4S"}, "early"),
            (15, {"max_delay": 5}, "joined"),
            (15.1, {"max_delay": timedelta(seconds=5)}, "expired"),
        ],
    )
    @pytest.mark.parametrize("key", ["entity_id", "request_id"])
    def test_a_label_before_or_long_after_is_not_joined(
        self, predictions, labels, workspace, key, seconds, options, fate
    ):
        batch = predictions(record(10, request_id="e10"))
        truth = labels({"flight": ["e10"], "late": [1], "landed": [at(seconds)]})
        found, counts = joined(batch, truth, workspace, key=key, **IN_TIME, **options)
        assert getattr(counts, fate) == 1
        assert len(found) == (fate == "joined")

    def test_skew_never_takes_a_label_from_the_prediction_before(
        self, predictions, labels, workspace
    ):
        batch = predictions(record(10, entity_id="e"), record(12, entity_id="e"))
        truth = labels({"flight": ["e"], "late": [1], "landed": [at(11)]})
        found, _ = joined(batch, truth, workspace, clock_skew=5, **IN_TIME)
        assert found == [("r10", 1)]

    def test_of_several_events_the_first_is_the_outcome(self, predictions, labels, workspace):
        truth = labels({"flight": ["e1"] * 3, "late": [1, 0, 0], "landed": [at(5), at(7), at(7)]})
        found, counts = joined(predictions(record(1)), truth, workspace, **IN_TIME)
        assert found == [("r1", 1)]
        assert (counts.joined, counts.surplus, counts.repeated) == (1, 1, 1)

    def test_all_attempts_and_shadows_of_the_request_share_the_label(
        self, predictions, labels, workspace
    ):
        later = at(1.4).isoformat()
        batch = predictions(
            record(1, status=500, outputs=None),
            record(1, attempt=2, ts=later),
            record(1, deployment="v2", shadow=True, ts=later),
        )
        truth = labels({"flight": ["e1"], "late": [1], "landed": [at(1.2)]})
        assert joined(batch, truth, workspace, **IN_TIME)[0] == [("r1", 1)] * 3

    def test_at_the_same_moment_the_later_request_id_and_row_counts(
        self, predictions, labels, workspace
    ):
        same = {"entity_id": "e", "ts": at(1).isoformat()}
        batch = predictions(record(1, **same), record(2, **same), record(2, row=1, **same))
        truth = labels({"flight": ["e"], "late": [1], "landed": [at(1)]})
        ref = join_labels(batch, truth, workspace=workspace, **IN_TIME)
        frame = read_dataset(ref)
        assert frame[["request_id", "row"]].to_numpy().tolist() == [["r2", 1]]

    def test_a_column_without_times_is_named(self, predictions, labels, workspace):
        truth = labels({"flight": ["e1"], "late": [1], "landed": ["soon"]})
        with pytest.raises(DataError, match=r"Expected times in column 'landed'"):
            joined(predictions(record(1)), truth, workspace, **IN_TIME)

    @settings(max_examples=40, deadline=None)
    @given(
        asked=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=6),
        events=st.lists(
            st.tuples(st.sampled_from("abc"), st.integers(0, 12)),
            min_size=1,
            max_size=6,
            unique=True,
        ),
        delay=st.integers(0, 4),
        skew=st.integers(0, 2),
    )
    def test_it_is_what_looking_at_each_label_by_hand_gives(self, asked, events, delay, skew):
        with tempfile.TemporaryDirectory() as folder:
            records = [
                record(n, entity_id=entity, ts=at(ts).isoformat())
                for n, (entity, ts) in enumerate(asked)
            ]
            write_segment(Path(folder, "logs"), "a", records)
            batch = compact_log(f"{folder}/logs", endpoint="e", workspace=folder)
            rows = {
                "flight": [entity for entity, _ in events],
                "landed": [at(ts) for _, ts in events],
                "late": range(len(events)),
            }
            truth = write_dataset(pd.DataFrame(rows), "d", folder, "test")
            found, counts = joined(
                batch, truth, folder, **IN_TIME, max_delay=delay, clock_skew=skew
            )
        assert dict(found) == by_hand(asked, events, delay, skew)
        fates = ("joined", "unknown", "early", "expired", "surplus")
        assert sum(getattr(counts, fate) for fate in fates) == len(events)
        assert counts.joined == len(found)


def by_hand(asked, events, delay, skew):
    """Return the label of each request, as the rules say it."""
    found = {}
    for label, (entity, event) in sorted(enumerate(events), key=lambda each: each[1][1]):
        mine = [(ts, f"r{n}") for n, (who, ts) in enumerate(asked) if who == entity]
        before = [each for each in mine if event - delay <= each[0] <= event]
        after = [each for each in mine if event < each[0] <= event + skew]
        moment = max(before, default=min(after, default=None))
        if moment:
            latest = max(each for each in mine if each[0] == moment[0])
            found.setdefault(latest[1], label)
    return found


class TestOutcome:
    def test_a_late_label_is_gained_by_joining_again(self, predictions, labels, workspace):
        batch = predictions(record(1), record(2))
        first, _ = joined(batch, labels({"flight": ["e1"], "late": [1]}), workspace)
        later, _ = joined(batch, labels({"flight": ["e1", "e2"], "late": [1, 0]}), workspace)
        assert (first, later) == ([("r1", 1)], [("r1", 1), ("r2", 0)])

    def test_the_order_of_the_labels_does_not_matter(self, predictions, labels, workspace):
        batch = predictions(*(record(i) for i in range(20)))
        rows = pd.DataFrame({"flight": [f"e{i}" for i in range(30)], "late": [0.0, 1.0] * 15})
        refs = {
            join_labels(batch, labels(each), workspace=workspace, **NAMES).file_hash
            for each in (rows, rows, rows[::-1], pd.concat([rows, rows[:7]]))
        }
        assert len(refs) == 1

    def test_pieces_make_no_difference(self, predictions, labels, workspace, monkeypatch):
        batch = predictions(*(record(i) for i in range(20)))
        truth = labels({"flight": [f"e{i}" for i in range(0, 20, 3)], "late": range(7)})
        whole = join_labels(batch, truth, workspace=workspace, **NAMES)
        for module in (label_matching, label_columns):
            monkeypatch.setattr(module, "_ROWS_AT_ONCE", 3)
        assert join_labels(batch, truth, workspace=workspace, **NAMES) == whole
        assert (whole.source, whole.n_rows) == (f"{batch.uri} with {truth.uri}", 7)

    def test_no_predictions_at_all_leave_every_label_unknown(self, predictions, labels, workspace):
        found, counts = joined(predictions(), labels({"flight": ["e1"], "late": [1]}), workspace)
        assert (found, counts.unknown) == ([], 1)
        assert counts.metrics()["label_coverage"] == 0

    def test_a_missing_column_is_named(self, predictions, labels, workspace):
        batch, truth = predictions(record(1)), labels({"flight": ["e1"], "late": [1]})
        with pytest.raises(DataError, match=r"Expected columns \['tail'\]"):
            joined(batch, truth, workspace, key="tail")
        with pytest.raises(DataError, match=r"Expected columns \['delay'\]"):
            joined(batch, truth, workspace, label_column="delay")

    @pytest.mark.parametrize(
        "options",
        [{"max_delay": "soon"}, {"max_delay": -1}, {"clock_skew": "P1X"}, {"on_conflict": "first"}],
    )
    def test_an_argument_that_cannot_be_used_is_named(
        self, predictions, labels, workspace, options
    ):
        with pytest.raises(ParameterError, match=next(iter(options))):
            joined(
                predictions(record(1)),
                labels({"flight": ["e1"], "late": [1]}),
                workspace,
                **options,
            )

    def test_files_that_are_gone_are_said_to_be(self, predictions, labels, workspace, tmp_path):
        batch, truth = predictions(record(1)), labels({"flight": ["e1"], "late": [1]})
        (tmp_path / "ws/predictions/flights" / f"{batch.file_hash}.parquet").unlink()
        with pytest.raises(DataError, match="is gone"):
            joined(batch, truth, workspace)


def sent(i, label, **changes):
    """Return feedback as the serving host keeps it, received at its number of seconds."""
    return {
        "feedback_id": f"f{i}",
        "label": label,
        "request_id": None,
        "row": 0,
        "entity_id": None,
        "event_ts": None,
        "received_at": at(i).isoformat(),
    } | changes


class TestFeedback:
    @pytest.fixture
    def join(self, tmp_path, workspace):
        def join(batch, *entries, torn=""):
            counts = LabelCounts()
            if entries:
                write_segment(tmp_path / "sent", "a", entries, torn)
            ref = join_feedback(
                batch,
                endpoint="flights",
                log_folder=str(tmp_path / "sent"),
                workspace=workspace,
                counts=counts,
            )
            frame = None if ref is None else read_dataset(ref)
            return frame, counts

        return join

    def test_outcomes_find_their_request_or_the_last_one_of_their_entity(self, predictions, join):
        batch = predictions(record(1), record(1, row=1), record(2), record(3))
        frame, counts = join(
            batch,
            sent(50, 1, request_id="r1", row=1),
            sent(51, True, entity_id="e2", event_ts=at(40).isoformat()),
            sent(52, 0.5, entity_id="e9", event_ts=at(40).isoformat()),
            torn='{"feedback_id": "f',
        )
        assert frame[["request_id", "row", "label"]].to_numpy().tolist() == [
            ["r1", 1, 1.0],
            ["r2", 0, 1.0],
        ]
        assert frame["label_ts"].tolist() == [pd.Timestamp(at(50)), pd.Timestamp(at(51))]
        assert (counts.labels, counts.joined, counts.unknown, counts.unreadable) == (3, 2, 1, 1)

    def test_the_last_word_holds_and_a_repeated_one_is_none(self, predictions, join):
        frame, counts = join(
            predictions(record(1), record(2)),
            sent(50, 1, request_id="r1"),
            sent(60, 0, request_id="r1"),
            sent(50, 1, request_id="r1", received_at=at(70).isoformat()),
            sent(61, 0, request_id="r2"),
            sent(62, 1, entity_id="e2", event_ts=at(5).isoformat()),
        )
        assert frame["label"].tolist() == [0, 0]
        assert (counts.labels, counts.corrected) == (4, 1)

    def test_words_make_all_labels_text(self, predictions, join):
        frame, _ = join(
            predictions(record(1), record(2)),
            sent(50, "late", request_id="r1"),
            sent(51, 0, request_id="r2"),
        )
        assert frame["label"].tolist() == ["late", "0.0"]

    def test_nothing_sent_is_no_label(self, predictions, join):
        frame, counts = join(predictions(record(1)))
        assert (frame, counts.predictions, counts.labelled) == (None, 1, 0)

    def test_a_file_that_is_no_feedback_is_refused(self, predictions, join):
        with pytest.raises(DataError, match="is a record of a feedback log"):
            join(predictions(record(1)), record(1), record(2))

    def test_segments_are_read_once(self, predictions, join, tmp_path):
        batch = predictions(record(1))
        join(batch, sent(50, 1, request_id="r1"))
        segment = tmp_path / "sent" / "a.jsonl"
        segment.write_text(" " * segment.stat().st_size)
        write_segment(tmp_path / "sent", "b", [sent(51, 0, request_id="r1")])
        frame, _ = join(batch)
        assert frame["label"].tolist() == [0]
        kept = tmp_path / "ws/predictions/flights/feedback"
        assert len(list(kept.iterdir())) == 2

    @pytest.mark.parametrize("call", ["mv", "_open"])
    @pytest.mark.parametrize("nth", range(5))
    def test_a_kill_at_any_point_leaves_what_the_next_join_needs(
        self, predictions, join, tmp_path, monkeypatch, call, nth
    ):
        batch = predictions(record(1), record(2))
        join(batch, sent(50, 1, request_id="r1"))
        write_segment(tmp_path / "sent", "b", [sent(51, 0, request_id="r2")], "torn")
        with monkeypatch.context() as patch, suppress(Killed):
            kill_at(patch, call, "after", nth)
            join(batch)
        frame, counts = join(batch)
        assert frame["label"].tolist() == [1, 0]
        assert (counts.labels, counts.repeated, counts.unreadable) == (2, 0, 1)
