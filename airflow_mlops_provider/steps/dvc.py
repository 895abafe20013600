"""Files and folders that DVC tracks: a ``.dvc`` file in, the data with the hash it records out.

The form of ``.dvc`` files, of ``.dvc/config`` and of the cache is documented (DVC's user guide,
"Project Structure"), so DVC itself is needed only to fetch from a remote.
"""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServiceError
from airflow_mlops_provider.steps.extras import required
from airflow_mlops_provider.steps.sources import Part, holds_rows, parts_of, without_copies

SUFFIX = ".dvc"
_HASH = re.compile(r"[0-9a-f]{32}(\.dir)?")
_CHUNK = 1 << 20
_BROKEN_CACHE = "Delete it there, and get it again with `dvc fetch`."


@dataclass(frozen=True)
class Tracked:
    """What a ``.dvc`` file says of the file or folder beside it."""

    pointer: Path
    target: Path
    root: Path
    """Folder of the DVC repository; that of the pointer, if it lies in none."""
    md5: str
    """Ends in ``.dir`` for a folder, and is then the hash of the list of its files."""
    any_line_end: bool
    """Whether the hash may be that of the text with the line ends of Unix (DVC 1 and 2)."""

    @property
    def is_folder(self) -> bool:
        """Whether a folder is tracked."""
        return self.md5.endswith(".dir")


@dataclass(frozen=True)
class _Stored:
    """A file whose bytes have to have a hash."""

    path: Path
    name: str
    """Its path as a user knows it, relative to the folder that is tracked."""
    md5: str


def pinned_parts(source: str) -> tuple[str, list[Part]]:
    """Return ``source`` with its version, if it has one, and its files.

    The version is the hash that a ``.dvc`` file records: ``data/flights.parquet.dvc@md5:1a2b...``.
    Other sources come back as they are; see
    :func:`~airflow_mlops_provider.steps.sources.parts_of`.

    The tracked data are taken from the workspace, where they have to have that hash; if they
    are not there, from DVC's cache; if not there either, they are fetched into the cache, which
    needs the extra ``dvc``. The workspace is not changed.

    Raises:
        DataError: the ``.dvc`` file cannot be used, or the data are missing or have another hash.
        ParameterError: the ``.dvc`` file does not lie on a local disk, or the data are to be
            fetched and DVC is not installed.
        ServiceError: the remote did not give the data.
    """
    if not source.endswith(SUFFIX):
        return source, parts_of(source)
    fs, path = url_to_fs(source)
    if not isinstance(fs, LocalFileSystem):
        raise ParameterError.of(
            "source", "snapshot_dataset", "on a local disk if it is a .dvc file", source
        )
    if fs.isdir(path):
        return source, parts_of(source)
    tracked = read_pointer(Path(path))
    return f"{source}@md5:{tracked.md5}", _parts(tracked)


def read_pointer(pointer: Path) -> Tracked:
    """Read a ``.dvc`` file.

    Raises:
        DataError: it is missing or no YAML, tracks nothing or several things, records no md5, or
            names a path outside its repository.
    """
    root = next((each for each in pointer.parents if (each / ".dvc").is_dir()), pointer.parent)
    content = _yaml(pointer)
    outs = content.get("outs")
    if not isinstance(outs, list) or len(outs) != 1 or not isinstance(outs[0], dict):
        found = len(outs) if isinstance(outs, list) else "none"
        raise _unusable(pointer, f"one entry under `outs`, got {found}")
    path, md5 = outs[0].get("path"), outs[0].get("md5")
    if not isinstance(path, str) or not path:
        raise _unusable(pointer, f"a path under `outs`, got {path!r}")
    if not isinstance(md5, str) or not _HASH.fullmatch(md5):
        raise _unusable(pointer, f"an md5 of 32 hexadecimal digits for {path}, got {md5!r}")
    # not resolved: DVC may have linked the file into its cache, which lies elsewhere
    target = Path(os.path.normpath(pointer.parent / str(content.get("wdir", ".")) / path))
    if not target.is_relative_to(root):
        raise _unusable(pointer, f"a path inside {root}, got {path!r}")
    return Tracked(pointer, target, root, md5, any_line_end="hash" not in outs[0])


