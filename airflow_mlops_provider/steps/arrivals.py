"""Which files have arrived, whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from fsspec.core import url_to_fs


def settled_files(
    modified: Mapping[str, datetime],
    now: datetime,
    *,
    settle_seconds: float,
    since: datetime | None = None,
) -> list[str]:
    """Return the files to act on, sorted: all that came, once none of them is still written.

    Args:
        modified: Each file and when it was last written to.
        now: The time of the look.
        settle_seconds: How long a file must have been left alone. While one is younger, the
            answer is empty, because files of one delivery belong together.
        since: Leave out files last written to before this moment.
    """
    fresh = {uri: at for uri, at in modified.items() if since is None or at >= since}
    settled = now - timedelta(seconds=settle_seconds)
    return sorted(fresh) if all(at <= settled for at in fresh.values()) else []


def modified_times(path: str) -> dict[str, datetime]:
    """Return the files that match ``path`` (a path, glob or fsspec URI) and their times (UTC).

    Hidden files are left out: writers use them for what is not ready.
    """
    fs, pattern = url_to_fs(path)
    found = [file for file in fs.glob(pattern) if not file.rpartition("/")[2].startswith(".")]
    return {fs.unstrip_protocol(file): fs.modified(file) for file in found if fs.isfile(file)}
