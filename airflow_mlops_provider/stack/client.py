"""A small client of Airflow's public API: trigger, watch, read results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import httpx

from airflow_mlops_provider.exceptions import StackUnavailableError

FINISHED = frozenset({"success", "failed"})
_POLL_SECONDS = 0.5
_TIMEOUT_SECONDS = 120
"""The first task that starts holds up the whole API server for 5 s, on a busy machine for 30."""
_PAGE = 100
"""What Airflow gives at most, by default, however much is asked for."""


class AirflowClient:
    """Airflow's API as one user sees it.

    Args:
        url: Base URL of the API server.
        user: Name of the user.
        password: Password of the user.
        transport: How requests travel; for tests.

    Raises:
        StackUnavailableError: the server refuses the login, or later an answer is an error.
    """

    def __init__(
        self, url: str, user: str, password: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._http = httpx.Client(base_url=url, timeout=_TIMEOUT_SECONDS, transport=transport)
        login = {"username": user, "password": password}
        token = self._call("POST", "/auth/token", json=login)["access_token"]
        self._http.headers["Authorization"] = f"Bearer {token}"

    def wait_for_dag(self, dag_id: str, seconds: float = 120) -> None:
        """Wait until the DAG has been parsed, and unpause it.

        Raises:
            StackUnavailableError: it was not there in time; the message shows import errors.
        """
        deadline = time.monotonic() + seconds
        path = f"/api/v2/dags/{_segment(dag_id)}"
        while self._http.get(path).status_code == httpx.codes.NOT_FOUND:
            if time.monotonic() > deadline:
                raise StackUnavailableError(
                    f"Airflow does not know the DAG {dag_id!r} after {seconds:.0f} s. Import "
                    f"errors: {self.import_errors() or 'none'}"
                )
            time.sleep(_POLL_SECONDS)
        self._call("PATCH", path, json={"is_paused": False})

    def import_errors(self) -> dict[str, str]:
        """Return the error of each DAG file that cannot be imported."""
        found = self._call("GET", "/api/v2/importErrors")["import_errors"]
        return {each["filename"]: each["stack_trace"] for each in found}

    def trigger(
        self, dag_id: str, conf: Mapping[str, Any] | None = None, logical_date: str | None = None
    ) -> str:
        """Start a run and return its id.

        Args:
            dag_id: The DAG, which has to be unpaused for the run to go on.
            conf: Values of the DAG's params.
            logical_date: ISO 8601; None for a run without a date.
        """
        body = {"logical_date": logical_date, "conf": dict(conf or {})}
        return str(self._call("POST", f"{_dag_runs(dag_id)}", json=body)["dag_run_id"])

    def runs(self, dag_id: str) -> dict[str, str]:
        """Return the state of each run by its id, oldest first."""
        found = self._listed(_dag_runs(dag_id), "dag_runs", order_by="id")
        return {run["dag_run_id"]: run["state"] for run in found}

    def wait(
        self,
        dag_id: str,
        run_id: str,
        seconds: float,
        on_change: Callable[[str, str], None] = lambda task, state: None,
    ) -> str:
        """Wait for a run to finish and return ``success`` or ``failed``.

        Args:
            dag_id: The DAG.
            run_id: The run.
            seconds: How long to wait.
            on_change: Called with task and state whenever a task's state changes.

        Raises:
            StackUnavailableError: the run goes on after ``seconds``; the message shows its tasks.
        """
        deadline = time.monotonic() + seconds
        seen: dict[str, str] = {}
        while True:
            state = str(self._call("GET", _dag_run(dag_id, run_id))["state"])
            states = self.task_states(dag_id, run_id)
            for task, task_state in states.items():
                if seen.get(task) != task_state:
                    on_change(task, task_state)
            seen = states
            if state in FINISHED:
                return state
            if time.monotonic() > deadline:
                raise StackUnavailableError(
                    f"{dag_id} {run_id} is {state} after {seconds:.0f} s; its tasks: {states}"
                )
            time.sleep(_POLL_SECONDS)

    def task_states(self, dag_id: str, run_id: str) -> dict[str, str]:
        """Return the state of each task; mapped ones are named ``task[index]``."""
        return {
            _task_name(task): task["state"] or "none"
            for task in self._task_instances(dag_id, run_id)
        }

    def xcom(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        key: str = "return_value",
        map_index: int = -1,
    ) -> Any:
        """Return an XCom value; None if there is none."""
        path = f"{_task(dag_id, run_id, task_id)}/xcomEntries/{_segment(key)}"
        response = self._http.get(path, params={"map_index": map_index, "stringify": "false"})
        if response.status_code == httpx.codes.NOT_FOUND:
            return None
        return _checked(response)["value"]

    def results(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return what each task of a run returned, without those that returned nothing."""
        values = {
            _task_name(task): self.xcom(
                dag_id, run_id, task["task_id"], map_index=task["map_index"]
            )
            for task in self._task_instances(dag_id, run_id)
        }
        return {name: value for name, value in values.items() if value is not None}

    def asset_events(self, seconds: float = 30) -> list[dict[str, Any]]:
        """Return the asset events so far, oldest first.

        The endpoint answers 500 while a run that an event triggered is still queued, so errors
        of the server are asked again for up to ``seconds``.
        """
        deadline = time.monotonic() + seconds
        while True:
            try:
                return self._listed("/api/v2/assets/events", "asset_events", order_by="timestamp")
            except StackUnavailableError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(_POLL_SECONDS)

    def log_tail(
        self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, lines: int = 20
    ) -> str:
        """Return the last lines of a task attempt's log, without the marks that fold it."""
        path = f"{_task(dag_id, run_id, task_id)}/logs/{try_number}"
        content = self._call("GET", path, params={"full_content": "true"})["content"]
        told = [line for line in map(_log_line, content) if not line.startswith("::")]
        return "\n".join(told[-lines:])

    def _task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        return self._listed(f"{_dag_run(dag_id, run_id)}/taskInstances", "task_instances")

    def _listed(self, path: str, key: str, **params: str) -> list[dict[str, Any]]:
        """Return all entries of a list, page by page."""
        entries: list[dict[str, Any]] = []
        while True:
            page = {**params, "limit": _PAGE, "offset": len(entries)}
            found = self._call("GET", path, params=page)
            entries += found[key]
            if not found[key] or len(entries) >= found["total_entries"]:
                return entries

    def _call(self, method: str, path: str, **kwargs: Any) -> dict[str, Any]:
        try:
            return _checked(self._http.request(method, path, **kwargs))
        except httpx.TransportError as error:
            raise StackUnavailableError(
                f"Airflow did not answer {method} {path} ({type(error).__name__}: {error})."
            ) from error


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        request = response.request
        raise StackUnavailableError(
            f"Airflow answered {response.status_code} to {request.method} {request.url.path}: "
            f"{response.text[:500]}"
        )
    return dict(response.json())


def _log_line(entry: Any) -> str:
    """Show one structured log entry; an exception as its type and message."""
    if not isinstance(entry, dict):
        return str(entry)
    details = [
        f"{each.get('exc_type')}: {each.get('exc_value')}" for each in entry.get("error_detail", [])
    ]
    return " ".join([str(entry.get("event", "")), *details])


def _task_name(task: Mapping[str, Any]) -> str:
    index = task["map_index"]
    return str(task["task_id"]) if index < 0 else f"{task['task_id']}[{index}]"


def _dag_runs(dag_id: str) -> str:
    return f"/api/v2/dags/{_segment(dag_id)}/dagRuns"


def _dag_run(dag_id: str, run_id: str) -> str:
    return f"{_dag_runs(dag_id)}/{_segment(run_id)}"


def _task(dag_id: str, run_id: str, task_id: str) -> str:
    return f"{_dag_run(dag_id, run_id)}/taskInstances/{_segment(task_id)}"


def _segment(name: str) -> str:
    return quote(name, safe="")
