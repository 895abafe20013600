"""Take features online, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.operators.features import FeastOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

_PROGRESS = "materialized"


class FeastMaterializeOperator(FeastOperator):
    """Copy the newest features of a window into the online store. Gives the views' names.

    Views are materialized one after the other; in parallel by dynamic task mapping::

        FeastMaterializeOperator.partial(task_id="materialize", repo_path=REPO).expand(
            feature_views=apply.output
        )

    or ``.expand(feature_views=[["a"], ["b", "c"]])``. A run that a person or an asset started
    has no data interval: give ``start`` and ``end`` then, ``"{{ params.start }}"`` say.

    Args:
        start: First moment of the window, ISO 8601; a naive time is UTC.
        end: Last moment of the window; not in the future, whose rows are not known yet.
        feature_views: Names, or one name; by default all views that are served online.
        overlap: How much before ``start`` to look for rows that came late: seconds, or an
            ISO 8601 duration such as ``PT6H``.
        chunk: The longest piece to do at once, as ``overlap``: memory stays flat in the length
            of the window, and a retry goes on after the last piece. By default the whole window.
    """

    template_fields: Sequence[str] = (
        *FeastOperator.feast_template_fields,
        "start",
        "end",
        "feature_views",
        "overlap",
        "chunk",
    )
    _at_work = False

    def __init__(
        self,
        *,
        start: Any = "{{ data_interval_start | default('', true) }}",
        end: Any = "{{ data_interval_end | default('', true) }}",
        feature_views: Any = None,
        overlap: Any = None,
        chunk: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.start = start
        self.end = end
        self.feature_views = feature_views
        self.overlap = overlap
        self.chunk = chunk

    def execute(self, context: Context) -> list[str]:
        """Materialize view by view and piece by piece."""
        from airflow_mlops_provider.steps.features.materialize import materialize

        with self.tracked_run(context), self._stoppable():
            views = materialize(
                self.store,
                self.feature_views,
                self.start,
                self.end,
                now=datetime.now(UTC),
                overlap=self.overlap,
                chunk=self.chunk,
                done=self._earlier_try(context),
                keep=lambda done: self._keep(context, done),
            )
        self.log.info("Materialized %s from %s to %s", views, self.start, self.end)
        return views

    def on_kill(self) -> None:
        """Stop at once; as it ends, the step lets go of its locks and heals its view.

        Airflow alone would let it go on for some seconds, and commit, before it sends SIGKILL.
        """
        if self._at_work:
            raise SystemExit("Told to stop: the rest of the window was not materialized")
        super().on_kill()

    @contextmanager
    def _stoppable(self) -> Iterator[None]:
        self._at_work = True
        try:
            yield
        finally:
            self._at_work = False  # after a timeout, on_kill is called once more

    def _earlier_try(self, context: Context) -> Any:
        kept: Any = context["task_state_store"].get(_PROGRESS, {})
        return kept.get("done") if kept.get("first_try") == self._first_try(context) else None

    def _keep(self, context: Context, done: dict[str, Any]) -> None:
        kept: Any = {"first_try": self._first_try(context), "done": done}
        context["task_state_store"].set(_PROGRESS, kept)

    def _first_try(self, context: Context) -> int:
        """Return the number of the first try since the task was cleared: a clear does all anew."""
        return int(context["ti"].max_tries) - (self.retries or 0) + 1
