from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.steps.behaviour import asking, engine
from tests.unit.steps.behaviour.conftest import rows_of

FINITE = st.floats(-1e6, 1e6)
QUICK = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def by_x(frame):
    return frame["x"].to_numpy(dtype=float)


def by_word(frame):
    return (frame["word"] == "B").to_numpy(dtype=float)


def classes(frame):
    """Three classes, by the sign of x."""
    x = frame["x"].to_numpy(dtype=float)
    return np.column_stack([x < -0.5, np.abs(x) <= 0.5, x > 0.5]).astype(float)


def refusing_null(frame):
    if frame["y"].isna().any():
        raise ValueError("y is null")
    return by_x(frame)


ADD = {"add": {"feature": "x", "value": 1.0}}
SHUFFLE_Y = {"permute": {"feature": "y"}}


@pytest.mark.parametrize(
    ("function", "test", "outcome"),
    [
        (by_x, {"kind": "invariance", "transform": SHUFFLE_Y}, "passed"),
        (by_x, {"kind": "invariance", "transform": ADD}, "failed"),
        (by_x, {"kind": "invariance", "transform": ADD, "tolerance": 1.001}, "passed"),
        (by_word, {"kind": "invariance", "transform": {"upper": {"feature": "word"}}}, "passed"),
        (by_word, {"kind": "invariance", "transform": {"lower": {"feature": "word"}}}, "failed"),
        (by_x, {"kind": "metamorphic", "transform": ADD, "relation": "higher"}, "passed"),
        (by_x, {"kind": "metamorphic", "transform": ADD, "relation": "lower"}, "failed"),
        (by_x, {"kind": "metamorphic", "transform": SHUFFLE_Y, "relation": "higher"}, "failed"),
        (by_x, {"kind": "metamorphic", "transform": ADD, "relation": "answered"}, "passed"),
        (by_x, {"kind": "metamorphic", "transform": ADD, "relation": "same_decision"}, "failed"),
        (by_x, {"kind": "directional", "feature": "x", "by": [-1, 2]}, "passed"),
        (by_x, {"kind": "directional", "feature": "x", "by": 1, "direction": "down"}, "failed"),
        (by_x, {"kind": "directional", "feature": "x", "to": [-3, 0, 3]}, "passed"),
        (by_word, {"kind": "directional", "feature": "word", "to": ["a", "B"]}, "passed"),
        (by_word, {"kind": "directional", "feature": "word", "to": ["B", "a"]}, "failed"),
        (lambda f: by_x(f) ** 2, {"kind": "directional", "feature": "x", "by": [1, 2]}, "failed"),
        (by_x, {"kind": "missing"}, "failed"),
        (by_word, {"kind": "missing"}, "passed"),
        (by_word, {"kind": "missing", "tolerance": 0.5}, "failed"),
        (refusing_null, {"kind": "missing", "features": ["y"]}, "failed"),
        (refusing_null, {"kind": "missing", "features": ["steps", "word"]}, "passed"),
        (by_x, {"kind": "noise", "size": 0.001, "max_failure_rate": 0.05}, "passed"),
        (by_x, {"kind": "noise", "size": 5}, "failed"),
        (by_x, {"kind": "noise", "features": ["y", "steps"], "size": 5}, "passed"),
        (by_x, {"kind": "noise", "size": 0.1, "tolerance": 1}, "passed"),
        (by_x, {"kind": "noise", "tolerance": 9, "size": 0.5, "max_mean_shift": 0}, "failed"),
        (by_x, {"kind": "range", "box": {"x": {"low": 0, "high": 1}}, "low": 0}, "passed"),
        (by_x, {"kind": "range", "box": {"x": {"low": 0, "high": 1}}, "high": 0.9}, "failed"),
        (by_word, {"kind": "range", "box": {"word": ["a", "B"]}, "high": 0.5}, "failed"),
        (by_word, {"kind": "range", "box": {"word": ["a", "b", None]}, "high": 0.5}, "passed"),
    ],
)
def test_each_kind_tells_a_sound_model_from_another(tried, function, test, outcome):
    assert tried(function, **test).outcome == outcome


