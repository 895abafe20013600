from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps import windows
from airflow_mlops_provider.steps.drift import history
from airflow_mlops_provider.steps.drift.history import find_drift, publish_check
from airflow_mlops_provider.workspace import read_json, write_bytes
from tests.drift_reports import drift_report

NOON = datetime(2013, 7, 1, 12, tzinfo=UTC)
VERDICTS = ["drifted", "stable", "insufficient_data"]


def publish(workspace, window, verdict="drifted", consecutive=2, checked_at=NOON, name="flights"):
    return publish_check(
        drift_report(verdict),
        name=name,
        workspace=workspace,
        window=window,
        consecutive=consecutive,
        checked_at=checked_at,
    )


def publish_all(workspace, verdicts):
    days = [f"2013-07-{day:02}" for day in range(1, len(verdicts) + 1)]
    return [publish(workspace, *each) for each in zip(days, verdicts, strict=True)]


def stored(workspace, name="flights"):
    return sorted(Path(workspace, "reports", "drift", name).iterdir())


@pytest.mark.parametrize(
    ("verdicts", "streaks", "retrain"),
    [
        (["drifted"], [1], [False]),
        (["drifted"] * 3, [1, 2, 3], [False, True, True]),
        (["drifted", "stable", "drifted"], [1, 0, 1], [False] * 3),
        (["drifted", "insufficient_data", "drifted"], [1, 1, 2], [False, False, True]),
        (["drifted", "drifted", "insufficient_data"], [1, 2, 2], [False, True, False]),
        (["insufficient_data", "stable"], [0, 0], [False] * 2),
    ],
)
def test_windows_in_a_row_ask_for_retraining(workspace, verdicts, streaks, retrain):
    reports = publish_all(workspace, verdicts)
    assert [report.streak for report in reports] == streaks
    assert [report.retrain for report in reports] == retrain


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.sampled_from(VERDICTS)), max_size=14))
def test_a_streak_counts_what_is_known_when_a_window_is_checked(checks):
    known = {}
    with TemporaryDirectory() as workspace:
        for hour, verdict in checks:
            known[hour] = verdict
            told = [known[each] for each in sorted(known) if each <= hour]
            conclusive = [each for each in told if each != "insufficient_data"]
            streak = 0
            while conclusive and conclusive.pop() == "drifted":
                streak += 1
            window = (NOON + timedelta(hours=hour)).isoformat()
            assert publish(workspace, window, verdict).streak == streak
        assert len(known) == (len(stored(workspace)) if checks else 0)


@pytest.mark.parametrize(
    "window",
    ["2013-07-01T12:00:00+00:00", "2013-07-01 12:00:00", "2013-07-01T14:00:00+02:00"],
)
def test_a_window_is_checked_once_however_its_end_is_written(workspace, window):
    publish(workspace, "2013-07-01T12:00:00Z")
    again = publish(workspace, window, "stable")
    assert [again.report_uri] == [str(path) for path in stored(workspace)]
    assert read_json(again.report_uri)["report"] == again.to_xcom()


def test_without_a_window_the_time_of_the_check_is_its_end(workspace):
    publish(workspace, None)
    assert publish(workspace, None, checked_at=NOON + timedelta(hours=1)).streak == 2
    assert publish(workspace, "2013-07-01T12:30").streak == 2


def test_names_have_nothing_to_do_with_each_other(workspace):
    publish(workspace, "2013-07-01", name="trains")
    assert publish(workspace, "2013-07-02").streak == 1
    assert find_drift(workspace, "trains") is None


def test_an_older_window_changes_newer_ones_only_when_they_are_checked_again(workspace):
    publish(workspace, "2013-07-01")
    second = publish(workspace, "2013-07-03")
    assert second.retrain
    publish(workspace, "2013-07-02", "stable")
    assert find_drift(workspace, "flights") == second
    assert publish(workspace, "2013-07-03").streak == 1
    assert find_drift(workspace, "flights") is None


@pytest.mark.parametrize(
    ("verdicts", "found"),
    [
        ([], False),
        (["drifted"], False),
        (["drifted"] * 2, True),
        (["drifted", "drifted", "stable"], False),
        (["drifted", "drifted", "insufficient_data"], True),
        (["insufficient_data"], False),
    ],
)
def test_only_the_newest_window_that_says_something_is_found(workspace, verdicts, found):
    reports = publish_all(workspace, verdicts)
    expected = reports[1] if found else None
    assert find_drift(workspace, "flights") == expected


@pytest.mark.parametrize(
    ("since", "found"),
    [
        ("2013-07-01T11:59:59", True),
        ("2013-07-01T12:00:00+00:00", False),
        ("2013-07-01T13:00:00+02:00", True),
        ("", True),
    ],
)
def test_a_check_that_was_already_known_is_old_news(workspace, since, found):
    report = publish(workspace, "2013-06-30", consecutive=1)
    assert find_drift(workspace, "flights", newer_than=since) == (report if found else None)


def test_the_oldest_windows_go_but_never_the_one_just_checked(workspace, monkeypatch):
    monkeypatch.setattr(windows, "MAX_WINDOWS", 2)
    publish_all(workspace, ["drifted"] * 3)
    assert [path.name[:8] for path in stored(workspace)] == ["20130702", "20130703"]
    older = publish(workspace, "2013-06-01")
    assert older.report_uri in [str(path) for path in stored(workspace)]


def test_a_streak_is_counted_up_to_a_limit(workspace, monkeypatch):
    monkeypatch.setattr(history, "MAX_STREAK", 3)
    assert [report.streak for report in publish_all(workspace, ["drifted"] * 5)] == [1, 2, 3, 3, 3]


def test_rivals_leave_whole_checks_and_nothing_else(workspace):
    windows = [(NOON + timedelta(hours=hour % 4)).isoformat() for hour in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda window: publish(workspace, window), windows))
    assert [read_json(str(path))["report"]["verdict"] for path in stored(workspace)] == (
        ["drifted"] * 4
    )
    assert publish(workspace, windows[3]).streak == 4


def test_the_history_may_lie_in_an_object_store():
    workspace = "memory://drift-history"
    first, second = publish_all(workspace, ["drifted"] * 2)
    assert (first.streak, second.streak) == (1, 2)
    assert find_drift(workspace, "flights") == second


@pytest.mark.parametrize("content", [b"[1]", b"", b"\xff"])
def test_a_file_of_somebody_else_is_named(workspace, content):
    uri = publish(workspace, "2013-07-01").report_uri
    write_bytes(uri, content)
    with pytest.raises(DataError, match=r"20130701.* is no drift check"):
        find_drift(workspace, "flights")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"name": "../flights"}, "name"),
        ({"window": "noon"}, "window"),
        ({"consecutive": 0}, "consecutive"),
        ({"consecutive": 101}, "consecutive"),
    ],
)
def test_a_parameter_out_of_range_is_named(workspace, changes, name):
    with pytest.raises(ParameterError, match=f"The {name} parameter"):
        publish(workspace, **{"window": "2013-07-01", **changes})


def test_the_time_from_which_on_checks_count_is_a_time(workspace):
    with pytest.raises(ParameterError, match="The newer_than parameter"):
        find_drift(workspace, "flights", newer_than="noon")
