"""Where a step runs when it does not run in the task's own process; see docs/runtimes.md."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.environments import CACHE, OUTSIDE, link_package
from airflow_mlops_provider.exceptions import ParameterError, StepFailedError
from airflow_mlops_provider.operators.virtualenvs import virtualenv_python
from airflow_mlops_provider.steps.extras import required
from airflow_mlops_provider.steps.remote import lacking, requirements_of
from airflow_mlops_provider.workspace import exists, join, read_json, remove, write_json

if TYPE_CHECKING:
    from airflow.sdk import Context

_REMOTE = ["-m", "airflow_mlops_provider.steps.remote"]
_KEYS = {
    "python": {"python"},
    "requirements": {"requirements", "python_version", "cache"},
    "image": None,  # all others are arguments of KubernetesPodOperator
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_STOP_SECONDS = 2  # Airflow kills a task five seconds after it told it to end
_LAST_LINES = 15


def kind_of(runtime: Mapping[str, Any]) -> str:
    """Return ``python``, ``requirements`` or ``image``.

    Raises:
        ParameterError: none or several of them are given, or a key that does not go with it.
    """
    kinds = [kind for kind in _KEYS if kind in runtime]
    if len(kinds) != 1:
        constraint = "a dict with one of 'python', 'requirements' and 'image'"
        raise ParameterError.of("runtime", "an operator", constraint, dict(runtime))
    allowed = _KEYS[kinds[0]]
    unknown = sorted(set(runtime) - allowed) if allowed else []
    if unknown:
        constraint = f"a dict of {sorted(allowed or ())}, without {unknown}"
        raise ParameterError.of("runtime", "an operator", constraint, dict(runtime))
    return kinds[0]


def python_of(runtime: Mapping[str, Any], step: str) -> str:
    """Return the interpreter of a local runtime; its environment is made if need be.

    What ``step`` imports is added to ``requirements`` as it is installed here, but for the
    packages that are named there.
    """
    if "python" in runtime:
        python = str(runtime["python"])
        if not os.access(python, os.X_OK):
            constraint = "the path of a Python interpreter on the worker"
            raise ParameterError.of("runtime['python']", "an operator", constraint, python)
        return python
    given = list(runtime["requirements"])
    named = {_canonical(requirement) for requirement in given}
    if "mlflow-skinny" in named:
        named.add("mlflow")
    more = [each for each in requirements_of(step) if _canonical(each) not in named]
    cache = Path(runtime.get("cache") or CACHE).expanduser()
    return virtualenv_python([*given, *more], runtime.get("python_version"), cache)


def _canonical(requirement: str) -> str:
    name = _NAME.match(requirement.strip())
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else requirement


class LocalProcess:
    """A step in a process of another interpreter on this machine.

    Args:
        python: The interpreter.
        environment: Variables for it beside ours (credentials, which no file may hold).
        say: Told each line of its output as it comes.
        dag_code: Whether it can import the code beside the DAGs.
    """

    def __init__(
        self,
        python: str,
        environment: Mapping[str, str],
        say: Callable[[str], None],
        *,
        dag_code: bool = True,
    ) -> None:
        self._python = python
        self._environment = environment
        self._say = say
        self._dag_code = dag_code
        self._process: subprocess.Popen[bytes] | None = None
        self._ending: threading.Thread | None = None

    def run(self, request: Mapping[str, Any]) -> Any:
        """Call the step of ``request`` there and return the answer.

        Raises:
            ParameterError: the environment lacks what it takes to read a request.
            StepFailedError: the process ended without an answer.
        """
        with tempfile.TemporaryDirectory(prefix="airflow-mlops-") as folder:
            asked, answer = f"{folder}/request.json", f"{folder}/answer.json"
            write_json(asked, request)
            last = self._follow([*_REMOTE, asked, answer, "--with-parent"], folder)
            if exists(answer):
                return read_json(answer)
        raise self._failure(last)

    def stop(self) -> None:
        """End the process and its children: ask first, kill after 2 seconds."""
        if self._process is None or self._ending is None:
            return
        self._signal(signal.SIGTERM)
        self._ending.join(_STOP_SECONDS)
        self._signal(signal.SIGKILL)

    def _follow(self, arguments: list[str], folder: str) -> str:
        """Run the interpreter, pass its output on line by line, and return the last lines."""
        self._process = subprocess.Popen(  # noqa: S603 - the interpreter is the author's
            [self._python, *arguments],
            stdin=subprocess.PIPE,  # closes when we die, which ends the process
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**_environment(folder, self._dag_code), **self._environment},
            start_new_session=True,
        )
        self._ending = threading.Thread(target=self._end_group, daemon=True)
        self._ending.start()
        last: deque[str] = deque(maxlen=_LAST_LINES)
        assert self._process.stdout is not None
        try:
            for line in self._process.stdout:
                last.append(line.decode(errors="replace").rstrip())
                self._say(last[-1])
        except BaseException:
            self.stop()
            raise
        self._ending.join()
        return "\n".join(last)

    def _end_group(self) -> None:
        """Kill the children that the process leaves behind, which would hold its output open."""
        assert self._process is not None
        self._process.wait()
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _failure(self, last: str) -> Exception:
        assert self._process is not None
        code = self._process.returncode
        if code >= 0:
            if missing := re.search(r"^ModuleNotFoundError: (.*)$", last, re.MULTILINE):
                return lacking(missing[1])
            return StepFailedError(
                f"The step's process {self._python} ended with exit code {code} and no answer. "
                f"Its last lines:\n{last}"
            )
        name = signal.Signals(-code).name
        hint = ""
        if -code == signal.SIGKILL:
            hint = " Often that is the kernel, out of memory: give the task more, or less data."
        return StepFailedError(
            f"The step's process {self._python} was killed by {name}.{hint} Its last lines:\n{last}"
        )


def _environment(folder: str, dag_code: bool) -> dict[str, str]:
    """Return our environment, with this very package and perhaps the code of the DAGs to import."""
    link_package(Path(folder))
    paths = os.pathsep.join([folder, *(_code_folders() if dag_code else ())])
    given = {**os.environ, **OUTSIDE, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"}
    return {name: value for name, value in given.items() if value is not None}


def _code_folders() -> list[str]:
    """Return where we import code from that is neither Python's nor installed (the DAGs)."""
    library = os.path.dirname(os.__file__)
    return [
        path
        for path in sys.path
        if os.path.isdir(path)
        and not path.startswith(library)
        and not {"site-packages", "dist-packages"} & set(Path(path).parts)
    ]