@pytest.mark.parametrize(
    ("inputs", "expected", "failures"),
    [
        ({"x": 2.0}, 2.0, 0),
        ({"x": 2.0}, 2.5, 30),
        ({"x": 2.0}, {"low": 1, "high": 3}, 0),
        ({"x": 2.0}, {"high": 1}, 30),
        ({"x": 2.0}, {"class": 1}, 0),
        ({"x": None}, {"low": 0}, 30),
        ({"x": 2.0, "y": 0.0, "steps": 1, "word": "a"}, {"class": 0}, 1),
    ],
)
def test_known_rows_are_tried_with_whatever_they_leave_out(tried, inputs, expected, failures):
    rows = [{"inputs": inputs, "expected": expected}]
    result = tried(by_x, kind="minimum_functionality", rows=rows, n=30)
    assert result.failures == failures
    assert result.n == (1 if len(inputs) == 4 else 30)
    assert result.rate_high is None


@pytest.mark.parametrize(("of", "outcome"), [(0, "passed"), (None, "failed"), (-1, "failed")])
def test_of_several_classes_the_last_counts_or_the_one_declared(tried, of, outcome):
    data = pd.DataFrame({"x": [-1.0, 0.0, 1.0]})
    given = [{"inputs": {"x": -2.0}, "expected": 1.0}]
    result = tried(classes, data, kind="minimum_functionality", of=of, rows=given)
    assert result.outcome == outcome


def test_the_likeliest_of_several_classes_is_the_decision(tried):
    data = pd.DataFrame({"x": np.linspace(-2, 2, 40)})
    given = [{"inputs": {"x": x}, "expected": {"class": k}} for x, k in ((-2, 0), (0, 1), (2, 2))]
    assert tried(classes, data, kind="minimum_functionality", rows=given).failures == 0
    shift = {"add": {"feature": "x", "value": 0.5}}
    moved = tried(classes, data, kind="metamorphic", transform=shift, relation="same_decision")
    assert 0 < moved.failures < 40


def test_one_number_a_row_has_no_class_to_choose(tried):
    result = tried(by_x, kind="missing", of=0)
    assert (result.outcome, result.n) == ("errored", 0)
    assert "leave it out" in result.detail


def test_rows_that_a_change_leaves_as_they_are_do_not_count(tried):
    swap = {"replace": {"feature": "word", "values": {"a": "B"}}}
    result = tried(by_word, kind="invariance", transform=swap, max_failure_rate=0.99)
    n = int((rows_of()["word"] == "a").sum())
    assert (result.outcome, result.n, result.failures) == ("failed", n, n)
    assert result.rate_high == 1.0


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ({"transform": {"replace": {"feature": "word", "values": {"z": "B"}}}}, "changes none"),
        ({"transform": {"add": {"feature": "z", "value": 1}}}, r"columns \['z'\]"),
        ({"transform": {"add": {"feature": "word", "value": 1}}}, "TypeError"),
        ({"transform": lambda frame: frame.head(1)}, "a frame of 50 rows"),
        ({"transform": lambda frame: frame["x"]}, "got Series"),
        ({"transform": lambda frame: frame[["x"]]}, "Expected columns"),
        ({"transform": lambda frame: 1 / 0}, "ZeroDivisionError"),
        ({"transform": {"swap": {"features": ["x"]}}}, "two columns"),
        ({"transform": ADD, "relation": lambda before, after: after}, "True or False"),
        ({"transform": ADD, "relation": lambda before, after: True}, "each of 50 rows"),
    ],
)
def test_a_test_that_cannot_be_run_is_told_from_one_that_failed(tried, test, said):
    result = tried(by_x, **{"kind": "metamorphic", "relation": "same", **test})
    assert (result.outcome, result.n, result.rate) == ("errored", 0, None)
    assert pd.Series([result.detail]).str.contains(said).all(), result.detail


