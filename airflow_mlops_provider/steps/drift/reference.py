"""Make the profile of reference data.

Numbers and times are counted in fine cells: 250 quantiles, and beyond the range steps that
double from a quarter of a standard deviation on. The ten bins of the PSI are cut at the deciles.
A value that fills two quantiles in a row has a cell of its own, one that fills two deciles a bin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.steps.drift.cells import TOP, Cells, tally
from airflow_mlops_provider.steps.drift.levels import count_levels
from airflow_mlops_provider.steps.drift.profile import VERSION, DriftProfile, FeatureProfile
from airflow_mlops_provider.steps.drift.rows import (
    LARGEST,
    Rows,
    kind_of,
    numbers,
    sample_of,
)
from airflow_mlops_provider.steps.sources import parts_of, require_columns
from airflow_mlops_provider.workspace import join, store_by_content, write_json

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from airflow_mlops_provider.records import DatasetRef

    Floats = NDArray[np.float64]

MAX_LEVELS = 10_000
_BINS, _CELLS = 10, 250
_BEYOND = 0.25 * 2.0 ** np.arange(20)
"""Edges outside of the reference's range, in its standard deviations."""
_CHUNK = 1 << 20


def profile_dataset(
    dataset: DatasetRef,
    columns: Sequence[str] | None,
    workspace: str,
    *,
    segments: Sequence[str] = (),
    sample_rows: int = 0,
) -> str:
    """Keep what later data is compared with; return the URI of the JSON profile.

    The same rows give the same URI whatever their order. Memory: twice the 8 bytes a row of one
    column at a time (of texts, 16 bytes for each distinct one), and 8 bytes a row for a sample.

    Args:
        dataset: The reference, usually what a model was trained on.
        columns: Columns of numbers, booleans, texts or times; None takes all of these but times,
            for the times of a moving window always drift.
        workspace: The profile lies under ``profiles/``, named by its content.
        segments: Columns whose 20 commonest values are later looked at one by one.
        sample_rows: How many rows are kept as they are, for a domain classifier; 5,000 do.

    Raises:
        DataError: the dataset is gone, broken or empty, a column is unknown, or holds something
            else (nested values, say).
        ParameterError: ``sample_rows`` is negative.
    """
    if sample_rows < 0:
        raise ParameterError.of("sample_rows", "profile_dataset", "at least 0", sample_rows)
    parts = parts_of(dataset.uri)
    schema = parts[0].schema
    chosen = _chosen(schema, columns, segments, dataset.uri)
    return profile_rows(
        Rows(dataset.uri, parts),
        {name: schema.field(name).type for name in chosen},
        workspace,
        source=dataset.logical_hash,
        segments=segments,
        sample_rows=sample_rows,
    )


def profile_rows(
    rows: Rows,
    columns: Mapping[str, pa.DataType],
    workspace: str,
    *,
    source: str,
    segments: Sequence[str] = (),
    sample_rows: int = 0,
) -> str:
    """Keep the profile of columns whose types are known; see :func:`profile_dataset`.

    Raises:
        DataError: there are no rows.
    """
    features = {name: profile_column(rows, name, kind) for name, kind in columns.items()}
    n = sum(next(iter(features.values())).counts)
    if not n:
        raise DataError(f"{rows.uri} has no rows to profile. Check the step that wrote it.")
    folder = join(workspace, "profiles")
    profile = DriftProfile(
        version=VERSION,
        n=n,
        source=source,
        features=features,
        segments=_segments(rows, features, segments),
        sample_uri=_keep_sample(rows, [*columns], sample_rows, folder) if sample_rows else None,
    ).to_xcom()
    return store_by_content(folder, ".json", lambda target: write_json(target, profile))[0]


def _chosen(
    schema: pa.Schema, columns: Sequence[str] | None, segments: Sequence[str], uri: str
) -> list[str]:
    named = [*(columns or ()), *segments]
    require_columns(schema.names, named, uri)
    kinds = {field.name: kind_of(field.type) for field in schema}
    unfit = [name for name in named if kinds[name] is None]
    if unfit:
        raise DataError(
            f"Column {unfit[0]!r} has type {schema.field(unfit[0]).type}, and only numbers, "
            "booleans, texts and times have a drift profile. Leave it out."
        )
    by_default = [name for name, kind in kinds.items() if kind not in (None, "datetime")]
    chosen = by_default if columns is None else list(dict.fromkeys(columns))
    if not chosen:
        raise DataError(f"{uri} has no column of numbers, booleans or texts. Name its columns.")
    return chosen


