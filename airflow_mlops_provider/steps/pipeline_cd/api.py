"""What is asked of the Airflow of an environment, over its public API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import quote

import requests

from airflow_mlops_provider.exceptions import DataError, ServiceError

_TIMEOUT_SECONDS = 60
_LONGEST = 500
_PAGE = 100


class AirflowApi:
    """One Airflow, as one user sees it.

    Args:
        url: Base URL of the API server.
        user: Name to log in with; not needed with a token.
        password: Password to log in with.
        token: Bearer token.
    """

    def __init__(self, url: str, user: str = "", password: str = "", token: str = "") -> None:
        self.url = url.rstrip("/")
        self._login = {"username": user, "password": password}
        self._token = token
        self._http = requests.Session()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Return what Airflow says of a DAG; None if it does not know it."""
        return self._call("GET", _dag(dag_id))

    def import_errors(self, bundle: str) -> dict[str, str]:
        """Return the stack trace of each DAG file of a bundle that cannot be imported."""
        found: list[dict[str, Any]] = []
        while True:
            page = {"limit": _PAGE, "offset": len(found)}
            told = self._call("GET", "/api/v2/importErrors", params=page) or {}
            found += told.get("import_errors", [])
            if not told.get("import_errors") or len(found) >= told["total_entries"]:
                break
        return {
            each["filename"]: each["stack_trace"] for each in found if each["bundle_name"] == bundle
        }

    def start_run(self, dag_id: str, run_id: str, conf: Mapping[str, Any]) -> dict[str, Any]:
        """Start a run of this id, unless there is one, and return what Airflow says of it.

        Raises:
            DataError: Airflow does not know the DAG, or refuses the conf.
        """
        found = self.run(dag_id, run_id)
        if found is None:
            body = {"dag_run_id": run_id, "logical_date": None, "conf": dict(conf)}
            self._call("POST", f"{_dag(dag_id)}/dagRuns", json=body, may_conflict=True)
            found = self.run(dag_id, run_id)
        if found is None:
            raise DataError(f"The Airflow at {self.url} has no DAG {dag_id!r} to run. Correct it.")
        return found

    def run(self, dag_id: str, run_id: str) -> dict[str, Any] | None:
        """Return what Airflow says of a run; None if there is none."""
        return self._call("GET", _run(dag_id, run_id))

    def failed_tasks(self, dag_id: str, run_id: str) -> list[str]:
        """Return the ids of the tasks of a run that failed, at most a page of them."""
        params = {"state": "failed", "limit": _PAGE}
        told = self._call("GET", f"{_run(dag_id, run_id)}/taskInstances", params=params) or {}
        return sorted({each["task_id"] for each in told.get("task_instances", [])})

    def result(self, dag_id: str, run_id: str, task_id: str) -> Any:
        """Return what a task returned; None if it returned nothing."""
        path = f"{_run(dag_id, run_id)}/taskInstances/{quote(task_id, safe='')}"
        told = self._call("GET", f"{path}/xcomEntries/return_value", params={"stringify": "false"})
        return told["value"] if told else None

    def _call(
        self, method: str, path: str, *, may_conflict: bool = False, **kwargs: Any
    ) -> dict[str, Any] | None:
        """Return the answer; None if there is no such thing, or if it is there already.

        Raises:
            ServiceError: the server does not answer, or has an error.
            DataError: it refuses the user, or the request.
        """
        if not self._token:
            self._token = self._new_token()
        response = self._send(method, path, **kwargs)
        if response.status_code == requests.codes.unauthorized and self._login["username"]:
            self._token = self._new_token()  # it had expired
            response = self._send(method, path, **kwargs)
        if response.status_code == requests.codes.not_found:
            return None
        if response.status_code == requests.codes.conflict and may_conflict:
            return None
        return self._checked(response)

    def _new_token(self) -> str:
        return str(
            self._checked(self._send("POST", "/auth/token", json=self._login))["access_token"]
        )

    def _send(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        try:
            return self._http.request(
                method, self.url + path, headers=headers, timeout=_TIMEOUT_SECONDS, **kwargs
            )
        except requests.RequestException as error:
            raise ServiceError(
                f"The Airflow at {self.url} did not answer {method} {path} "
                f"({type(error).__name__}). Check that it runs, and its Connection."
            ) from error

    def _checked(self, response: requests.Response) -> dict[str, Any]:
        if response.ok:
            return dict(response.json())
        asked = f"{response.request.method} {response.request.path_url}"
        said = f"{self.url} answered {response.status_code} to {asked}: {response.text[:_LONGEST]}"
        if response.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
            raise DataError(f"{said}. Check login and rights of the environment's Connection.")
        if response.status_code < requests.codes.server_error:
            raise DataError(f"{said}. Correct the environment's `dag_id` or `conf`.")
        raise ServiceError(said)


def _dag(dag_id: str) -> str:
    return f"/api/v2/dags/{quote(dag_id, safe='')}"


def _run(dag_id: str, run_id: str) -> str:
    return f"{_dag(dag_id)}/dagRuns/{quote(run_id, safe='')}"
