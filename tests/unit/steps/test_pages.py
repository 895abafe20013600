from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from airflow_mlops_provider.steps import pages

TEMPLATES = {"page.html": "{{ name }} {{ picture | data_uri }}"}


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    from jinja2 import DictLoader

    environment = pages._environment().overlay(loader=DictLoader(TEMPLATES))
    monkeypatch.setattr(pages, "_environment", lambda: environment)


def test_values_are_text_and_pictures_lie_in_the_page():
    page = pages.render_page("page.html", name="<script>", picture=b"png")
    assert page == "&lt;script&gt; data:image/png;base64,cG5n"


def test_a_value_that_was_forgotten_is_told():
    with pytest.raises(UndefinedError, match="name"):
        pages.render_page("page.html", picture=b"png")
