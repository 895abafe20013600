"""What a person is asked about a model, and what is kept of the answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from airflow_mlops_provider.records import GateVerdict, ModelVersionRef

TAG = "mlops.approval."
_MAX_TAG = 5_000  # what MLflow takes


def question(verdict: GateVerdict, version: ModelVersionRef) -> str:
    """Return the verdict of the gate as Markdown."""
    rows = [
        f"| {'✓' if reason.passed else '**✗**'} | {_cell(reason.check)} | {_cell(reason.detail)} "
        f"| {reason.n:,} |"
        for reason in verdict.reasons
    ]
    against = verdict.champion_uri or "nobody: it is the first model"
    return "\n".join(
        [
            f"**{version.name}**, version **{version.version}** (`{verdict.challenger_uri}`) "
            f"against `{against}`. The gate says **{verdict.outcome}**.",
            "",
            "| | check | found | rows |",
            "|---|---|---|--:|",
            *rows,
        ]
    )


def record_answer(
    client: MlflowClient,
    version: ModelVersionRef,
    *,
    answer: str,
    by: str,
    at: Any,
    reason: str,
) -> None:
    """Keep who decided what, when and why as tags ``mlops.approval.*`` of the version."""
    said = {"answer": answer, "by": by, "at": str(at or ""), "reason": reason}
    for key, value in said.items():
        client.set_model_version_tag(version.name, version.version, f"{TAG}{key}", value[:_MAX_TAG])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
