from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from airflow_mlops_provider.steps.split import split_dataset

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef

START = pd.Timestamp("2013-01-01", tz="UTC")


def dataset(workspace: Path, **columns: object) -> DatasetRef:
    frame = pd.DataFrame(columns)
    return write_dataset(
        frame.assign(row=range(len(frame))), "d", str(workspace), "test", window_start=START
    )


def parts(ref: DatasetRef, workspace: Path, **arguments: Any) -> list[pd.DataFrame]:
    split = split_dataset(
        ref, **{"seed": 0, "test_size": 0.25, "workspace": str(workspace), **arguments}
    )
    return [read_dataset(split.train), read_dataset(split.test)]


def test_time_split_takes_the_newest_rows(tmp_path: Path) -> None:
    ref = dataset(tmp_path, at=[START + pd.Timedelta(days=day) for day in (3, 0, 2, 1)])
    train, test = parts(ref, tmp_path, strategy="time", column="at")
    assert train["row"].tolist() == [1, 2, 3]
    assert test["row"].tolist() == [0]


def test_stratified_split_keeps_the_shares(tmp_path: Path) -> None:
    ref = dataset(tmp_path, late=[0] * 60 + [1] * 20)
    for part in parts(ref, tmp_path, strategy="stratified", column="late"):
        assert part["late"].mean() == pytest.approx(0.25)


def test_the_same_seed_gives_the_same_files_and_names_them(tmp_path: Path) -> None:
    ref = dataset(tmp_path, late=[0, 1] * 20)
    one, same, other = (
        split_dataset(
            ref,
            strategy="stratified",
            column="late",
            test_size=0.25,
            seed=seed,
            workspace=str(tmp_path),
        )
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one.test.logical_hash != other.test.logical_hash
    assert (one.train.name, one.test.name) == ("d-train", "d-test")
    assert one.train.window_start == ref.window_start
    assert one.train.source == ref.uri


def test_nullable_integers_keep_their_type(tmp_path: Path) -> None:
    ref = dataset(tmp_path, at=range(4), n=pd.array([1, None, 3, None], dtype="Int64"))
    split = split_dataset(
        ref, strategy="time", column="at", test_size=0.5, seed=0, workspace=str(tmp_path)
    )
    assert split.test.columns == ref.columns


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.integers(0, 8), min_size=6, max_size=40).filter(lambda v: len(set(v)) > 2),
    st.sampled_from(["time", "group"]),
    st.floats(0.2, 0.6),
)
def test_parts_are_a_partition_that_shares_no_value(
    tmp_path: Path, values: list[int], strategy: str, test_size: float
) -> None:
    ref = dataset(tmp_path, key=values)
    train, test = parts(ref, tmp_path, strategy=strategy, column="key", test_size=test_size)
    assert sorted([*train["row"], *test["row"]]) == list(range(len(values)))
    assert not set(train["key"]) & set(test["key"])
    if strategy == "time":
        assert train["key"].max() < test["key"].min()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strategy": "random"}, ParameterError, "one of.*'random'"),
        ({"test_size": 1.0}, ParameterError, "test_size.*between 0 and 1"),
        ({"column": "nonsense"}, DataError, "no column.*nonsense"),
        ({"column": "holes"}, DataError, "'holes'.*1 missing"),
        ({"column": "same"}, DataError, "all rows have the value"),
        ({"column": "same", "strategy": "group"}, DataError, "by group on 'same'"),
        ({"column": "row", "strategy": "stratified"}, DataError, "by stratified on 'row'"),
    ],
)
def test_what_cannot_be_split_is_named(
    tmp_path: Path, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    ref = dataset(tmp_path, same=[1.0] * 4, holes=[1.0, 2.0, None, 3.0])
    with pytest.raises(error, match=message):
        parts(ref, tmp_path, **{"strategy": "time", "column": "row", **arguments})
    assert not list(tmp_path.glob("datasets/d-t*"))
