"""Which files have arrived, whole, and which of them are news."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from fsspec.core import url_to_fs

_REMEMBERED = 1_500  # of 28 bytes each; Airflow keeps 64 KB with an asset
_SHOWN = 20


@dataclass(frozen=True)
class SeenFiles:
    """Which files were there at the last look, by a hash of their names, and how new they were."""

    modified: Mapping[str, int] = field(default_factory=dict)
    """Epoch seconds of the newest files, at most 1,500."""
    floor: int = 0
    """A file that is older and not among them is taken for one that was seen."""

    @classmethod
    def of(cls, modified: Mapping[str, datetime]) -> SeenFiles:
        """Return the memory of a look."""
        newest = sorted(
            ((int(at.timestamp()), _hash(uri)) for uri, at in modified.items()), reverse=True
        )
        floor = newest[_REMEMBERED - 1][0] if len(newest) > _REMEMBERED else 0
        return cls({name: at for at, name in newest[:_REMEMBERED]}, floor)

    def news(self, modified: Mapping[str, datetime]) -> list[str]:
        """Return the files that are new, or written again, since, sorted."""
        return sorted(
            uri
            for uri, at in modified.items()
            if self.modified.get(_hash(uri)) != int(at.timestamp()) and at.timestamp() >= self.floor
        )

    def to_json(self) -> dict[str, Any]:
        """Return what :meth:`from_json` reads back."""
        return {"modified": dict(self.modified), "floor": self.floor}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> SeenFiles:
        """Return what :meth:`to_json` gave."""
        return cls(dict(stored["modified"]), int(stored["floor"]))


def arrival(files: Sequence[str], modified: Mapping[str, datetime]) -> dict[str, Any]:
    """Return the event of files that arrived; its ``id`` is the same for the same files."""
    versions = [f"{uri} {int(modified[uri].timestamp())}" for uri in files]
    return {
        "id": hashlib.sha256("\n".join(versions).encode()).hexdigest()[:32],
        "n_files": len(files),
        "files": list(files[:_SHOWN]),
        "newest": max(modified[uri] for uri in files).astimezone(UTC).isoformat(),
    }


def _hash(uri: str) -> str:
    return hashlib.sha256(uri.encode()).hexdigest()[:12]


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

    Of a folder, or the prefix of a bucket, these are all files below it. Hidden ones are left out:
    writers use them for what is not ready.
    """
    fs, pattern = url_to_fs(path)
    fs.invalidate_cache()  # object stores answer from their last listing otherwise
    if fs.isdir(pattern):
        pattern = f"{pattern.rstrip('/')}/**"
    found = [file for file in fs.glob(pattern) if not file.rpartition("/")[2].startswith(".")]
    return {fs.unstrip_protocol(file): fs.modified(file) for file in found if fs.isfile(file)}
