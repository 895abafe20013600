from __future__ import annotations

from airflow_mlops_provider.steps.retrain.alert import answered, findings, question


def finding(signal, status, reason="because", n=1000):
    return {"signal": signal, "status": status, "reason": reason, "n": n}


def test_findings_are_shown_those_that_were_raised_first():
    report = {
        "model_uri": "models:/delay/2",
        "findings": [
            finding("drift", "ok"),
            finding("quality", "warning"),
            finding("fairness", "raised"),
        ],
    }
    assert findings([report]) == [
        "**fairness raised** (models:/delay/2): because (n=1,000)",
        "quality warning (models:/delay/2): because (n=1,000)",
    ]


def test_reports_without_findings_are_shown_by_their_reasons():
    report = {"signals": ["drift"], "reasons": ["The inputs drifted."], "n_predictions": 3}
    assert findings([report]) == ["**drift**", "The inputs drifted."]
    assert findings([{"message": "the disk is full"}]) == ["message: the disk is full"]


def test_a_flood_is_bounded():
    reports = [
        {"findings": [finding("kpi", "raised", f"{number} " + "x" * 999)]} for number in range(99)
    ]
    found = findings(reports)
    assert len(found) == 20
    assert max(map(len, found)) == 300


def test_the_question_names_where_the_alert_is_from(event):
    text = question([event("drift")], ["**drift**"])
    assert "`a test` at 2013-07-01T12:00:00+00:00" in text
    assert "- **drift**" in text
    assert "Nothing was said" in question([], [])


def test_an_answer_asks_for_a_training_in_the_name_of_the_person():
    arguments = {"answer": "Retrain", "at": "2013-07-01T12:00:00+00:00", "reason": "new airline"}
    answer = answered("delay", "alerts/r", by="Ada", found=["**drift**"], **arguments)
    assert (answer.by, answer.answer, answer.reason) == ("Ada", "Retrain", "new airline")
    assert (answer.event.kind, answer.event.by) == ("demand", "Ada")
    assert answer.event.evidence["reason"] == "new airline"
    default = answered("delay", "alerts/r", by=None, found=[], **arguments)
    assert (default.by, default.event.by) == ("nobody", None)
    assert default.event.id == answer.event.id
