"""CD of a pipeline: promote a published version to an environment, check it, roll it back.

These tasks open no MLflow run: a roll-back must not need one more service. What happened is in the
ledger of the repository.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseOperator, conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_mlops_provider.exceptions import PipelineStageError
from airflow_mlops_provider.hooks.airflow_api import AirflowApiHook
from airflow_mlops_provider.operators.base import failing_for_good
from airflow_mlops_provider.records import (
    PipelineEnvironment,
    PipelinePromotion,
    PublishedPipeline,
)
from airflow_mlops_provider.triggers.pipeline_cd import EnvironmentTrigger, look

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.steps.pipeline_cd.ledger import Ledger


class EnvironmentOperator(BaseOperator):
    """Base of what works on one environment; not for use in a DAG.

    Args:
        environment: The ``PipelineEnvironment``.
        variables: Environment variables that git gets beside the worker's ``PATH``, ``HOME`` and
            settings of proxies, git and ssh.
        poke_interval: Seconds between two looks at the environment's Airflow.
        timeout_seconds: How long to wait for it; then the task fails for good.
        deferrable: Wait in the triggerer, without a worker slot.
    """

    shared_template_fields: ClassVar[Sequence[str]] = (
        "environment",
        "variables",
        "poke_interval",
        "timeout_seconds",
    )
    template_fields: Sequence[str] = shared_template_fields
    ui_color = "#e8f4fa"

    def __init__(
        self,
        *,
        environment: Any,
        variables: dict[str, str] | None = None,
        poke_interval: float | str = 10,
        timeout_seconds: float | str = 1800,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.environment = environment
        self.variables = variables
        self.poke_interval = poke_interval
        self.timeout_seconds = timeout_seconds
        self.deferrable = deferrable

    @contextmanager
    def ledger(self, environment: PipelineEnvironment) -> Iterator[Ledger]:
        """Give what moves the environment's ref, in a clone that goes away."""
        from airflow_mlops_provider.steps.pipeline_cd.ledger import Ledger
        from airflow_mlops_provider.steps.pipeline_ci.rooms import passed_on

        variables = {**passed_on(os.environ), **(self.variables or {})}
        with TemporaryDirectory(prefix="mlops-cd-") as folder:
            yield Ledger(environment, Path(folder), variables)

    def wait_for(
        self,
        environment: PipelineEnvironment,
        question: str,
        arguments: dict[str, Any],
        then: Callable[..., Any],
        **kept: Any,
    ) -> Any:
        """Wait, here or in the triggerer, and go on with ``then(context, event, **kept)``."""
        given = environment.to_xcom()
        seconds, until = float(self.poke_interval), time.time() + float(self.timeout_seconds)
        if self.deferrable:
            trigger = EnvironmentTrigger(
                environment=given,
                question=question,
                arguments=arguments,
                poke_interval=seconds,
                until=until,
            )
            self.defer(trigger=trigger, method_name=then.__name__, kwargs=kept)
        answer = look(given, question, arguments)
        while answer.waits_for is not None:
            if time.time() >= until:
                raise PipelineStageError(f"Waited in vain: {answer.waits_for}.")
            self.log.info("Waiting: %s", answer.waits_for)
            time.sleep(seconds)
            answer = look(given, question, arguments)
        return then(None, {"found": answer.found}, **kept)


