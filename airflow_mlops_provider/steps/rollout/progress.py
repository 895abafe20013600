"""What a task's log says of a rollout while it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.rollout.kinds import DrivenState

_EVERY_SECONDS = 60.0


@dataclass
class Progress:
    """Chooses what is worth a line: each change of state or traffic, and one line a minute."""

    told: object = None
    told_at: float = float("-inf")

    def line(self, state: DrivenState | None, now: float) -> str | None:
        """Return the line for a tick, if it deserves one; None stands for a host that is silent."""
        standing = state and (state.state, state.traffic, state.reason)
        if standing == self.told and now - self.told_at < _EVERY_SECONDS:
            return None
        self.told, self.told_at = standing, now
        return state.describe() if state else "the serving host does not answer, trying on"
