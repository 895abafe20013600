from __future__ import annotations

import re

import pandas as pd

from airflow_mlops_provider.steps.data_docs import data_docs_page
from airflow_mlops_provider.steps.validate import validate


def page(frame, tmp_path, *entries):
    suite = {"expectations": [*entries]}
    return data_docs_page(validate(frame, suite, suite_name="flights", workspace=str(tmp_path)))


def entry(kind, **kwargs):
    return {"type": f"expect_{kind}", "kwargs": kwargs, "severity": "critical"}


def test_the_page_tells_failed_from_errored_and_fetches_nothing(tmp_path):
    html = page(
        pd.DataFrame({"n": [1, 2]}),
        tmp_path,
        entry("column_max_to_be_between", column="n", max_value=1),
        entry("column_max_to_be_between", column="nonsense", max_value=1),
        entry("column_to_exist", column="n"),
    )
    titles = re.findall("<h2>(.*?)</h2>", html)
    assert titles == ["Failed", "Could not be evaluated", "Passed"]
    assert "n maximum value must be less than or equal to 1" in html
    assert not re.search("https?://|<script|<link", html)


def test_values_and_names_are_text(tmp_path):
    frame = pd.DataFrame({"<b>n</b>": ["<script>alert(1)</script>", "größe ☃"]})
    html = page(
        frame, tmp_path, entry("column_values_to_be_in_set", column="<b>n</b>", value_set=["<i>"])
    )
    assert not re.search("<script|<b>|<i>", html)
    assert "größe ☃" in html


def test_the_page_is_bounded(tmp_path):
    levels = [f"level {number}" * 10 for number in range(10_000)]
    entries = [
        entry("column_values_to_be_in_set", column="n", value_set=[str(number), *levels])
        for number in range(5)
    ]
    many = [entry("column_to_exist", column=f"c{number}") for number in range(600)]
    html = page(pd.DataFrame({"n": [f"{number}" * 99 for number in range(99)]}), tmp_path, *entries)
    assert len(html) < 100_000
    html = page(pd.DataFrame({"n": [1]}), tmp_path, *many)
    assert "100 more are only in the report" in html
    assert len(html) < 500_000
