from __future__ import annotations

import html
import re
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from airflow_mlops_provider.records import Metric, SegmentDrift
from airflow_mlops_provider.steps.drift.compare import Comparison, Evidence
from airflow_mlops_provider.steps.drift.page import drift_page, pictures
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
    drawn = {each.feature: shown for each in features}
    return Comparison(report=report, evidence=drawn, features=[], cells={})


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


def test_each_feature_that_drifted_has_a_picture():
    features = [feature_drift(f"x{i}", psi) for i, psi in enumerate([0.5, 0.3, 0.1, 0.01, None])]
    assert [*pictures(comparison(*features))] == ["x0", "x1", "x2"]


def test_the_30_that_moved_most_have_pictures():
    features = [feature_drift(f"x{i}", 0.9 - i / 100) for i in range(40)]
    assert [*pictures(comparison(*features))] == [f"x{i}" for i in range(30)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "labels",
    [
        ["missing"],
        ["a", "missing"],
        ["$x_2$", r"\alpha$", "two\nlines", "tab\t", "\x00", "目的地", "🛫", "missing"],
        ["long " * 100, AWKWARD, "", " ", "missing"],
        [f"level {i}" for i in range(22)] + ["missing"],
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
        feature_drift("origin", 0.31, p_value=1e-5, kind="categorical", unseen_rate=0.02, ks=None),
        feature_drift("hour", 0.04, null_rate_delta=-0.012),
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
        ({"share_drifted": 0.1}, "classifier tells them from reference rows, although only 10 %"),
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
