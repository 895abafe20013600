"""Files of one folder, one for each window, named by the window's end.

A retry, a cleared task or a backfill of a window replaces its file and touches no other; the
alphabetical order of the names is that of time.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

from fsspec.core import url_to_fs

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.workspace import join

MAX_WINDOWS = 1_000
"""Windows that are kept; the oldest go first."""
MAX_STREAK = 100
"""Windows that are looked back at."""


def checked_streak(consecutive: int, caller: str) -> None:
    """Check how many windows in a row are asked for.

    Raises:
        ParameterError: it is not from 1 to 100.
    """
    if not 1 <= consecutive <= MAX_STREAK:
        raise ParameterError.of("consecutive", caller, f"from 1 to {MAX_STREAK}", consecutive)


def checked_time(value: str | None, parameter: str, caller: str) -> datetime | None:
    """Return an ISO 8601 time in UTC (naive means UTC); None for none.

    Raises:
        ParameterError: ``value`` is no time.
    """
    if not value:
        return None
    try:
        return utc(datetime.fromisoformat(value))
    except (ValueError, OverflowError) as error:
        raise ParameterError.of(parameter, caller, "an ISO 8601 time", value) from error


def utc(moment: datetime) -> datetime:
    """Return ``moment`` in UTC; a naive one is taken as UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def key_of(end: datetime) -> str:
    """Return the name of a window that ends at ``end``, such as 20130701T000000.000000Z."""
    iso = utc(end).isoformat(timespec="microseconds").removesuffix("+00:00")
    return f"{iso.replace('-', '').replace(':', '')}Z"


def uri_of(folder: str, key: str) -> str:
    """Return where the file of a window lies."""
    return join(folder, f"{key}.json")


def keys_of(folder: str) -> list[str]:
    """Return the names of the windows in ``folder``, oldest first."""
    fs, path = url_to_fs(folder)
    fs.invalidate_cache(path)  # a triggerer looks again and again
    try:
        found = [str(each).rpartition("/")[2] for each in fs.ls(path, detail=False)]
    except FileNotFoundError:
        return []
    return sorted(each.removesuffix(".json") for each in found if _is_window(each))


def forget_oldest(folder: str, own: str) -> None:
    """Remove the oldest windows beyond ``MAX_WINDOWS``, but never ``own``."""
    for key in keys_of(folder)[:-MAX_WINDOWS]:
        if key != own:
            fs, path = url_to_fs(uri_of(folder, key))
            with suppress(FileNotFoundError):  # a rival was faster
                fs.rm_file(path)


def _is_window(name: str) -> bool:
    return name.endswith(".json") and name[:1].isdigit()
