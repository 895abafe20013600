from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_mlops_provider.records import (
    BehaviourReport,
    BehaviourResult,
    DatasetRef,
    EvaluationReport,
    Fairness,
    GateReason,
    GateVerdict,
    Importance,
    Metric,
    ModelCost,
    ModelRef,
    ModelVersionRef,
    SliceMetric,
    TrainingSpec,
)
from airflow_mlops_provider.steps.model_card import ModelCard, Origin
from airflow_mlops_provider.steps.model_card_text import (
    MAX_DESCRIPTION,
    as_description,
    as_markdown,
    as_page,
)

MODEL = ModelRef(
    model_uri="models:/m-1",
    model_id="m-1",
    run_id="r-1",
    target="late",
    features=["hour", "origin"],
    params={"max_iter": 60},
    metrics={},
    train_hash="hash-of-rows",
)
VERSION = ModelVersionRef(
    name="delay", version="2", model_uri="models:/delay/2", model_id="m-1", run_id="r-1", aliases=[]
)
DATASET = DatasetRef(
    name="flights",
    uri="/w/a.parquet",
    file_hash="f" * 64,
    logical_hash="l" * 64,
    schema_hash="s",
    n_rows=12_345,
    columns={},
    source="landing/*.parquet",
    window_start="2013-01-01",
    window_end="2013-02-01",
)
REPORT = EvaluationReport(
    model_uri="models:/m-1",
    dataset_uri="/w/test.parquet",
    task="classification",
    metrics={"auc": Metric(value=0.7, low=0.65, high=0.75, n=999)},
    golden={"auc": Metric(value=0.9, low=None, high=None, n=12)},
    slices=[SliceMetric(column="origin", value="JFK", metric="auc", score=0.61, n=300)],
    predictions_uri="p",
    threshold=0.25,
    calibration_error=0.0123,
    cost=ModelCost(latency_p50_ms=1.5, latency_p95_ms=3, load_seconds=0.2, size_mb=4),
    fairness=[
        Fairness(
            column="carrier",
            groups={},
            demographic_parity_difference=0.125,
            demographic_parity_ratio=0.5,
            equalized_odds_difference=None,
        )
    ],
    importance=[Importance(feature="hour", mean=0.1, std=0.01)],
)
TEST = BehaviourResult(
    name="an unknown origin",
    kind="invariance",
    severity="critical",
    outcome="passed",
    n=1_000,
    failures=1,
    rate=0.001,
    rate_high=0.01,
    max_failure_rate=0.05,
    mean_shift=0.0,
    detail="1 of 1000 rows",
)
BEHAVIOUR = BehaviourReport(
    model_uri="m",
    dataset_uri="d",
    suite="flights",
    outcome="passed",
    n_tests=1,
    n_failed=0,
    n_errored=0,
    tests=[TEST],
)
VERDICT = GateVerdict(
    outcome="promote",
    challenger_uri="models:/m-1",
    champion_uri="models:/delay/1",
    reasons=[GateReason(check="floor:auc", passed=True, detail="auc 0.7000, 0.6 asked", n=999)],
)
CARD = ModelCard(
    version=VERSION,
    model=MODEL,
    intended_use="Plan *connections*.",
    owner="ops",
    origin=Origin(
        TrainingSpec(dataset=DATASET, estimator="a.b", features=["hour"], target="late"),
        {"DAG": "level1", "Git commit": "c0ffee"},
        {"Training run": "http://mlflow/run"},
    ),
    evaluation=REPORT,
    behaviour=[BEHAVIOUR],
    verdict=VERDICT,
    monitored_by={"Drift profile": "/w/profile.json"},
)


def columns_of(line):
    return len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) - 1


def require_whole_tables(markdown):
    """Each row has as many cells as the head of its table."""
    columns = None
    for line in markdown.splitlines():
        if not line.startswith("|"):
            columns = None
            continue
        columns = columns or columns_of(line)
        assert columns_of(line) == columns, line
        assert line.endswith("|")


