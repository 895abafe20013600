"""A model card as Markdown, as a page, and as the description of a version."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from airflow_mlops_provider.steps.metadata import shortened
from airflow_mlops_provider.steps.model_card import Section, Table, sections
from airflow_mlops_provider.steps.pages import render_page

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.model_card import ModelCard

MAX_DESCRIPTION = 5_000
"""Characters that MLflow's SQL store keeps of a version's description."""
_ROWS, _CELL, _USE = (20, 10, 5, 3, 1), 120, 1_000
_ACTIVE = re.compile(r"([\\`*_\[\]|])")


def as_markdown(card: ModelCard) -> str:
    """Return the whole card."""
    return _markdown(card, sections(card), cell=str)


def as_page(card: ModelCard) -> str:
    """Return the whole card as one HTML page that fetches nothing."""
    return render_page("model_card.html", card=card, sections=sections(card))


def as_description(card: ModelCard, url: str | None = None) -> str:
    """Return the card in at most 5,000 characters: with fewer rows in its tables.

    Args:
        card: The card.
        url: Page of the whole card.
    """
    whole = f"\n\n[The whole card]({url})" if url else ""
    room = MAX_DESCRIPTION - len(whole)
    text = ""
    for rows in _ROWS:
        brief = [_brief(section, rows) for section in sections(card)]
        text = _markdown(card, brief, cell=lambda cell: shortened(cell, _CELL))
        if len(text) <= room:
            return text + whole
    return _lines_within(text, room) + whole


def _brief(section: Section, rows: int) -> Section:
    """Keep the first rows of tables; those of facts all."""
    tables = [
        table if table.columns[0] == "" else Table(table.columns, table.rows[:rows])
        for table in section.tables
    ]
    return replace(section, text=shortened(section.text, _USE), tables=tables)


def _markdown(card: ModelCard, parts: Iterable[Section], cell: Callable[[str], str]) -> str:
    lines = [f"# {_escaped(card.version.name)}, version {card.version.version}", ""]
    for section in parts:
        lines += [f"## {section.title}", ""]
        if section.text:
            lines += [section.text if section.is_markdown else _escaped(section.text), ""]
        for table in section.tables:
            lines += [*_table(table, cell), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(table: Table, cell: Callable[[str], str]) -> Iterator[str]:
    yield f"| {' | '.join(table.columns)} |"
    yield f"|{'---|' * len(table.columns)}"
    for row in table.rows:
        cells = [_escaped(cell(each)) for each in row]
        if url := table.links.get(row[0]):
            cells[-1] = f"[{cells[-1]}]({url})"
        yield f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return _ACTIVE.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _lines_within(text: str, room: int) -> str:
    """Return as many whole lines as there is room for."""
    return text if len(text) <= room else text[: text.rfind("\n", 0, room)]
