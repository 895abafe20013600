from __future__ import annotations

import pytest

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.privacy import Privacy, log_key


def test_what_is_dropped_is_gone_and_what_is_hashed_stays_equal(tmp_path):
    privacy = Privacy.of(["name"], ["id", "entity_id"], tmp_path)
    row = privacy.inputs({"name": "Ada", "id": 7, "x": 1.5})
    assert [*row] == ["id", "x"]
    assert row["x"] == 1.5
    assert row["id"] == privacy.inputs({"id": 7.0})["id"] != privacy.inputs({"id": "7"})["id"]
    assert privacy.inputs({"id": None}) == {"id": None}
    assert privacy.entity("Ada") == Privacy.of([], ["entity_id"], tmp_path).entity("Ada") != "Ada"


def test_large_numbers_keep_their_identity(tmp_path):
    privacy = Privacy.of([], ["id"], tmp_path)
    hashes = {privacy.inputs({"id": n})["id"] for n in (2**53, 2**53 + 1, 10**400, True, 1)}
    assert len(hashes) == 5


def test_without_options_nothing_is_hidden():
    row = {"x": 1}
    assert Privacy().inputs(row) is row
    assert Privacy().entity("me") == "me"
    assert Privacy(dropped=frozenset(["entity_id"])).entity("me") is None


def test_the_key_is_made_once_and_for_us_alone(tmp_path):
    first = log_key(tmp_path)
    assert log_key(tmp_path) == first
    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    (tmp_path / "other").mkdir()
    assert log_key(tmp_path / "other") != first


def test_a_name_that_is_no_input_is_refused():
    Privacy(hashed=frozenset(["x", "entity_id"])).require_known(["x"])
    with pytest.raises(ParameterError, match=r"log_drop_columns parameter .*\['nmae'\]"):
        Privacy(dropped=frozenset(["nmae"])).require_known(["name"])
