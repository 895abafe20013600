"""Prediction logs as the serving host writes them, and what reads them killed."""

import json
from datetime import UTC, datetime, timedelta

import fsspec.implementations.local as local

START = datetime(2013, 7, 1, tzinfo=UTC)


def record(i=0, **changes):
    """Return the i-th record of a log, a second after the one before."""
    return {
        "request_id": f"r{i}",
        "row": 0,
        "ts": (START + timedelta(seconds=i)).isoformat(),
        "endpoint": "flights",
        "deployment": "v1",
        "model_uri": "models:/flights/1",
        "entity_id": f"e{i}",
        "inputs": {"x": float(i)},
        "outputs": 0.5,
        "status": 200,
        "error_class": None,
        "latency_ms": 2.0,
        "attempt": 1,
        "shadow": False,
    } | changes


def write_segment(folder, name, records, torn=""):
    """Write a closed segment, with a torn last line if one is given."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(entry) + "\n" for entry in records)
    (folder / f"{name}.jsonl").write_text(text + torn)


class Killed(BaseException):
    """The process ends here; nothing is cleaned up."""


def kill_at(patch, call, when, nth):
    """Kill the process before or after its n-th rename or opening of a file."""
    original, calls = getattr(local.LocalFileSystem, call), []

    def fatal(self, *args, **kwargs):
        calls.append(args)
        if len(calls) != nth + 1:
            return original(self, *args, **kwargs)
        # a killed process does not tidy up either
        patch.setattr(local.LocalFileSystem, "rm", lambda *_, **__: None)
        if when == "after":
            original(self, *args, **kwargs)
        raise Killed

    patch.setattr(local.LocalFileSystem, call, fatal)
