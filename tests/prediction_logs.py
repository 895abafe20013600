"""Prediction logs as the serving host writes them."""

import json
from datetime import UTC, datetime, timedelta

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
