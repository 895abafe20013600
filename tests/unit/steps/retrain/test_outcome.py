from __future__ import annotations

import pytest

from airflow_mlops_provider.records import GateReason, GateVerdict, ModelVersionRef
from airflow_mlops_provider.steps.retrain.outcome import outcome_of


def verdict(outcome):
    reasons = [
        GateReason(check="floor:auc", passed=True, detail="fine", n=9),
        GateReason(check="superiority:auc", passed=False, detail="gains -0.01", n=9),
    ]
    return GateVerdict(outcome=outcome, challenger_uri="m", champion_uri=None, reasons=reasons)


def version(*aliases):
    return ModelVersionRef(
        name="delay",
        version="3",
        model_uri="models:/delay/3",
        model_id=None,
        run_id=None,
        aliases=list(aliases),
    )


@pytest.mark.parametrize(
    ("said", "registered", "failed", "outcome", "detail"),
    [
        ("promote", version("champion"), False, "promoted", "version 3 of delay"),
        ("promote", version("challenger"), False, "registered", "version 3 of delay"),
        ("promote", version("challenger"), True, "registered", "version 3 of delay"),
        ("keep_champion", None, False, "not_better", "gains -0.01"),
        ("refused", None, False, "refused", "gains -0.01"),
        ("refused", None, True, "refused", "gains -0.01"),
        ("promote", None, True, "failed", "no version was registered"),
        (None, None, True, "failed", "not reached"),
        (None, None, False, "stopped", "not reached"),
    ],
)
def test_what_a_training_was_worth(training, noon, said, registered, failed, outcome, detail):
    decision = training().decision
    judged = verdict(said) if said else None
    found = outcome_of(decision, judged, registered, failed=failed, now=noon)
    assert found.outcome == outcome
    assert detail in found.detail
    assert found.run == decision.run
    assert found.model_uri == (registered.model_uri if registered else None)
