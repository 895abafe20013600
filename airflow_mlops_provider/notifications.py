"""Texts for people, for any Airflow notifier: what happened, in one subject and a few lines.

``told(event)`` gives the texts as Jinja templates for a notifier's templated fields, and
``when(event, notifier)`` a callback that calls the notifier only if the event happened, with the
task's record as ``record``::

    note = told("model_promoted")
    PromoteModelOperator(
        task_id="promote",
        on_success_callback=when(
            "model_promoted",
            SmtpNotifier(to="ml@example.org", subject=note.subject, html_content=note.html),
        ),
        ...,
    )
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import ParameterError

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, Context

Event = Literal[
    "data_stopped", "drift", "degraded", "gate_refused", "rolled_back", "model_promoted"
]


@dataclass(frozen=True)
class Note:
    """A message as Jinja templates, to be rendered with the task's context and ``record``."""

    subject: str
    text: str
    """Several lines, for chats."""

    @property
    def html(self) -> str:
        """The text for a mail; what tasks found is shown as it is, never as HTML."""
        return f"<pre>{{% filter forceescape %}}{self.text}{{% endfilter %}}</pre>"


def told(event: Event) -> Note:
    """Return the texts about an event.

    Raises:
        ParameterError: there is no such event.
    """
    return _known(event).note


def when(event: Event, notifier: BaseNotifier) -> Callable[[Context], None]:
    """Return a task's callback that calls ``notifier`` only if ``event`` happened.

    On success for ``drift``, ``degraded`` and ``model_promoted``, on failure for ``data_stopped``;
    ``gate_refused`` and ``rolled_back`` can be either.

    Args:
        event: What is waited for.
        notifier: Any Airflow notifier; its templates know ``record``, what the task gave.

    Raises:
        ParameterError: there is no such event.
    """
    known = _known(event)

    def notify(context: Context) -> None:
        record = _record(context, known.key)
        if known.happened(record):
            told_of: Any = {**context, "record": record}
            notifier(told_of)

    return notify


@dataclass(frozen=True)
class _Event:
    note: Note
    happened: Callable[[Mapping[str, Any]], bool]
    key: str = "return_value"
    """XCom key of the task's record."""


def _record(context: Context, key: str) -> Mapping[str, Any]:
    ti: Any = context["ti"]
    record = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key=key)
    return record if isinstance(record, Mapping) else {}


def _known(event: str) -> _Event:
    if event not in _EVENTS:
        raise ParameterError.of("event", "notifications", f"one of {sorted(_EVENTS)}", event)
    return _EVENTS[event]


def _signals(record: Mapping[str, Any], signal: str) -> bool:
    return signal in (record.get("signals") or [])


_RUN = "\n{{ ti.dag_id }} · {{ ti.run_id }} · {{ ti.task_id }}\n{{ ti.log_url }}"
_REASONS = "{% for reason in record.reasons %}\n- {{ reason }}{% endfor %}"
_CHECKS = (
    "{% for reason in record.reasons %}\n- {{ 'ok' if reason.passed else 'NO' }} "
    "{{ reason.check }}: {{ reason.detail }} (n={{ reason.n }}){% endfor %}"
)
_FEATURES = (
    "{% for feature in record.features if feature.status == 'drifted' %}\n- {{ feature.feature }}"
    "{% endfor %}"
)

_EVENTS: Mapping[str, _Event] = {
    "data_stopped": _Event(
        Note(
            "Data stopped: {{ record.suite }}",
            "The data of {{ record.dataset_uri }} does not have the shape that the suite "
            "{{ record.suite }} demands: {{ record.n_failed }} of {{ record.n_expectations }} "
            "expectations do not hold, {{ record.n_errored }} could not be evaluated. Nothing "
            f"uses it until somebody looked.{_RUN}",
        ),
        lambda record: record.get("outcome") == "stop",
        key="report",
    ),
    "drift": _Event(
        Note(
            "Drift: {{ record.get('endpoint') or record.dataset_uri }}",
            "The inputs of {{ record.get('endpoint') or record.dataset_uri }} moved."
            f"{{% if record.get('reasons') %}}{_REASONS}{{% else %}}{_FEATURES}{{% endif %}}{_RUN}",
        ),
        lambda record: _signals(record, "drift") or record.get("verdict") == "drifted",
    ),
    "degraded": _Event(
        Note(
            "Degraded: {{ record.endpoint }}",
            "The model of {{ record.endpoint }} is worse than it promised, on "
            f"{{{{ record.n_labelled }}}} labelled predictions.{_REASONS}{_RUN}",
        ),
        lambda record: _signals(record, "performance"),
    ),
    "gate_refused": _Event(
        Note(
            "Refused: {{ record.challenger_uri }}",
            "The gate refused {{ record.challenger_uri }}; the champion "
            f"{{{{ record.champion_uri or '(none)' }}}} goes on.{_CHECKS}{_RUN}",
        ),
        lambda record: record.get("outcome") == "refused",
    ),
    "rolled_back": _Event(
        Note(
            "Rolled back: {{ record.endpoint or record.champion_uri }}",
            "{% if record.get('candidate') %}The rollout of {{ record.candidate }} on "
            "{{ record.endpoint }} ended {{ record.state }}: {{ record.reason }}"
            "{% else %}{{ record.champion_uri }} gave way to {{ record.previous_uri }}."
            f"{_CHECKS}{{% endif %}}{_RUN}",
        ),
        lambda record: (
            record.get("outcome") == "rolled_back"
            or str(record.get("state")) in ("ROLLED_BACK", "ROLLBACK_FAILED")
        ),
    ),
    "model_promoted": _Event(
        Note(
            "Champion: {{ record.name }} version {{ record.version }}",
            f"Version {{{{ record.version }}}} of {{{{ record.name }}}} is champion now.{_RUN}",
        ),
        lambda record: "champion" in (record.get("aliases") or []),
    ),
}
