"""The workspace: one fsspec URI under which everything the pipeline keeps lies by content.

Writers never touch a name that readers use: they write to a temporary name in the same folder
and rename it (an object store makes an upload visible only when it is complete).
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import ParameterError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_CHUNK = 1 << 20


def join(base: str, *parts: str) -> str:
    """Return ``base`` and ``parts`` joined by single slashes."""
    return "/".join([base.rstrip("/"), *(part.strip("/") for part in parts)])


def checked_name(value: object, parameter: str, caller: str) -> str:
    """Return ``value`` if it may name a folder, a file or an asset.

    Raises:
        ParameterError: it has other characters than letters, digits, ``.``, ``_`` and ``-``,
            is empty, or is longer than 128 characters.
    """
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    constraint = "a name of letters, digits, '.', '_' and '-' that starts with a letter or digit"
    raise ParameterError.of(parameter, caller, constraint, value)


def exists(uri: str) -> bool:
    """Tell whether a file lies at ``uri``."""
    fs, path = url_to_fs(uri)
    return bool(fs.exists(path))


def remove(folder: str) -> None:
    """Remove a folder and what is in it, if it is there."""
    fs, path = url_to_fs(folder)
    if fs.exists(path):
        fs.rm(path, recursive=True)


@contextmanager
def atomic_path(uri: str) -> Iterator[str]:
    """Give a temporary URI beside ``uri``; rename it to ``uri`` if the block ends well.

    An exception in the block removes the temporary file and leaves ``uri`` as it was.
    """
    fs, path = url_to_fs(uri)
    fs.makedirs(fs._parent(path), exist_ok=True)
    folder, _, name = path.rpartition("/")
    temporary = f"{folder}/.{name}.{uuid.uuid4().hex}.tmp"
    try:
        yield fs.unstrip_protocol(temporary)
        fs.mv(temporary, path)
    finally:
        if fs.exists(temporary):
            fs.rm(temporary)


def write_bytes(uri: str, data: bytes) -> None:
    """Store ``data`` at ``uri``, whole or not at all."""
    with atomic_path(uri) as temporary, fsspec.open(temporary, "wb") as file:
        file.write(data)


def write_json(uri: str, value: Any) -> None:
    """Store ``value`` at ``uri`` as JSON; NaN is refused."""
    write_bytes(uri, json.dumps(value, allow_nan=False, indent=1, sort_keys=True).encode())


def read_json(uri: str) -> Any:
    """Read the JSON value stored at ``uri``."""
    with fsspec.open(uri, "rb") as file:
        return json.load(file)


def file_hash(uri: str) -> str:
    """Return the sha256 of the file at ``uri``, in hex, read in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with fsspec.open(uri, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def store_by_content(folder: str, suffix: str, write: Callable[[str], None]) -> tuple[str, str]:
    """Let ``write`` produce a file, and keep it in ``folder`` under its own sha256.

    Returns:
        The URI and the sha256. Writing the same bytes twice gives the same URI and one file.
    """
    fs, path = url_to_fs(join(folder, f".{uuid.uuid4().hex}.tmp"))
    fs.makedirs(fs._parent(path), exist_ok=True)
    temporary = fs.unstrip_protocol(path)
    try:
        write(temporary)
        digest = file_hash(temporary)
        uri = join(folder, f"{digest}{suffix}")
        target = url_to_fs(uri)[1]
        if not fs.exists(target):
            fs.mv(path, target)
    finally:
        if fs.exists(path):
            fs.rm(path)
    return uri, digest


def listing(pattern: str) -> list[str]:
    """Return the URIs that match a glob, sorted."""
    fs, path = url_to_fs(pattern)
    return sorted(str(found) for found in fs.glob(path))