@pytest.mark.parametrize(
    ("function", "failures"),
    [
        (lambda f: np.where(f["x"] > 5, np.nan, 0.5), 7),
        (lambda f: np.where(f["x"] > 5, np.inf, 0.5), 7),
        (lambda f: 1 / 0 if (f["x"] > 5).any() else np.full(len(f), 0.5), 7),
        (lambda f: np.zeros(101) if (f["x"] > 5).any() else np.full(len(f), 0.5), 7),
        (lambda f: 1 / 0, 100),
    ],
    ids=["NaN", "infinite", "raised", "too few", "never"],
)
def test_rows_without_a_finite_answer_fail(tried, function, failures):
    data = pd.DataFrame({"x": np.linspace(-1, 1, 100)})
    jump = lambda frame: frame.assign(x=np.where(frame.index < 7, 9.0, frame["x"] + 1e-3))  # noqa: E731
    result = tried(function, data, kind="metamorphic", transform=jump, relation="not_lower")
    assert (result.outcome, result.failures) == ("failed", failures)
    assert all(each.after is None for each in result.counterexamples)


def test_what_a_model_raised_stands_in_the_counterexample(tried):
    result = tried(refusing_null, kind="missing", features=["y"])
    assert result.failures == result.n == 50
    assert "got ValueError: y is null" in result.counterexamples[0].note
    assert result.counterexamples[0].changed == {"y": "null"}


def test_a_model_that_refuses_much_is_not_asked_for_ever(tried, monkeypatch):
    monkeypatch.setattr(asking, "_MAX_IN_VAIN", 10)
    result = tried(lambda frame: 1 / 0, rows_of(1_000), kind="missing")
    assert result.failures == 1_000
    assert len(tried.calls) < 100


def test_changes_go_to_the_model_together(tried):
    tried(by_x, kind="directional", feature="x", by=[-2, -1, 1, 2])
    assert tried.calls == [5 * 50]


def test_memory_is_bounded_by_asking_in_pieces(tried, monkeypatch):
    for module in (asking, engine):
        monkeypatch.setattr(module, "CHUNK_ROWS", 120)
    whole = {"kind": "directional", "feature": "x", "by": [-2, -1, 1, 2]}
    function = lambda frame: np.sin(by_x(frame))  # noqa: E731
    result = tried(function, **whole)
    assert max(tried.calls) <= 120
    monkeypatch.undo()
    assert tried(function, **whole) == result


def test_counterexamples_are_the_worst_few_and_short(tried):
    data = rows_of(500).assign(word="w" * 1_000)
    result = tried(
        by_x, data, kind="invariance", transform={"scale": {"feature": "x", "factor": 2}}
    )
    moves = [abs(each.after - each.before) for each in result.counterexamples]
    assert len(moves) == 5
    assert moves == sorted(moves, reverse=True)
    assert moves[0] == pytest.approx(data["x"].abs().max())
    first = result.counterexamples[0]
    assert list(first.inputs) == ["x", "y", "steps", "word"]
    assert first.changed == {"x": str(2 * float(first.inputs["x"]))}
    assert first.inputs["word"] == "w" * 80


def test_the_interval_is_that_of_clopper_and_pearson(tried):
    result = tried(by_x, rows_of(100), kind="invariance", transform=SHUFFLE_Y)
    assert (result.rate, result.rate_high) == (0.0, pytest.approx(1 - 0.05 ** (1 / result.n)))


@pytest.mark.parametrize("kind", ["invariance", "noise", "range"])
def test_the_same_seed_gives_the_same_result(tried, kind):
    test = {
        "invariance": {"transform": {"permute": {"feature": "x"}}},
        "noise": {"size": 1.0},
        "range": {"box": {"x": {"low": -1, "high": 1}}, "low": -0.5},
    }[kind]
    assert tried(by_x, kind=kind, seed=3, **test) == tried(by_x, kind=kind, seed=3, **test)
    assert tried(by_x, kind=kind, seed=3, **test) != tried(by_x, kind=kind, seed=4, **test)


