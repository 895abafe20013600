"""What of a request the prediction log does not show: dropped inputs, and hashed ones.

A hash is an HMAC under a key of the serving host, so that equal values stay equal (for joins,
counts and drift) while nobody without the key can try values out.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError

ENTITY_ID = "entity_id"
"""Names the entity that the router's header gives, beside the inputs."""
_KEY_FILE = "log-key"
_HASH_CHARACTERS = 32


@dataclass(frozen=True)
class Privacy:
    """Which inputs the log leaves out, and which it holds as hashes only."""

    dropped: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    key: bytes = b""

    @classmethod
    def of(cls, dropped: Collection[str], hashed: Collection[str], folder: Path) -> Privacy:
        """Return what the options of a deployment ask for, with the key of the host's folder."""
        key = log_key(folder) if hashed else b""
        return cls(frozenset(dropped), frozenset(hashed), key)

    def require_known(self, names: Collection[str]) -> None:
        """Refuse names that are no inputs, because what they were to hide would be logged.

        Raises:
            ParameterError: one is neither among ``names`` nor ``entity_id``.
        """
        for option, given in (
            ("log_drop_columns", self.dropped),
            ("log_hash_columns", self.hashed),
        ):
            if given - {*names, ENTITY_ID}:
                constraint = f"inputs of the model ({', '.join(names)}) or {ENTITY_ID}"
                raise ParameterError.of(option, "a deployment", constraint, sorted(given))

    def inputs(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the inputs of a row as the log may hold them."""
        if not self.dropped and not self.hashed:
            return row
        return {
            name: self._hash(value) if name in self.hashed else value
            for name, value in row.items()
            if name not in self.dropped
        }

    def entity(self, value: str | None) -> str | None:
        """Return an entity as the log may hold it."""
        if ENTITY_ID in self.dropped:
            return None
        return self._hash(value) if ENTITY_ID in self.hashed else value

    def _hash(self, value: Any) -> str | None:
        """Return a hash of 32 hex digits; 1 and 1.0 are one value, and a missing one stays so."""
        if value is None:
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                value = value if float(value) != value else float(value)
        text = json.dumps(value, sort_keys=True)
        return hmac.new(self.key, text.encode(), hashlib.sha256).hexdigest()[:_HASH_CHARACTERS]


def log_key(folder: Path) -> bytes:
    """Return the key that the host's folder keeps beside the token, made by whoever asks first.

    Raises:
        OSError: it can be neither read nor made.
    """
    path = folder / _KEY_FILE
    if not path.exists():
        temporary = folder / f".{_KEY_FILE}.{os.getpid()}"
        temporary.unlink(missing_ok=True)
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
            f.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):  # another scorer was first
            os.link(temporary, path)
        temporary.unlink()
    return bytes.fromhex(path.read_text())