class Pod:
    """A step in a pod of Kubernetes, by Airflow's own ``KubernetesPodOperator``.

    Args:
        task_id: Of the task that runs it.
        arguments: Of ``KubernetesPodOperator``, ``image`` among them.
        workspace: Where request and answer lie; the pod has to reach it by the same URI.
    """

    def __init__(self, task_id: str, arguments: Mapping[str, Any], workspace: str) -> None:
        self._task_id = task_id
        self._arguments = arguments
        self._folder = join(workspace, "exchange", uuid.uuid4().hex)
        self._pod: Any = None

    def run(self, request: Mapping[str, Any], context: Context) -> Any:
        """Call the step of ``request`` there and return the answer.

        Raises:
            ParameterError: the pod cannot work as it is described.
            StepFailedError: the pod ended without an answer.
        """
        if (store := str(request["tracking_uri"])).startswith("sqlite"):
            constraint = "that of a server which the pod reaches; the embedded store is none"
            raise ParameterError.of("mlflow_conn_id", "a runtime with an image", constraint, store)
        asked, answer = join(self._folder, "request.json"), join(self._folder, "answer.json")
        self._pod = self._operator([*_REMOTE, asked, answer])
        write_json(asked, request)
        try:
            self._pod.execute(context)
            if exists(answer):
                return read_json(answer)
        finally:
            remove(self._folder)
        raise StepFailedError(
            f"The pod of {self._arguments['image']} ended well, but wrote no answer to {answer}. "
            "Check that its container reaches the workspace by this URI."
        )

    def stop(self) -> None:
        """Delete the pod."""
        if self._pod is not None:
            self._pod.on_kill()

    def _operator(self, command: list[str]) -> Any:
        pods = required(
            "airflow.providers.cncf.kubernetes.operators.pod",
            "kubernetes",
            "to run a step in a pod",
        )
        given = {"task_id": self._task_id, "cmds": ["python"], **self._arguments}
        return pods.KubernetesPodOperator(**given | {"arguments": command, "deferrable": False})
