"""``/mlops/rollouts``: every rollout, and of each one its state, weights and evidence over time.

What is shown is the document that the rollout keeps on its serving host. It is read with
leniency: a host of another version may have written it, and any key may be missing.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowNotFoundException
from fastapi import APIRouter
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from airflow_mlops_provider.exceptions import MlopsError, PermanentError
from airflow_mlops_provider.hooks.serving import ServingHook
from airflow_mlops_provider.steps.rollout.kinds import ENDED
from airflow_mlops_provider.ui.evidence import NOTHING, charts_of, entries_of, number, shown

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.client import ServingClient

router = APIRouter()

_TONES = {
    "SUCCEEDED": "good",
    "ROLLED_BACK": "bad",
    "ROLLBACK_FAILED": "bad",
    "PAUSED": "warn",
    "AWAIT_APPROVAL": "warn",
}
_KINDS = {"ab_test": "A/B test", "blue_green": "blue-green rollout"}
N_COLOURS = 4
_FAILED = {True: 404, False: 503}
_HIDDEN = ("t", "state", "weight", "since")
_SHARES = (("candidate", "requests", "errors"), ("champion", "requests", "errors"))


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A rollout as the pages show it."""

    endpoint: str
    state: str = ""
    tone: str = "quiet"
    """Of the state's badge."""
    running: bool = False
    kind: str = "rollout"
    candidate: str = ""
    champion: str = ""
    reason: str = ""
    since: str = ""
    traffic: Mapping[str, int] = field(default_factory=dict)
    mirror: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    """Why nothing can be told of it."""

    @property
    def colours(self) -> dict[str, int]:
        """The colour of each deployment: the candidate's the first, the champion's the second."""
        names = dict.fromkeys([self.candidate, self.champion, *sorted(self.traffic)])
        return {name: place % N_COLOURS for place, name in enumerate(filter(None, names))}

    @classmethod
    def of(cls, ref: Any, document: Mapping[str, Any] | None, now: float) -> Shown:
        """Return what an endpoint and its rollout's document say."""
        known = document or {}
        state = str(known.get("state") or "")
        return cls(
            endpoint=ref.endpoint,
            state=state,
            tone=_TONES.get(state, "busy") if state else "quiet",
            running=bool(state) and state not in ENDED,
            kind=_KINDS.get(str(known.get("kind")), str(known.get("kind") or "rollout")),
            candidate=str(known.get("candidate") or ""),
            champion=str(known.get("champion") or ""),
            reason=str(known.get("reason") or ""),
            since=_since(number(known.get("since")), now),
            traffic=ref.traffic,
            mirror=ref.mirror_traffic,
        )


@router.get("/rollouts")
def rollouts(connection: str = ServingHook.default_conn_name) -> HTMLResponse:
    """List the endpoints of a serving host with their rollouts."""
    now = time.time()
    found: list[Shown] = []
    try:
        with _client(connection) as client:
            for ref in client.list_endpoints():
                found.append(Shown.of(ref, client.get_rollout(ref.endpoint), now))  # noqa: PERF401 - a host that goes away keeps what was found
    except (MlopsError, AirflowNotFoundException, OSError) as error:
        return _page("rollouts.html", _status(error), connection, rows=found, problem=str(error))
    return _page("rollouts.html", 200, connection, rows=found, problem="")


@router.get("/rollouts/{endpoint}")
def rollout(endpoint: str, connection: str = ServingHook.default_conn_name) -> HTMLResponse:
    """Show the rollout of one endpoint."""
    now = time.time()
    try:
        with _client(connection) as client:
            ref, document = client.get_state(endpoint), client.get_rollout(endpoint)
    except (MlopsError, AirflowNotFoundException, OSError) as error:
        about = Shown(endpoint=endpoint, problem=str(error))
        running = not isinstance(error, PermanentError)
        return _page(
            "rollout.html", _status(error), connection, about=about, running=running, **_NOTHING
        )
    about = Shown.of(ref, document, now)
    entries = entries_of(document or {})
    return _page(
        "rollout.html",
        200,
        connection,
        about=about,
        running=about.running,
        charts=charts_of(entries, about.colours),
        latest=_latest(entries, document or {}),
        steps=_table((document or {}).get("steps")),
    )


_NOTHING: dict[str, Any] = {"charts": [], "latest": [], "steps": ([], [])}


@contextmanager
def _client(connection: str) -> Iterator[ServingClient]:
    """Give a client of a serving host; no other Connection's secrets are sent anywhere."""
    hook = ServingHook(connection)
    if connection != ServingHook.default_conn_name:
        kind = hook.get_connection(connection).conn_type
        if kind != ServingHook.conn_type:
            raise AirflowNotFoundException(f"{connection!r} is no Connection of a serving host")
    with hook.get_conn() as client:
        yield client


def _status(error: Exception) -> int:
    return _FAILED[isinstance(error, PermanentError | AirflowNotFoundException)]


def _page(template: str, status: int, connection: str, **values: Any) -> HTMLResponse:
    asked = "" if connection == ServingHook.default_conn_name else connection
    html = _environment().get_template(template).render(connection=asked, **values)
    return HTMLResponse(html, status_code=status, headers={"cache-control": "no-store"})


def _latest(
    entries: Sequence[Mapping[str, Any]], document: Mapping[str, Any]
) -> list[tuple[str, str]]:
    """Return the newest figures, named and worded."""
    newest = dict(entries[-1]) if entries else {}
    seen = document.get("figures_seen")
    if isinstance(seen, Mapping):
        newest |= seen
    return [
        (_worded(name), shown(value))
        for name, value in newest.items()
        if name not in _HIDDEN and value is not None
    ]


def _table(steps: Any) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of the steps that are done."""
    known = [step for step in steps or () if isinstance(step, Mapping)]
    rows = [_row(step) for step in known]
    heads = list(dict.fromkeys(name for row in rows for name in row))
    return heads, [[row.get(head, NOTHING) for head in heads] for row in rows]


def _row(step: Mapping[str, Any]) -> dict[str, str]:
    left = dict(step)
    row = {}
    if "state" in left:
        row["state"] = shown(left.pop("state"))
    if "weight" in left:
        row["weight"] = f"{shown(left.pop('weight'))} %"
    if (seconds := number(left.pop("seconds", None))) is not None:
        row["took"] = _duration(seconds)
    for side, requests, errors in _SHARES:
        names = f"{side}_{errors}", f"{side}_{requests}"
        if all(name in left for name in names):
            row[f"{side}: errors of requests"] = " of ".join(shown(left.pop(n)) for n in names)
    return row | {_worded(name): shown(value) for name, value in left.items()}


def _worded(name: str) -> str:
    return str(name).replace("_", " ").replace("e value", "e-value")


def _since(moment: float | None, now: float) -> str:
    if moment is None:
        return ""
    try:
        at = datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return ""
    return f"{at}, {_duration(max(now - moment, 0))} ago"


def _duration(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("airflow_mlops_provider.ui", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