class PromotePipelineOperator(EnvironmentOperator):
    """Move the ref that an environment follows to a version. Gives a ``PipelinePromotion``.

    By compare-and-set (``git push --force-with-lease --atomic``), together with a ledger under
    ``refs/mlops/environments/NAME``. A version that is there already is left there, so a retry
    goes on. If the ref was moved by hand since, or by another promotion meanwhile, the task fails
    for good, and says who made the commit it is at. Nothing is moved unless the environment's
    Airflow answers.

    Args:
        version: The ``PublishedPipeline``.
        expected: Commit that the ref is known to have been moved to by hand.
    """

    template_fields: Sequence[str] = (
        *EnvironmentOperator.shared_template_fields,
        "version",
        "expected",
    )

    def __init__(self, *, version: Any, expected: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version
        self.expected = expected

    def execute(self, context: Context) -> dict[str, Any]:
        """Look at the environment's Airflow, and move the ref."""
        from airflow_mlops_provider.steps.pipeline_cd.promote import promote_pipeline

        with failing_for_good():
            environment = PipelineEnvironment.from_xcom(self.environment)
            version = PublishedPipeline.from_xcom(self.version)
            with AirflowApiHook(environment.airflow_conn_id).get_conn() as api:
                errors = api.import_errors(environment.bundle)
            with self.ledger(environment) as ledger:
                promotion = promote_pipeline(
                    ledger,
                    environment,
                    version,
                    by=_run_of(context),
                    at=_now(),
                    expected=self.expected or None,
                    known_errors=sorted(errors),
                )
        self.log.info("%s follows %s", environment.name, promotion.commit)
        return promotion.to_xcom()


class WaitForDagVersionOperator(EnvironmentOperator):
    """Wait until an environment's Airflow serves a promoted commit. Gives its bundle and version.

    New runs of the environment's DAG then get this commit; those that are active finish on the one
    they started with. A DAG file that can no longer be imported fails the task for good.

    Args:
        promotion: The ``PipelinePromotion``.
    """

    template_fields: Sequence[str] = (*EnvironmentOperator.shared_template_fields, "promotion")

    def __init__(self, *, promotion: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.promotion = promotion

    def execute(self, context: Context) -> Any:
        """Look, and wait."""
        with failing_for_good():
            promotion = PipelinePromotion.from_xcom(self.promotion)
            return self.wait_for(
                PipelineEnvironment.from_xcom(self.environment),
                "served",
                {"commit": promotion.commit, "known_errors": promotion.known_errors},
                self.execute_complete,
            )

    def execute_complete(self, context: Context | None, event: dict[str, Any]) -> Any:
        """Note that the commit is served, or why it is not."""
        found = _found(event)
        self.log.info("Served: %s", found)
        return found


class CheckPipelineRunOperator(EnvironmentOperator):
    """Run a promoted pipeline once in its environment, and judge it. Gives a ``PipelineRunCheck``.

    The run has to succeed, and the metrics that the environment has bounds for have to be finite
    and within. If not, the task fails for good. A retry judges the run that is there.

    Args:
        promotion: The ``PipelinePromotion``, which is served.
    """

    template_fields: Sequence[str] = (*EnvironmentOperator.shared_template_fields, "promotion")

    def __init__(self, *, promotion: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.promotion = promotion

    def execute(self, context: Context) -> Any:
        """Start the run, and wait for its end."""
        from airflow_mlops_provider.steps.pipeline_cd.watch import start_check

        with failing_for_good():
            environment = PipelineEnvironment.from_xcom(self.environment)
            promotion = PipelinePromotion.from_xcom(self.promotion)
            with AirflowApiHook(environment.airflow_conn_id).get_conn() as api:
                run_id = start_check(api, environment, promotion)
            return self.wait_for(
                environment,
                "finished",
                {"commit": promotion.commit, "run_id": run_id},
                self.execute_complete,
            )

    def execute_complete(self, context: Context | None, event: dict[str, Any]) -> Any:
        """Note how the run ended."""
        found = _found(event)
        self.log.info("Checked: %s", found)
        return found


class RollbackPipelineOperator(EnvironmentOperator):
    """Move an environment's ref back to where it was, and wait until that is served.

    Gives the ``PipelinePromotion`` of the move back. Only what this DAG run has moved is moved
    back, and not over a move by hand; if there is nothing of it, the task is skipped. Give it the
    trigger rule ``one_failed``.

    Args:
        version: The ``PublishedPipeline`` that failed.
    """

    template_fields: Sequence[str] = (*EnvironmentOperator.shared_template_fields, "version")

    def __init__(self, *, version: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version

    def execute(self, context: Context) -> Any:
        """Move the ref back, and wait."""
        from airflow_mlops_provider.steps.pipeline_cd.promote import roll_back_pipeline

        with failing_for_good():
            environment = PipelineEnvironment.from_xcom(self.environment)
            if self.version is None:
                raise AirflowSkipException("There was no version to promote.")
            version = PublishedPipeline.from_xcom(self.version)
            with self.ledger(environment) as ledger:
                moved = roll_back_pipeline(
                    ledger, environment, version, by=_run_of(context), at=_now()
                )
            if moved is None:
                raise AirflowSkipException(f"This run has not moved {environment.ref}.")
            self.log.info("%s was moved back to %s", environment.ref, moved.commit)
            return self.wait_for(
                environment,
                "served",
                {"commit": moved.commit, "known_errors": None},
                self.execute_complete,
                moved=moved.to_xcom(),
            )

    def execute_complete(
        self, context: Context | None, event: dict[str, Any], moved: dict[str, Any]
    ) -> dict[str, Any]:
        """Note that the earlier version is served again."""
        self.log.info("Served again: %s", _found(event))
        return moved


def _found(event: dict[str, Any]) -> Any:
    if "error" in event:
        raise AirflowFailException(" ".join(event["error"].split()))
    return event["found"]


def _run_of(context: Context) -> str:
    return f"{context['ti'].dag_id} {context['ti'].run_id}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
