"""Give predictions the labels that came for them, from a dataset of labels or from feedback."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Literal

import pandas as pd

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.steps.feedback import ENTITY, gathered_feedback
from airflow_mlops_provider.steps.label_columns import narrowed, require
from airflow_mlops_provider.steps.label_matching import (
    LABEL,
    REQUEST,
    LabelCounts,
    LabelSource,
    Limits,
    label_predictions,
)

if TYPE_CHECKING:
    from airflow_mlops_provider.records import DatasetRef, PredictionBatchRef

__all__ = ["LABEL", "LabelCounts", "join_feedback", "join_labels"]

Span = float | str | timedelta
"""Seconds, or an ISO 8601 duration such as ``PT6H``."""


def join_labels(
    predictions: PredictionBatchRef,
    labels: DatasetRef,
    *,
    key: str = "entity_id",
    label_key: str,
    label_column: str,
    workspace: str,
    updated_column: str | None = None,
    row_column: str | None = None,
    time_column: str | None = None,
    max_delay: Span | None = None,
    clock_skew: Span = 0,
    on_conflict: Literal["error", "drop"] = "error",
    counts: LabelCounts | None = None,
) -> DatasetRef | None:
    """Give each prediction the label that came for it; those still without one are left out.

    With ``time_column`` and another ``key`` than ``request_id``, a label is the outcome of the last
    prediction that was made for its key at or before its time, and of all attempts and deployments
    of that request. If several events follow a prediction with none in between, the first is its
    outcome; if a key was asked for twice at the same moment, the later request id and row counts.

    Args:
        predictions: What was predicted.
        labels: What turned out to be true; rows without a key, a label or one of the columns row
            and time that are named are taken as not having come yet.
        key: Column of the predictions to join on; without times, predictions may share a key.
        label_key: Column of the labels to join on; compared as text.
        label_column: Column of the labels with the truth; it becomes ``label``.
        workspace: fsspec URI of the workspace.
        updated_column: Column of the labels that orders corrections: the last one holds.
        row_column: Column of the labels with the row of the request, from 0; without it a label
            is that of all its rows.
        time_column: Column of the labels with the time of what happened.
        max_delay: How long after a prediction that may be: seconds, or an ISO 8601 duration; None
            is without limit.
        clock_skew: How long before a prediction it may seem to be, because clocks differ.
        on_conflict: What to do about labels that contradict each other and that nothing orders.
        counts: Is told what was not joined, and why.

    Returns:
        All columns of the labelled predictions, ``label`` and ``label_ts`` (when the label became
        known: ``updated_column`` if it holds times, else ``time_column``, else null), as the
        dataset ``{labels.name}-predictions``; None while no prediction has a label.

    Raises:
        DataError: a column is missing or holds no times, or labels contradict each other.
        ParameterError: an argument cannot be used.
    """
    limits = _limits(max_delay, clock_skew, on_conflict, counts)
    columns = {"key": label_key, LABEL: label_column, "row": row_column}
    columns |= {"updated": updated_column, "event": time_column}
    given = {name: column for name, column in columns.items() if column}
    require(list(labels.columns), list(given.values()), labels.uri)
    source = LabelSource(narrowed(labels.uri, given), key, label_key, labels.uri)
    name = f"{labels.name}-predictions"
    return label_predictions(predictions, [source], limits, name=name, workspace=workspace)


def join_feedback(
    predictions: PredictionBatchRef,
    *,
    endpoint: str,
    log_folder: str,
    workspace: str,
    max_delay: Span | None = None,
    clock_skew: Span = 0,
    counts: LabelCounts | None = None,
) -> DatasetRef | None:
    """Give each prediction the outcome that clients sent to the serving host for it.

    Feedback names its request, or an entity and a time and then belongs to a prediction as
    :func:`join_labels` says. Of both, that which names the request holds; of several, the one that
    was received last. What was sent twice under one ``feedback_id`` counts once.

    Args:
        predictions: What was predicted.
        endpoint: Name of the endpoint.
        log_folder: URI of the folder with the feedback's ``*.jsonl`` files.
        workspace: fsspec URI of the workspace.
        max_delay: How long after a prediction an event may be, as for :func:`join_labels`.
        clock_skew: How long before a prediction it may seem to be, because clocks differ.
        counts: Is told what was not joined, and why.

    Returns:
        As :func:`join_labels`, as the dataset ``{endpoint}-feedback-predictions``; ``label`` is a
        number if all labels are (true is 1), and text otherwise, and ``label_ts`` is when the
        feedback was received.

    Raises:
        DataError: a file in ``log_folder`` is no feedback, or the predictions lack a column.
        ParameterError: an argument cannot be used.
    """
    limits = _limits(max_delay, clock_skew, "error", counts)
    columns = {LABEL: LABEL, "row": "row", "event": "event_ts", "updated": "received_at"}
    in_time = {name: columns[name] for name in (LABEL, "event", "updated")}
    with gathered_feedback(log_folder, endpoint=endpoint, workspace=workspace) as feedback:
        limits.counts.unreadable += feedback.n_unreadable
        sources = [
            LabelSource(narrowed(feedback.path, {"key": key, **named}), key, key, log_folder)
            for key, named in ((REQUEST, columns), (ENTITY, in_time))
        ]
        name = f"{endpoint}-feedback-predictions"
        return label_predictions(predictions, sources, limits, name=name, workspace=workspace)


def _limits(
    max_delay: Span | None, clock_skew: Span, on_conflict: str, counts: LabelCounts | None
) -> Limits:
    if on_conflict not in ("error", "drop"):
        raise ParameterError.of("on_conflict", "join_labels", "'error' or 'drop'", on_conflict)
    return Limits(
        delay=None if max_delay in (None, "") else _span("max_delay", max_delay),
        skew=_span("clock_skew", clock_skew),
        drop=on_conflict == "drop",
        counts=counts or LabelCounts(),
    )


def _span(name: str, value: object) -> timedelta:
    try:
        if isinstance(value, timedelta):
            span = value
        elif str(value).startswith("P"):
            span = pd.Timedelta(str(value)).to_pytimedelta()
        else:
            span = timedelta(seconds=float(str(value)))
        if span >= timedelta(0):
            return span
    except (ValueError, OverflowError):
        pass
    constraint = "at least 0: seconds or an ISO 8601 duration such as 'PT6H'"
    raise ParameterError.of(name, "join_labels", constraint, value)
