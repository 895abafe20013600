"""Compacts and joins feedback again and again: ``python -m tests.labels_process LOG FEEDBACK WS``.

Prints the hash of each result, and ends by being killed.
"""

from __future__ import annotations

import sys

from airflow_mlops_provider.steps.compact import compact_log
from airflow_mlops_provider.steps.labels import LabelCounts, join_feedback


def result(log: str, feedback: str, workspace: str) -> tuple[str, LabelCounts]:
    """Compact and join once; return the hash of the labelled predictions, and the counts."""
    counts = LabelCounts()
    batch = compact_log(log, endpoint="e", workspace=workspace)
    ref = join_feedback(
        batch, endpoint="e", log_folder=feedback, workspace=workspace, counts=counts
    )
    return ref.file_hash if ref else "", counts


if __name__ == "__main__":
    while True:
        print(result(*sys.argv[1:])[0], flush=True)
