"""One row for each trial, whoever ran it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_mlops_provider.exceptions import ModelError

COMPLETE, PRUNED, FAIL, INTERRUPTED = "COMPLETE", "PRUNED", "FAIL", "INTERRUPTED"
Progress = Callable[[dict[str, Any]], None]
_ERROR_LENGTH = 500


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A set of parameters, and how it did."""

    number: int
    params: dict[str, Any]
    state: str
    score: float | None = None
    seconds: float | None = None
    fold_scores: list[float] = field(default_factory=list)
    error: str | None = None

    @property
    def finished(self) -> bool:
        """Whether it came to an end of its own, good or bad."""
        return self.state != INTERRUPTED


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search came to."""

    study: str | None
    trials: list[Trial]
    ran: int
    """How many of the trials this task ran."""
    importances: dict[str, float] | None = None

    @property
    def finished(self) -> int:
        """How many trials came to an end of their own."""
        return sum(trial.finished for trial in self.trials)


def reason(error: BaseException) -> str:
    """Return the first line of an error, with its type."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:_ERROR_LENGTH]


def best_of(trials: Sequence[Trial]) -> Trial:
    """Return the first trial with the highest score.

    Raises:
        ModelError: no trial has a score; the message gives the first reason.
    """
    complete = [trial for trial in trials if trial.score is not None and trial.state == COMPLETE]
    if complete:
        return max(complete, key=lambda trial: (trial.score, -trial.number))
    errors = [trial.error for trial in trials if trial.error]
    why = f"the first failed with {errors[0]}" if errors else "none ended within timeout_seconds"
    raise ModelError(
        f"Expected a trial with a score, got none in {len(trials)}: {why}. Correct the estimator, "
        "its parameters, the scorer or the data."
    )


def progress_of(
    study: str | None, trials: Sequence[Trial], last: Trial, n_trials: int
) -> dict[str, Any]:
    """Return in a few JSON values how far a search is."""
    finished = [trial for trial in trials if trial.finished]
    scores = [trial.score for trial in finished if trial.score is not None]
    return {
        "study": study,
        "finished": len(finished),
        "n_trials": n_trials,
        "pruned": sum(trial.state == PRUNED for trial in finished),
        "failed": sum(trial.state == FAIL for trial in finished),
        "best_score": max(scores, default=None),
        "last": asdict(last),
    }
