"""The files of a commit and of its wheel, unpacked into clean folders."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import fsspec

from airflow_mlops_provider.exceptions import DataError
from airflow_mlops_provider.workspace import atomic_path, exists, file_hash

_CONFINED: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python has it since 3.11.4; git itself archives no path that leads out."""


def unpack_source(archive: Path, folder: Path) -> None:
    """Unpack the ``.tar.gz`` of a commit; nothing gets outside ``folder``."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, **_CONFINED)  # noqa: S202 - see there


def wheel_facts(wheel: Path) -> dict[str, str]:
    """Return ``Name``, ``Version`` and ``Generator`` (what built it) of a wheel.

    Raises:
        DataError: it is no wheel.
    """
    try:
        facts = dict(_headers(wheel))
        return {name: facts[name] for name in ("Name", "Version", "Generator")}
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError) as error:
        raise DataError(
            f"{wheel.name} is no wheel with name, version and generator: {error}. Correct what "
            "the build backend writes."
        ) from error


def wheel_requirements(wheel: Path) -> list[str]:
    """Return what a wheel depends on, a line of pip each, with markers."""
    return [value for key, value in _headers(wheel) if key == "Requires-Dist"]


def keep(file: str, uri: str) -> str:
    """Copy a file to a URI that names it by its content, unless it lies there; return the URI."""
    if not exists(uri):
        with (
            atomic_path(uri) as temporary,
            fsspec.open(file, "rb") as read,
            fsspec.open(temporary, "wb") as written,
        ):
            shutil.copyfileobj(read, written)
    return uri


def unpack_wheel(wheel: Path, folder: Path) -> None:
    """Unpack a wheel of Python files, so that they can be imported from ``folder``."""
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(folder)  # noqa: S202 - zipfile keeps all members inside the folder


def copied(uri: str, sha256: str, file: Path) -> Path:
    """Copy what lies at a URI to a file, and return that.

    Raises:
        DataError: it is gone, or has another sha256.
    """
    try:
        with fsspec.open(uri, "rb") as stored, file.open("wb") as copy:
            shutil.copyfileobj(stored, copy)
    except FileNotFoundError as error:
        raise DataError(f"There is no file at {uri}. Build the commit again.") from error
    if (found := file_hash(str(file))) != sha256:
        raise DataError(
            f"{uri} is not what was built: expected sha256 {sha256}, found {found}. Build the "
            "commit again, and see who writes there."
        )
    return file


def _headers(wheel: Path) -> list[tuple[str, str]]:
    with zipfile.ZipFile(wheel) as packed:
        return [
            header
            for file in packed.namelist()
            if file.count("/") == 1 and file.endswith((".dist-info/METADATA", ".dist-info/WHEEL"))
            for header in HeaderParser().parsestr(packed.read(file).decode()).items()
        ]
