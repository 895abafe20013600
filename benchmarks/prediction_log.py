"""What the prediction log costs: the same scorer with its log, and with one that writes nothing.

Requests per CPU-second of the server, as in the benchmark `scorer`, with its model. The log that
writes nothing does not encode its records either, so the whole price is told. A record costs some
3 us: of a hundred rows that trees predict in 1.5 ms that is more than a tenth.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

from benchmarks import Measure, in_turns
from benchmarks.scorer import logged_model, payload, scorer

KEPT = 0.9
_UNLOGGED = "from benchmarks.prediction_log import serve_unlogged; serve_unlogged()"


def run(quick: bool) -> list[Measure]:
    """Compare requests of one row and of a hundred."""
    rounds = 5 if quick else 15
    measures = []
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        stored = logged_model(folder)
        ours = stack.enter_context(scorer(folder, *stored))
        theirs = stack.enter_context(scorer(folder, *stored, program=("-c", _UNLOGGED)))
        for rows, n in ((1, 500), (100, 150)):
            body = payload(rows)
            sides = in_turns(
                rounds,
                lambda body=body, n=n: ours.per_cpu_second(body, n),
                lambda body=body, n=n: theirs.per_cpu_second(body, n),
            )
            holds = sides[0] >= KEPT * sides[1]
            goal = f"ours >= {KEPT:g} x theirs"
            measures.append(
                Measure(f"prediction log: rows {rows}", *sides, "req/s", goal, holds, rounds)
            )
    return measures


def serve_unlogged() -> None:
    """Run the scorer with a log that writes nothing."""
    from airflow_mlops_provider.serving.answers import Scorer
    from airflow_mlops_provider.serving.prediction_log import PredictionLog
    from airflow_mlops_provider.serving.scorer import main

    with (
        patch.object(Scorer, "_lines", lambda *_: []),
        patch.object(PredictionLog, "write", lambda *_: 0),
    ):
        main(sys.argv[1:])
