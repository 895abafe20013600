"""Which columns an expectation needs, and the part of a suite that needs only some."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from great_expectations.expectations.registry import get_expectation_impl

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.suites import Entry, Suite

COLUMN_SET = "expect_table_columns_to_match_set"
_COLUMN_LIST = "expect_table_columns_to_match_ordered_list"
_OF_NAMES = {
    COLUMN_SET,
    _COLUMN_LIST,
    "expect_column_to_exist",
    "expect_table_column_count_to_be_between",
    "expect_table_column_count_to_equal",
}
_OF_COUNTS = {"expect_table_row_count_to_be_between", "expect_table_row_count_to_equal"}
_COLUMN_KEYS = ("column", "column_A", "column_B")
_LIST_KEYS = ("column_list", "column_set")
_CORE = "great_expectations.expectations.core."


def of_names(entry: Entry) -> bool:
    """Tell whether an expectation looks at the names of the columns and not at their values."""
    return entry["type"] in _OF_NAMES


def columns_of(entry: Entry) -> set[str] | None:
    """Return the columns an expectation names, or None if it may look at others too.

    Queries, row conditions and expectations that are not Great Expectations' own may.
    """
    kwargs = entry["kwargs"]
    if kwargs.get("row_condition"):
        return None
    named = {kwargs[key] for key in _COLUMN_KEYS if kwargs.get(key) is not None}
    for key in _LIST_KEYS:
        named |= set(kwargs.get(key) or [])
    core = get_expectation_impl(entry["type"]).__module__.startswith(_CORE)
    proved = core and (named or entry["type"] in _OF_NAMES | _OF_COUNTS)
    return named if proved else None


def columns_read(entries: Iterable[Entry]) -> set[str] | None:
    """Return the columns whose values ``entries`` need, or None for all."""
    read: set[str] = set()
    for entry in entries:
        columns = columns_of(entry)
        if columns is None:
            return None
        read |= set() if of_names(entry) else columns
    return read


def for_columns(suite: Mapping[str, Any], columns: Collection[str]) -> Suite:
    """Return the part of a suite that needs no other columns than ``columns``.

    So one suite checks training data and what a model is served. A set or ordered list of
    columns becomes the set of those that are among ``columns``, which have to be there, and
    others may be. Counts of rows and columns, queries and row conditions are left out.

    Args:
        suite: A suite in its plain form.
        columns: Names of columns, the features of a model, say.

    Raises:
        ParameterError: nothing is left.
    """
    wanted = set(columns)
    narrowed = (_narrowed(entry, wanted) for entry in suite["expectations"])
    kept = [entry for entry in narrowed if entry is not None]
    if not kept:
        raise ParameterError(
            f"The suite {suite.get('name')!r} says nothing of the columns {sorted(wanted)[:20]} "
            "alone. Expected at least one expectation about them; name other columns, or add one."
        )
    return {**suite, "expectations": kept}


def _narrowed(entry: Entry, wanted: set[str]) -> Entry | None:
    if entry["type"] in (COLUMN_SET, _COLUMN_LIST):
        found = sorted((columns_of(entry) or set()) & wanted)
        kwargs = {"column_set": found, "exact_match": False}
        return {**entry, "type": COLUMN_SET, "kwargs": kwargs} if found else None
    columns = columns_of(entry)
    return entry if columns and columns <= wanted else None
