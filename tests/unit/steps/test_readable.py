from __future__ import annotations

import errno

import pyarrow as pa
import pytest

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.steps.readable import readable


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (FileNotFoundError("f"), "f.parquet is gone"),
        (OSError("Corrupt snappy compressed data."), "f.parquet as Parquet: Corrupt snappy"),
        (pa.ArrowInvalid("no magic bytes"), "f.parquet as Parquet: no magic bytes"),
        (EOFError("ended early"), "f.parquet as Parquet: ended early"),
    ],
)
def test_a_file_that_is_at_fault_is_named(raised, said):
    with pytest.raises(DataError, match=said), readable("f.parquet"):
        raise raised


@pytest.mark.parametrize(
    "raised",
    [
        OSError(errno.EIO, "the store stumbled"),
        ConnectionResetError("by peer"),
        TimeoutError("too slow"),
        PermissionError("no access"),
    ],
)
def test_a_store_that_is_at_fault_may_be_asked_again(raised):
    with pytest.raises(type(raised)), readable("f.parquet"):
        raise raised
