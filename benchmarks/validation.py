"""Our gate against calling Great Expectations directly, on the same frame with the same suite."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
from great_expectations.data_context.types.base import ProgressBarsConfig

from airflow_mlops_provider.steps.suites import load_suite
from airflow_mlops_provider.steps.validate import validate
from benchmarks import Measure, in_turns

RATIO = 1.1


def run(quick: bool) -> list[Measure]:
    """Compare seconds on 20 mixed columns and 10 expectations, of 1M rows (quick: 200k)."""
    rows, n = (200_000, 5) if quick else (1_000_000, 7)
    frame, suite = mixed(rows), load_suite({"name": "mixed", "expectations": expectations()})
    with tempfile.TemporaryDirectory() as workspace:

        def ours() -> float:
            start = time.perf_counter()
            report = validate(frame, suite, suite_name="mixed", workspace=workspace).report
            assert report.outcome == "passed"
            return time.perf_counter() - start

        def theirs() -> float:
            start = time.perf_counter()
            assert direct(frame, suite).success
            return time.perf_counter() - start

        in_turns(1, ours, theirs)  # warms both up
        seconds = in_turns(n, ours, theirs)
    goal = f"ours <= {RATIO} x Great Expectations called directly"
    holds = seconds[0] <= RATIO * seconds[1]
    name = f"validation: {rows:,} x 20"
    return [Measure(name, *seconds, "s", goal, holds, n)]


def direct(frame: pd.DataFrame, suite: dict[str, Any]) -> Any:
    """Validate as the documentation of Great Expectations does."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("p").add_dataframe_asset("a")
    definition = asset.add_batch_definition_whole_dataframe("b")
    batch = definition.get_batch(batch_parameters={"dataframe": frame})
    return batch.validate(gx.ExpectationSuite(**suite), result_format="SUMMARY")


def mixed(rows: int) -> pd.DataFrame:
    """Return 8 columns of floats, 5 of integers, 4 of texts, 2 of booleans and one of times."""
    rng = np.random.default_rng(0)
    texts = np.array([f"level {number}" for number in range(50)], dtype=object)
    columns: dict[str, Any] = {f"float{i}": rng.normal(size=rows) for i in range(8)}
    columns |= {f"int{i}": rng.integers(0, 100, rows) for i in range(5)}
    columns |= {f"text{i}": rng.choice(texts, rows) for i in range(4)}
    columns |= {f"bool{i}": rng.random(rows) < 0.5 for i in range(2)}
    columns["time"] = pd.date_range("2020-01-01", periods=rows, freq="s", tz="UTC")
    return pd.DataFrame(columns)


def expectations() -> list[dict[str, Any]]:
    """Return 10 expectations that hold: of schema, nulls, ranges, sets, statistics and rows."""
    levels = [f"level {number}" for number in range(50)]
    known = {
        "expect_table_columns_to_match_set": [{"column_set": list(mixed(1))}],
        "expect_table_row_count_to_be_between": [{"min_value": 1}],
        "expect_column_values_to_not_be_null": [{"column": "float0"}, {"column": "text0"}],
        "expect_column_values_to_be_of_type": [{"column": "int0", "type_": "int64"}],
        "expect_column_values_to_be_between": [
            {"column": "int0", "min_value": 0, "max_value": 99},
            {"column": "float1", "min_value": -10, "max_value": 10},
        ],
        "expect_column_values_to_be_in_set": [{"column": "text1", "value_set": levels}],
        "expect_column_mean_to_be_between": [
            {"column": "float2", "min_value": -0.1, "max_value": 0.1}
        ],
        "expect_column_median_to_be_between": [
            {"column": "int1", "min_value": 45, "max_value": 55}
        ],
    }
    return [
        {"type": kind, "kwargs": kwargs, "severity": "critical"}
        for kind, each in known.items()
        for kwargs in each
    ]
