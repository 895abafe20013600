from __future__ import annotations

from airflow_mlops_provider.records import GateReason, GateVerdict
from airflow_mlops_provider.steps.approval import question, record_answer
from airflow_mlops_provider.steps.register import register_model


def verdict(champion):
    reasons = [
        GateReason(check="floor:auc", passed=True, detail="auc 0.8, at least 0.6", n=12_000),
        GateReason(check="slice|x", passed=False, detail="auc 0.4\nat least 0.6", n=5),
    ]
    return GateVerdict(
        outcome="refused", challenger_uri="models:/m-1", champion_uri=champion, reasons=reasons
    )


def test_the_question_shows_every_reason(client, name, models):
    version = register_model(client, models[0], name=name)
    text = question(verdict("models:/delay/1"), version)
    assert "| ✓ | floor:auc | auc 0.8, at least 0.6 | 12,000 |" in text
    assert "| **✗** | slice\\|x | auc 0.4 at least 0.6 | 5 |" in text
    assert "version **1**" in text
    assert "first model" in question(verdict(None), version)


def test_the_answer_stays_with_the_version(client, name, models):
    version = register_model(client, models[0], name=name)
    record_answer(client, version, answer="Reject", by="Ada", at=None, reason="x" * 9_000)
    tags = client.get_model_version(name, "1").tags
    assert tags["mlops.approval.answer"] == "Reject"
    assert tags["mlops.approval.by"] == "Ada"
    assert len(tags["mlops.approval.reason"]) == 5_000
