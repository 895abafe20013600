"""Predictions of a whole dataset, and models packed for delivery."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from airflow_mlops_provider.records.base import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictionPartsRef(Record):
    """Predictions of a dataset as a folder of Parquet files, one for each partition."""

    uri: str
    """The folder; its files lie below it by partition (``origin=EWR/{sha256}.parquet``)."""
    manifest_uri: str
    """JSON with partition, URI, rows and sha256 of each file of this share."""
    n_rows: int
    n_parts: int
    n_reused: int
    """Parts that an earlier attempt had written."""
    file_hash: str
    """sha256 over the hashes of the files: the same inputs give the same."""
    columns: list[str]
    """What each file holds: the columns kept, ``score``, and probabilities of more classes."""
    dataset_hash: str
    """sha256 of the dataset's file."""
    model_versions: list[str]
    feature_service: str | None = None
    """Feature service that the model learned from, as its version says."""
    part: int = 0
    """Which share of the partitions this is, from 0."""
    of: int = 1
    window_start: str | None = None
    window_end: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBundleRef(Record):
    """A model version packed as one zip for delivery."""

    uri: str
    file_hash: str
    """sha256 of the zip: the same version gives the same."""
    n_bytes: int
    model_uri: str
    format: Literal["onnx", "mlflow"]
    reason: str
    """Why it is this format: how well the answers agree, or why ONNX was not possible."""
    max_difference: float | None
    """Largest difference between the answers of ONNX and of the pyfunc; None without ONNX."""
    n_compared: int
    """Rows that both answered."""
