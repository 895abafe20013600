"""The report that a person reads about a model's behaviour."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.behaviour.check import BehaviourCheck

PAGE = "behaviour.html"
_MAX_TESTS = 200


def behaviour_page(check: BehaviourCheck) -> str:
    """Return the results as one HTML page that fetches nothing, at most 200 tests of them."""
    return render_page(
        "behaviour.html",
        report=check.report,
        tests=check.results[:_MAX_TESTS],
        n_left_out=max(0, len(check.results) - _MAX_TESTS),
    )