def profile_column(rows: Rows, name: str, type_: pa.DataType) -> FeatureProfile:
    """Return the distribution of one column of an Arrow type that has one."""
    kind = kind_of(type_)
    assert kind is not None, "_chosen lets no other column through"
    if kind == "categorical":
        levels, counts = count_levels(rows, name, MAX_LEVELS)
        return FeatureProfile(kind=kind, type=str(type_), levels=levels, counts=counts)
    values = np.concatenate([np.empty(0), *(numbers(array) for array in rows.column(name))])
    values.sort()  # whatever the order of the rows, sums are now the same; NaN is last
    known = values[: len(values) - np.isnan(values).sum()]
    finite = known[known.searchsorted(-LARGEST, "right") : known.searchsorted(LARGEST, "left")]
    mean, std = _moments(finite)
    bins = _quantile_edges(known, _BINS)
    edges = np.unique([*bins, *_quantile_edges(known, _CELLS), *_outer_edges(finite, std)])
    below = known.searchsorted(edges, "right")
    return FeatureProfile(
        kind=kind,
        type=str(type_),
        counts=[*np.diff([0, *below, len(known)]).tolist(), len(values) - len(known)],
        edges=edges.tolist(),
        bins=bins.tolist(),
        std=std,
        mean=mean,
        minimum=float(finite[0]) if len(finite) else None,
        maximum=float(finite[-1]) if len(finite) else None,
    )


def _quantile_edges(known: Floats, cells: int) -> Floats:
    """Cut sorted values into equal parts; a value that is cut twice has a part of its own."""
    if not len(known):
        return np.empty(0)
    places = np.ceil(np.arange(1, cells) / cells * len(known)).astype(int) - 1
    edges, times = np.unique(known[places], return_counts=True)
    before = np.nextafter(edges[times > 1], -LARGEST)
    return np.union1d(edges, before)


def _outer_edges(finite: Floats, std: float | None) -> Floats:
    if not std:
        return finite[[0, -1]] if len(finite) else finite
    with np.errstate(over="ignore"):
        beyond = np.concatenate([finite[0] - std * _BEYOND, finite[-1] + std * _BEYOND])
    edges = [np.nextafter(finite[0], -LARGEST), finite[-1], *beyond]
    return np.asarray(np.clip(edges, -LARGEST, LARGEST))


def _moments(finite: Floats) -> tuple[float | None, float | None]:
    """Return mean and standard deviation, a chunk at a time; None if they overflow."""
    if not len(finite):
        return None, None
    if finite[0] == finite[-1]:
        return float(finite[0]), 0.0
    chunks = np.array_split(finite, len(finite) // _CHUNK + 1)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(chunk.sum() for chunk in chunks) / len(finite)
        variance = sum(((chunk - mean) ** 2).sum() for chunk in chunks) / len(finite)
    if not np.isfinite(variance):
        return None, None
    return float(mean), float(np.sqrt(variance))


def _segments(
    rows: Rows, features: dict[str, FeatureProfile], columns: Sequence[str]
) -> dict[str, dict[str, dict[str, list[int]]]]:
    if not columns:
        return {}
    values = {column: count_levels(rows, column, TOP)[0] for column in columns}
    cells = [Cells(name, profile) for name, profile in features.items()]
    inside = tally(rows, cells, values).segments
    return {
        column: {
            value: {name: counts[place].tolist() for name, counts in inside[column].items()}
            for place, value in enumerate(values[column])
        }
        for column in columns
    }


def _keep_sample(rows: Rows, columns: Sequence[str], n: int, folder: str) -> str:
    table = sample_of(rows, columns, n)

    def write(uri: str) -> None:
        with fsspec.open(uri, "wb") as file:
            pq.write_table(table, file, compression="zstd")

    return store_by_content(folder, ".parquet", write)[0]
