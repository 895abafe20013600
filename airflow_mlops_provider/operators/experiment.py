"""What A/B test and bandit share: where exposures and outcomes come from, and looks at them."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_mlops_provider.exceptions import ParameterError, ServiceError
from airflow_mlops_provider.operators.rollout.base import RolloutOperator
from airflow_mlops_provider.workspace import join

if TYPE_CHECKING:
    import pandas as pd

    from airflow_mlops_provider.serving.client import ServingClient
    from airflow_mlops_provider.steps.experiment.looking import Experiment
    from airflow_mlops_provider.steps.rollout.kinds import DrivenState


class ExperimentOperator(RolloutOperator):
    """Base of the operators that read outcomes at each look; not for use in a DAG."""

    experiment_fields: ClassVar[Sequence[str]] = (
        *RolloutOperator.shared_template_fields,
        "endpoint",
        "outcomes",
        "outcomes_args",
        "sql",
        "conn_id",
        "log_folder",
        "serving_conn_id",
    )
    template_ext: Sequence[str] = (".sql",)
    outcomes: Any
    outcomes_args: Mapping[str, Any] | None
    sql: str | None
    conn_id: str | None
    log_folder: str | None

    def _kind(self) -> Experiment:
        """Return what judges the data of a look."""
        raise NotImplementedError

    def _check_outcomes(self) -> None:
        """Check where outcomes come from, before any traffic moves."""
        from airflow_mlops_provider.steps.experiment.outcomes import require_source

        caller = type(self).__name__
        if bool(self.outcomes) == bool(self.sql):
            raise ParameterError(
                f"{caller} needs exactly one of outcomes and sql. Got {self.outcomes!r} and "
                f"{self.sql!r} instead."
            )
        if self.sql and not self.conn_id:
            raise ParameterError.of("conn_id", caller, "given with sql", self.conn_id)
        if self.outcomes:
            require_source(self.outcomes, caller)

    def _work(self, client: ServingClient, plan: Any, state: Any) -> DrivenState:
        """Take the look that is due; while the host is away, the driver has the patience."""
        from airflow_mlops_provider.steps.experiment.looking import take_look

        default = join(self.workspace_uri, "serving", "logs", self.endpoint)
        try:
            return take_look(
                self._kind(),
                client,
                self.endpoint,
                plan,
                state,
                log=self.log_folder or default,
                outcomes=self._outcomes,
                rotate=not self.log_folder,
                now=time.time(),
            )
        except ServiceError as error:
            self.log.warning("The look is left to later: %s", error)
            return cast("DrivenState", state)

    def _outcomes(self, start: float, end: float) -> pd.DataFrame:
        from airflow_mlops_provider.steps.experiment.outcomes import outcome_frame, read_outcomes

        first, last = (datetime.fromtimestamp(moment, UTC) for moment in (start, end))
        if not self.sql:
            return read_outcomes(self.outcomes, start=first, end=last, arguments=self.outcomes_args)
        from airflow_mlops_provider.hooks.sql import stream_query

        assert self.conn_id  # as checked before the experiment began
        rows = stream_query(self.conn_id, self.sql, {"start": first, "end": last})
        return outcome_frame(rows, f"the query on {self.conn_id!r}")