@pytest.mark.parametrize(
    "line",
    [
        "# delay, version 2",
        "Plan *connections*.",
        "| Owner | ops |",
        "| Estimator | a.b |",
        '| Parameters | {"max\\_iter": 60} |',
        "| Features | 2: hour, origin |",
        "| Rows | 12,345 |",
        "| From | 2013-01-01 |",
        "| Source | landing/\\*.parquet |",
        f"| Logical hash of the rows | {'l' * 64} |",
        "| auc | 0.7000 | 0.6500 to 0.7500 | 999 |",
        "| auc on the golden set | 0.9000 |  | 12 |",
        "| origin = JFK | auc | 0.6100 |  | 300 |",
        "| carrier | 0.125 | 0.500 |  |",
        "| Expected calibration error | 0.0123 |",
        "| Latency of one row | 1.5 ms, 95 % 3.0 ms |",
        "| Drift profile | /w/profile.json |",
        "| an unknown origin | critical | passed | 1,000 | 0.10% | 5.00% | 1 of 1000 rows |",
        "The gate said promote, against models:/delay/1.",
        "| floor:auc | yes | auc 0.7000, 0.6 asked | 999 |",
        "| Training run | [r-1](http://mlflow/run) |",
        "| Git commit | c0ffee |",
        "| Reproduce | airflow-mlops reproduce r-1 |",
    ],
)
def test_the_card_tells(line):
    assert line in as_markdown(CARD).splitlines()


def test_what_is_not_known_is_left_out():
    text = as_markdown(ModelCard(VERSION, MODEL))
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Intended use",
        "## Model",
        "## Training data",
        "## Lineage",
    ]
    assert "Not stated." in text
    assert "hash-of-rows" in text
    assert "None" not in text
    assert "None" not in as_page(ModelCard(VERSION, MODEL))


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_text_breaks_a_table(name, detail):
    reason = GateReason(check=name, passed=False, detail=detail, n=1)
    card = replace(CARD, owner=name, verdict=replace(VERDICT, reasons=[reason]))
    require_whole_tables(as_markdown(card))
    require_whole_tables(as_description(card))


def test_markup_of_a_user_is_shown_as_it_is():
    reason = GateReason(check="a|b\n*c*", passed=False, detail="<script>x</script>", n=1)
    card = replace(CARD, verdict=replace(VERDICT, reasons=[reason]))
    assert r"| a\|b \*c\* | no | &lt;script&gt;x&lt;/script&gt; | 1 |" in as_markdown(card)
    page = as_page(replace(card, intended_use="<script>y</script> [z](javascript:alert)"))
    assert "<script>" not in page
    assert "&lt;script&gt;y" in page
    assert 'href="javascript' not in page


def test_the_intended_use_is_markdown():
    use = "For *desks*\nin New York:\n\n- staff\n- plans"
    page = as_page(replace(CARD, intended_use=use))
    assert "<p>For <em>desks</em>\nin New York:</p>" in page
    assert "<li>staff</li>" in page


@pytest.mark.parametrize("n", [0, 30, 200])
@pytest.mark.parametrize("length", [1, 300])
def test_the_description_has_room_for_the_link_and_whole_tables(n, length):
    wide = "w" * length
    cut = SliceMetric(column="origin", value=wide, metric="auc", score=0.5, n=1)
    card = replace(
        CARD,
        intended_use=wide * 10,
        model=replace(MODEL, features=[wide] * 50, params={wide: wide}),
        origin=replace(CARD.origin, facts={f"{wide}{each}": wide for each in range(10)}),
        evaluation=replace(REPORT, slices=[cut] * n),
        behaviour=[replace(BEHAVIOUR, tests=[replace(TEST, detail=wide)] * min(n, 50))],
    )
    text = as_description(card, "http://mlflow/card")
    assert len(text) <= MAX_DESCRIPTION
    assert text.endswith("[The whole card](http://mlflow/card)")
    require_whole_tables(text)


def test_a_small_card_is_its_description():
    assert as_description(CARD) == as_markdown(CARD)


def test_the_page_has_what_the_text_has():
    page = as_page(CARD)
    for told in ("0.6500 to 0.7500", "an unknown origin", "Plan <em>connections</em>."):
        assert told in page
    assert '<a href="http://mlflow/run">r-1</a>' in page
