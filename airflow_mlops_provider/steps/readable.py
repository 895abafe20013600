"""What to tell a person about a file that cannot be read."""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from airflow_mlops_provider.exceptions import DataError

_DAMAGED = (pa.ArrowException, gzip.BadGzipFile, zipfile.BadZipFile, zlib.error, EOFError)


@contextmanager
def readable(path: str, kind: str = "Parquet") -> Iterator[None]:
    """Name the file that the block cannot read because it is gone, empty or broken.

    What a store says when it does not answer passes unchanged.

    Raises:
        DataError: a person has to write the file again.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise DataError(
            f"The file {path} is gone. Run the task that wrote it again (clear it)."
        ) from error
    except (*_DAMAGED, OSError) as error:
        # Arrow tells of a broken page or footer with a bare OSError
        if not isinstance(error, _DAMAGED) and (type(error) is not OSError or error.errno):
            raise
        raise DataError(
            f"Cannot read {path} as {kind}: {str(error).rstrip('.')}. The file is empty, broken "
            "or of another format; write it again."
        ) from error
