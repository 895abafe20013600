from __future__ import annotations

import html
import re
from dataclasses import replace
from itertools import pairwise

import matplotlib as mpl
import numpy as np
import pytest

from airflow_mlops_provider.records import Metric, SegmentDrift
from airflow_mlops_provider.steps.drift import Comparison, Evidence
from airflow_mlops_provider.steps.drift_page import drift_page, pictures
from tests.drift_reports import drift_report, feature_drift

AWKWARD = "<script>alert('é')</script> " + "目的地" * 40
SEGMENT = SegmentDrift(
    column="origin", value="JFK", verdict="stable", share_drifted=0.25, n=321, drifted=["hour"]
)


def evidence(labels=("up to 1", "above", "missing"), kind="numeric"):
    counts = np.arange(1, len(labels) + 1, dtype=np.int64)
    return Evidence(kind=kind, labels=list(labels), reference=counts, current=counts[::-1].copy())


def comparison(*features, shown=None):
    report = drift_report("drifted", *features)
    shown = shown or evidence()
    return Comparison(report=report, evidence={each.feature: shown for each in features})


def page(report, drawn=None, **options):
    known = {"name": "flights", "max_share": 0.3, "consecutive": 2, "window": "2013-07-01"}
    return drift_page(report, drawn or {}, **{**known, **options})


def size(png):
    assert png.startswith(b"\x89PNG")
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def words(page):
    """What a person reads; a figure that is not known is a hyphen."""
    tagless = re.sub(r"<style>.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL)
    return " ".join(html.unescape(tagless).replace("\N{EN DASH}", "-").split())


def settings():
    return {name: mpl.rcParams[name] for name in mpl.rcParams if name != "backend"}


def test_each_feature_that_drifted_has_a_picture_those_that_moved_most_first():
    features = [feature_drift(f"x{i}", psi) for i, psi in enumerate([0.1, 0.5, 0.01, None, 0.3])]
    assert [*pictures(comparison(*features))] == ["x1", "x4", "x0"]


def test_there_are_at_most_30_pictures():
    features = [feature_drift(f"x{i}", 0.2 + i / 100) for i in range(40)]
    drawn = pictures(comparison(*features))
    assert len(drawn) == 30
    assert "x39" in drawn
    assert "x9" not in drawn


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "labels",
    [
        ["missing"],
        ["a", "missing"],
        ["$x_2$", r"\alpha$", "two\nlines", "tab\t", "\x00", "目的地", "🛫", "missing"],
        ["long " * 100, AWKWARD, "", " ", "missing"],
        [f"level {i}" for i in range(500)] + ["missing"],
    ],
)
def test_a_picture_copes_with_any_label(labels):
    drawn = pictures(comparison(feature_drift(AWKWARD, 0.3), shown=evidence(labels)))
    width, height = size(drawn[AWKWARD])
    assert width < 1_000
    assert height < 2_000


def test_a_side_without_rows_has_no_bars():
    empty = replace(evidence(), current=np.zeros(3, dtype=np.int64))
    assert pictures(comparison(feature_drift("x", 0.3), shown=empty))["x"]


def test_the_same_evidence_gives_the_same_picture_and_settings_stay_as_they_were():
    before = settings()
    given = comparison(feature_drift("x", 0.3))
    assert pictures(given) == pictures(given)
    assert settings() == before


def test_the_page_shows_figures_and_pictures_and_fetches_nothing():
    features = [
        feature_drift("hour", 0.04, null_rate_delta=-0.012),
        feature_drift("origin", 0.31, p_value=1e-5, kind="categorical", unseen_rate=0.02, ks=None),
    ]
    auc = Metric(value=0.71, low=0.69, high=0.73, n=2_000)
    report = drift_report("drifted", *features, domain_auc=auc, segments=[SEGMENT], n_features=9)
    shown = page(report, {"origin": b"png"})
    text = words(shown)
    for told in (
        "0.310 0.100 < 0.001 - 0.100",
        "-1.2 pp",
        "2.0 %",
        "0.710 (0.690 to 0.730)",
        "origin = JFK stable 25 % 321 hour",
        "The 2 that moved most",
        "2013-07-01",
    ):
        assert told in text
    assert text.index("origin drifted fail") < text.index("hour stable")
    assert "data:image/png;base64,cG5n" in shown
    assert not re.search(r"""(?:src|href)=["'](?!data:)|@import|url\(""", shown)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"streak": 1}, "1 window in a row; retraining is asked for after 2"),
        ({"streak": 3, "retrain": True}, "3 windows in a row, so retraining is asked for"),
        ({"verdict": "stable"}, "still the data"),
        ({"verdict": "insufficient_data"}, "too few rows to tell drift from luck"),
    ],
)
def test_the_page_says_what_the_verdict_means(changes, told):
    report = replace(drift_report("drifted", feature_drift("x", None)), **changes)
    assert told in words(page(report))


def test_what_comes_from_the_data_is_text():
    segment = replace(SEGMENT, column=AWKWARD, value=AWKWARD, drifted=[AWKWARD])
    report = drift_report(
        "drifted", feature_drift(AWKWARD, 0.3), dataset_uri=AWKWARD, segments=[segment]
    )
    shown = page(report, {AWKWARD: b"png"}, name=AWKWARD, window=AWKWARD)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 7


def test_features_are_in_order_of_what_a_person_should_look_at():
    psis = {"small": 0.02, "most": 0.5, "few": None, "more": 0.2}
    report = drift_report("drifted", *[feature_drift(*each) for each in psis.items()])
    text = words(page(report))
    places = [text.index(f"{name} ") for name in ("most", "more", "small", "few")]
    assert all(first < second for first, second in pairwise(places))
