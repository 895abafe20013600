"""What the pages of a run say of its retraining."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from airflow_mlops_provider.steps.metadata import shortened
from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from airflow_mlops_provider.records import RetrainingDecision, RetrainingOutcome
    from airflow_mlops_provider.steps.track import TaskRun

PAGE = "retraining.html"
TAG = "mlops.retraining."
_HEAD = "### Retraining"
_MAX_TAG = 5_000  # what MLflow takes


def told(decision: RetrainingDecision) -> str:
    """Return a decision and its event as Markdown, with the evidence."""
    event = decision.event
    evidence = json.dumps(event.evidence, indent=1, ensure_ascii=False)
    verb = "trains" if decision.decision == "train" else "does not train"
    return "\n".join(
        [
            f"This run **{verb}**: {decision.reason}.",
            "",
            f"Event **{event.kind}** of {event.at}, from {event.source}"
            + (f" by {event.by}" if event.by else ""),
            "",
            f"```json\n{evidence}\n```",
        ]
    )


def log_decision(run: TaskRun, decision: RetrainingDecision) -> None:
    """Keep a decision in the task's MLflow run, and tell it on the page of the pipeline's."""
    run.log_record(decision)
    run.log_page(render_page(PAGE, decision=decision, outcome=None), PAGE)
    tags = {
        "event": decision.event.kind,
        "source": decision.event.source,
        "decision": decision.decision,
        "reason": decision.reason,
    }
    _tag(run, tags)
    _note(run, f"{_HEAD}\n{told(decision)}")


def log_outcome(run: TaskRun, outcome: RetrainingOutcome) -> None:
    """Keep what a training was worth in the task's MLflow run, and as tags of the pipeline's."""
    run.log_record(outcome)
    _tag(run, {"outcome": outcome.outcome, "detail": outcome.detail})


def _tag(run: TaskRun, tags: dict[str, str]) -> None:
    for key, value in tags.items():
        told_as = shortened(value, _MAX_TAG)
        run.client.set_tag(run.pipeline_id or run.run_id, f"{TAG}{key}", told_as)


def _note(run: TaskRun, text: str) -> None:
    run_id = run.pipeline_id or run.run_id
    before = run.client.get_run(run_id).data.tags.get(MLFLOW_RUN_NOTE, "")
    note = "\n\n".join(filter(None, [before.partition(_HEAD)[0].strip(), text]))
    run.client.set_tag(run_id, MLFLOW_RUN_NOTE, shortened(note, _MAX_TAG))