def _yaml(pointer: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(pointer.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(
            f"No file at {pointer}. Expected one .dvc file; check the path, or run `git pull`."
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise _unusable(pointer, f"YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise _unusable(pointer, f"a YAML mapping, got {type(content).__name__}")
    return content


def _parts(tracked: Tracked) -> list[Part]:
    if tracked.target.exists():
        return _of_workspace(tracked)
    for cache in _caches(tracked):
        if found := _in_cache(tracked, cache):
            return _checked(found, tracked)
    raise DataError(
        f"{tracked.target} is neither in the workspace nor in the cache of DVC nor in its remote. "
        f"Expected data of md5 {tracked.md5}. Run `dvc push` where they are, or `dvc pull "
        f"{tracked.pointer}` here to see what is missing."
    )


def _of_workspace(tracked: Tracked) -> list[Part]:
    # listed before they are hashed: what is written in between is told apart when it is read
    parts = parts_of(str(tracked.target))
    _require_md5(
        tracked,
        tracked.target,
        tracked.md5,
        f"Run `dvc checkout {tracked.pointer}` to get the recorded data, or `dvc commit "
        f"{tracked.pointer}` if the change is meant.",
    )
    return parts


def _checked(files: Sequence[_Stored], tracked: Tracked) -> list[Part]:
    fs = LocalFileSystem()
    parts = [Part.of(fs, str(each.path), each.name) for each in files]
    for each in files:
        _require_md5(tracked, each.path, each.md5, _BROKEN_CACHE)
    if not parts:
        raise DataError(
            f"{tracked.target} as {tracked.pointer} records it holds no Parquet or CSV file. "
            "Expected at least one; check what is tracked."
        )
    return without_copies(parts)


def _caches(tracked: Tracked) -> Iterator[Path]:
    """Yield where to look for the data; the last one is filled from the remote."""
    if (tracked.root / ".dvc").is_dir():
        yield _cache_folder(tracked.root)
        yield _fetched(tracked)


def _cache_folder(root: Path) -> Path:
    config = configparser.ConfigParser(interpolation=None, strict=False)
    files = [root / ".dvc" / "config", root / ".dvc" / "config.local"]
    try:
        config.read(files, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"Cannot read the configuration of DVC in {root / '.dvc'}: "
            f"{' '.join(str(error).split())}. Correct it; `dvc config --list` reads it too."
        ) from error
    return root / ".dvc" / config.get("cache", "dir", fallback="cache")


def _fetched(tracked: Tracked) -> Path:
    """Fetch the data from the remote, and return the cache that then holds them."""
    purpose = (
        f"to fetch {tracked.target}, which is neither in the workspace nor in the cache of DVC "
        f"(or a `dvc pull {tracked.pointer}` by hand)"
    )
    dvc = required("dvc.repo", "dvc", purpose)
    try:
        with dvc.Repo(str(tracked.root)) as repo:
            repo.fetch(targets=[str(tracked.pointer)])
            return Path(repo.cache.legacy.path)
    except required("dvc.exceptions", "dvc", purpose).DvcException as error:
        raise ServiceError(
            f"DVC could not fetch {tracked.target}: {' '.join(str(error).split())}. Expected a "
            f"remote that answers; try `dvc fetch {tracked.pointer}` by hand."
        ) from error


def _in_cache(tracked: Tracked, cache: Path) -> list[_Stored] | None:
    """Return the tracked files, as far as they hold rows; None if the cache lacks one."""
    kept = _cached(cache, tracked.md5)
    if kept is None:
        return None
    if not tracked.is_folder:
        return [_Stored(kept, tracked.target.name, tracked.md5)]
    _require_md5(tracked, kept, tracked.md5.removesuffix(".dir"), _BROKEN_CACHE)
    found = []
    for entry in json.loads(kept.read_bytes()):
        if holds_rows(entry["relpath"]):
            path = _cached(cache, entry["md5"])
            if path is None:
                return None
            found.append(_Stored(path, entry["relpath"], entry["md5"]))
    return found


def _cached(cache: Path, md5: str) -> Path | None:
    """Return where a cache of DVC 3, or else of DVC 1 or 2, keeps the bytes of a hash."""
    layouts = (cache / "files" / "md5", cache)
    paths = (layout / md5[:2] / md5[2:] for layout in layouts)
    return next((path for path in paths if path.exists()), None)


def _require_md5(tracked: Tracked, path: Path, expected: str, remedy: str) -> None:
    found = _folder_md5(path) if path.is_dir() else _file_md5(path)
    if found == expected:
        return
    if tracked.any_line_end and path.is_file() and _file_md5(path, unix=True) == expected:
        return
    raise DataError(
        f"{path} is not what {tracked.pointer} records: expected md5 {expected}, found {found}. "
        f"{remedy}"
    )


def _folder_md5(folder: Path) -> str:
    """Return DVC's hash of a folder: that of the JSON list of its files, sorted by path."""
    files = [
        {"md5": _file_md5(path), "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    files.sort(key=lambda file: file["relpath"])
    listing = json.dumps(files, sort_keys=True).encode()
    return f"{hashlib.md5(listing, usedforsecurity=False).hexdigest()}.dir"


def _file_md5(path: Path, *, unix: bool = False) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk.replace(b"\r\n", b"\n") if unix else chunk)
    return digest.hexdigest()


def _unusable(pointer: Path, problem: str) -> DataError:
    return DataError(
        f"Cannot use {pointer} as a .dvc file: expected {problem}. Make it anew with `dvc add`, or "
        "restore it from git."
    )