@QUICK
@given(
    st.lists(FINITE, min_size=1, max_size=20), st.sampled_from(["same", "not_lower", "answered"])
)
def test_what_changes_nothing_never_fails(tried, xs, relation):
    data = pd.DataFrame({"x": xs})
    same = {"kind": "metamorphic", "transform": "identity", "relation": relation}
    assert tried(lambda frame: np.sin(by_x(frame)), data, **same).outcome == "passed"


@QUICK
@given(
    st.lists(FINITE, min_size=1, max_size=20),
    st.lists(st.floats(-100, 100).filter(lambda by: abs(by) > 1e-3), min_size=1, max_size=4),
    st.floats(0.1, 10),
)
def test_a_monotone_model_goes_one_way_and_its_negation_the_other(tried, xs, by, slope):
    data = pd.DataFrame({"x": xs})
    test = {"kind": "directional", "feature": "x", "by": by}
    assert tried(lambda frame: slope * by_x(frame), data, **test).outcome == "passed"
    assert tried(lambda frame: -slope * by_x(frame), data, **test).failures == len(xs)
    down = {**test, "direction": "down"}
    assert tried(lambda frame: -slope * by_x(frame), data, **down).outcome == "passed"


@QUICK
@given(st.floats(0.02, 0.98), st.floats(0.02, 0.98), st.integers(0, 100))
def test_a_known_pit_in_a_box_is_found(tried, x, y, seed):
    """The pit covers 0.03 % of the box: 100 points alone would find it once in thirty."""

    def pit(frame):
        return np.hypot(frame["x"] - x, frame["y"] - y).to_numpy()

    box = {"x": {"low": 0, "high": 1}, "y": {"low": 0, "high": 1}}
    result = tried(pit, kind="range", box=box, low=0.01, n=100, refine=6, seed=seed)
    assert result.failures > 0
    worst = result.counterexamples[0]
    assert worst.after < 0.01
    assert np.hypot(float(worst.inputs["x"]) - x, float(worst.inputs["y"]) - y) < 0.01


def test_corners_of_a_box_are_tried(tried):
    box = {name: {"low": 0, "high": 1} for name in ("x", "y")}
    result = tried(
        lambda f: np.where((f["x"] >= 1 - 1e-9) & (f["y"] <= 0), 2.0, 0.5),
        kind="range",
        box=box,
        high=1,
        refine=0,
    )
    assert result.failures == 1


def test_a_box_holds_steps_lists_and_what_the_data_has(tried):
    asked = []

    def remember(frame):
        asked.append(frame)
        return np.zeros(len(frame))

    box = {"steps": {"low": 1, "high": 9, "step": 2}, "word": ["p", "q"], "x": [1, 2]}
    assert tried(remember, kind="range", box=box, low=0).outcome == "passed"
    frame = pd.concat(asked)
    assert set(frame["steps"]) == {1, 3, 5, 7, 9}
    assert set(frame["word"]) == {"p", "q"}
    assert set(frame["x"]) == {1, 2}
    assert set(frame["y"]) <= set(rows_of()["y"])


def test_a_relation_is_searched_for_in_a_box(tried):
    box = {"x": {"low": -2, "high": 2}}
    test = {"kind": "range", "box": box, "transform": ADD, "relation": "not_lower"}
    assert tried(by_x, **test).outcome == "passed"
    result = tried(lambda frame: by_x(frame) ** 2, **test)
    assert result.outcome == "failed"
    worst = result.counterexamples[0]
    assert float(worst.inputs["x"]) == pytest.approx(-2, abs=1e-6)
    assert float(worst.changed["x"]) == pytest.approx(-1, abs=1e-6)


def test_a_side_that_is_no_feature_is_an_error(tried):
    result = tried(by_x, kind="range", box={"z": [1]}, low=0)
    assert result.outcome == "errored"
    assert "'z'" in result.detail
