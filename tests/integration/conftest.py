"""The whole stack with the example DAGs, for the tests that look at it from outside."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_mlops_provider.stack.local import LocalStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A running local stack whose DAGs are the examples."""
    dags = Path(__file__).resolve().parents[2] / "dags"
    with LocalStack(tmp_path_factory.mktemp("stack"), dags) as running:
        yield running
