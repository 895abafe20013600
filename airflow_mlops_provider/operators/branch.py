"""Go on with the tasks that belong to the outcome of a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BranchMixIn
from airflow.sdk.bases.xcom import BaseXCom

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.operators.base import MlopsOperator, failing_for_good

if TYPE_CHECKING:
    from airflow.sdk import Context


class BranchOnOutcome(MlopsOperator, BranchMixIn):
    """Skips the tasks directly downstream that ``follow`` does not name for the outcome.

    Stands before an operator among the bases of a class, which takes and documents ``follow``,
    makes it a template field, and says where the outcome is to be found. What the operator's
    ``execute`` returns stays the XCom value.
    """

    inherits_from_skipmixin = True
    outcome_field: ClassVar[str]
    """The field of the operator's record that holds the outcome."""
    outcomes: ClassVar[Sequence[str]]
    """All values of that field."""
    follow: Mapping[str, str | Sequence[str]]

    def execute(self, context: Context) -> Any:
        """Run the operator, then skip what does not belong to the outcome.

        Raises:
            AirflowFailException: ``follow`` names an outcome or a task that does not exist, or
                has no entry for the outcome that came.
        """
        with failing_for_good():
            targets = {outcome: self._targets(outcome) for outcome in self.follow}
        record = super().execute(context)  # of the operator that stands behind us
        outcome = self.outcome_of(record)
        with failing_for_good():
            if outcome not in targets:
                raise ParameterError(
                    f"The outcome is {outcome!r}, and the follow parameter of "
                    f"{type(self).__name__} has entries only for {sorted(targets)}. Name the "
                    "tasks to go on with for it as well."
                )
        if self.do_xcom_push:  # skipping tasks ends the task by an exception, without its value
            context["ti"].xcom_push(key=BaseXCom.XCOM_RETURN_KEY, value=record)
        self.do_branch(context, targets[outcome])
        return record

    def outcome_of(self, record: Mapping[str, Any]) -> str:
        """Return the outcome that a record tells."""
        return str(record[self.outcome_field])

    def _targets(self, outcome: str) -> list[str]:
        if outcome not in self.outcomes:
            raise ParameterError.of(
                "follow", type(self).__name__, f"about outcomes of {list(self.outcomes)}", outcome
            )
        named = self.follow[outcome]
        return [self._resolved(task) for task in ([named] if isinstance(named, str) else named)]

    def _resolved(self, task: str) -> str:
        """Return the full id of a task or task group; one beside this task comes first."""
        known = {*self.dag.task_ids, *self.dag.task_group_dict}
        for full in self._spellings(task):
            if full in known:
                return full
        raise ParameterError.of(
            "follow", type(self).__name__, "about tasks or task groups of the DAG", task
        )

    def _spellings(self, task: str) -> Iterator[str]:
        if self.task_group is not None:
            yield self.task_group.child_id(task)
        yield task
