"""Check that a model's files stand by themselves."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlops_provider.exceptions import ModelError, ParameterError, StepFailedError
from airflow_mlops_provider.hooks.mlflow import MlflowHook
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.runtimes import LocalProcess
from airflow_mlops_provider.operators.virtualenvs import virtualenv_python
from airflow_mlops_provider.records import DatasetRef, ModelRef, ModelVersionRef

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.declared import Declared

_STEP = "artifact_answers.answer_rows"
_LAST_LINES = 15


class CheckModelArtifactOperator(MlopsOperator):
    """Load a model in a clean process, and compare its answers. Gives an ``ArtifactCheck``.

    The process has nothing of the task: no Airflow, no code beside the DAGs. A model that does
    not load or answer there fails the task for good, with the last lines of the process; one that
    answers otherwise gives a failed check, which the gate refuses.

    Args:
        model: A ``ModelRef``, a ``ModelVersionRef``, or a URI such as ``models:/name@challenger``.
        dataset: The ``DatasetRef`` of real rows to ask it for; its input example is asked too.
        n_rows: How many of them, taken evenly.
        environment: ``local``: the interpreter of the task. ``declared``: a virtualenv of the
            model's own ``requirements.txt``, made once per worker, with ``mlflow``, ``pandas``,
            ``pyarrow`` and ``fsspec`` as they are here unless it names them.
        tolerance: How far an answer may be off, absolutely and relatively.
    """

    template_fields: Sequence[str] = (
        *MlopsOperator.shared_template_fields,
        "model",
        "dataset",
        "n_rows",
        "environment",
        "tolerance",
    )
    _process: LocalProcess | None = None

    def __init__(
        self,
        *,
        model: Any,
        dataset: Any,
        n_rows: int = 200,
        environment: Literal["local", "declared"] = "local",
        tolerance: float = 1e-6,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.dataset = dataset
        self.n_rows = n_rows
        self.environment = environment
        self.tolerance = tolerance

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask the model here and there."""
        from airflow_mlops_provider.steps.artifact import ENVIRONMENTS, check_artifact
        from airflow_mlops_provider.steps.register import model_uri

        with self.tracked_run(context) as run:
            if self.environment not in ENVIRONMENTS:
                constraint = f"one of {ENVIRONMENTS}"
                raise ParameterError.of("environment", self.task_type, constraint, self.environment)
            uri = str(model_uri(run.client, _given(self.model), optional=False))
            check = check_artifact(
                uri,
                DatasetRef.from_xcom(self.dataset),
                self._ask,
                environment=self.environment,
                n_rows=int(self.n_rows),
                tolerance=float(self.tolerance),
            )
            run.log_record(check)
        self.log.info("%s: %s", uri, check)
        return check.to_xcom()

    def on_kill(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.stop()
        super().on_kill()

    def _python(self, declared: Declared) -> str:
        if self.environment == "local":
            return sys.executable
        return virtualenv_python(declared.to_install(), declared.python)

    def _ask(self, uri: str, rows: str, declared: Declared) -> Mapping[str, Any]:
        from airflow_mlops_provider.steps.remote import request_of, result_of

        hook, python = MlflowHook(self.mlflow_conn_id), self._python(declared)
        asked = (uri, rows, declared.requirements)
        request = request_of(_STEP, asked, {}, tracking_uri=hook.tracking_uri, run=None)
        last: deque[str] = deque(maxlen=_LAST_LINES)

        def say(line: str) -> None:
            last.append(line)
            self.log.info(line)

        self._process = LocalProcess(python, hook.environment, say, dag_code=False)
        try:
            answer: Mapping[str, Any] = result_of(self._process.run(request))
        except (StepFailedError, ParameterError, ModelError) as error:
            lines = "\n".join(last)
            raise ModelError(
                f"{uri} does not load and answer in a clean process of {python}: {error} "
                "Declare what it needs (pip requirements, `code_paths`) where it is trained. The "
                f"last lines of the process:\n{lines}"
            ) from error
        return answer


def _given(model: Any) -> ModelRef | str:
    if isinstance(model, str):
        return model
    if isinstance(model, Mapping) and "version" in model:
        return ModelVersionRef.from_xcom(model).model_uri
    return ModelRef.from_xcom(model)
