from __future__ import annotations

import pytest

from flights.landing import land_month


@pytest.fixture(scope="session")
def landed(tmp_path_factory):
    """A workspace in which the first three months have landed."""
    folder = str(tmp_path_factory.mktemp("landed"))
    for month in ("2013-01", "2013-02", "2013-03"):
        land_month(folder, month)
    return folder
