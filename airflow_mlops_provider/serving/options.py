"""How a deployment is served: what may be asked for beside its model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.records import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentOptions(Record):
    """Options of one deployment; build them with :meth:`of`, which checks each.

    A deployment keeps its options for life: other options are another deployment.
    """

    workers: int = 1
    """Scorer processes that share the deployment's requests."""
    memory_mb: int | None = None
    """Memory a scorer may hold; one that holds more is started anew. None is no limit."""
    environment: Literal["host", "declared"] = "host"
    """Python packages of the scorer: the host's, or those the model declares, in an environment
    of their own."""
    native: bool = True
    """Ask a scikit-learn estimator without pyfunc around it, where both proved to agree."""
    feature_repo: str | None = None
    """Feature repository that a request's features are looked up in, by its entities."""
    feature_service: str | None = None
    """Feature service to look up; by default the one the model version learned from."""
    durability: Literal["process", "power"] = "process"
    """What a logged prediction survives: a killed process, or a power cut as well."""
    on_log_failure: Literal["fail", "drop"] = "fail"
    """Whether a prediction that cannot be logged is refused, or given and counted as dropped."""
    log_drop_columns: tuple[str, ...] = ()
    """Inputs that the prediction log leaves out."""
    log_hash_columns: tuple[str, ...] = ()
    """Inputs that the prediction log holds as keyed hashes only."""

    @classmethod
    def of(cls, given: Mapping[str, Any] | None) -> DeploymentOptions:
        """Build options from JSON values.

        Raises:
            RecordError: an option is unknown or of a wrong type.
            ParameterError: a number is out of its range.
        """
        options = cls.from_xcom(dict(given or {}))
        if not 1 <= options.workers <= 64:
            raise _wrong("workers", "from 1 to 64", options.workers)
        if options.memory_mb is not None and options.memory_mb < 1:
            raise _wrong("memory_mb", "1 or more", options.memory_mb)
        return options


def _wrong(name: str, constraint: str, value: object) -> ParameterError:
    return ParameterError.of(name, "a deployment", constraint, value)
