"""The whole error tree of the provider.

::

    MlopsError
    ├── PermanentError              a retry cannot help; operators turn it into AirflowFailException
    │   ├── ParameterError          an argument has a value we cannot use
    │   ├── RecordError             a task handed over something that is not the record we expected
    │   ├── DataError               a file, table, column or value is not what the step needs
    │   ├── SchemaSkewError         the data no longer has the shape its suite demands
    │   ├── ModelError              a model is missing, cannot be loaded, or does not fit its data
    │   ├── GateRefusedError        a challenger fell through a floor of the promotion gate
    │   ├── RolloutFailedError      a rollout was rolled back, or could not be
    │   ├── PipelineStageError      a commit of a pipeline repository did not get through a stage
    │   └── RegistryConflictError   somebody else moved the alias or the state meanwhile
    ├── NotebookError               a cell of a notebook failed; a retry may help
    └── ServiceError                a service did not do its part; a retry may help
        ├── SourceChangedError      a source was written to while we read it
        ├── StepFailedError         a step in an environment of its own did not end well
        ├── FeatureStoreUnavailableError
        ├── MlflowUnavailableError
        ├── ServingUnavailableError
        └── StackUnavailableError

Every message says what was expected, what came, and what to do.
"""

from __future__ import annotations


class MlopsError(Exception):
    """Any error that this provider raises on purpose."""


class PermanentError(MlopsError):
    """A retry would end the same way: a person has to change something."""


class ParameterError(PermanentError, ValueError):
    """An argument of a step or operator has a value that cannot be used."""

    @classmethod
    def of(cls, name: str, caller: str, constraint: str, value: object) -> ParameterError:
        """Word the error the one way we word it, naming parameter, caller, constraint and value."""
        return cls(f"The {name} parameter of {caller} must be {constraint}. Got {value!r} instead.")


class RecordError(PermanentError, ValueError):
    """What arrived from another task is not the record that was expected."""


class DataError(PermanentError):
    """A file, table, column or value is missing, broken or not what the step needs."""


class SchemaSkewError(PermanentError):
    """The data no longer has the shape its suite demands; the pipeline stops for a person."""


class ModelError(PermanentError):
    """A model is missing, cannot be loaded, or does not fit the data it is given."""


class GateRefusedError(PermanentError):
    """A challenger fell through a floor of the promotion gate."""


class RolloutFailedError(PermanentError):
    """A rollout was rolled back, or its roll-back failed."""


class PipelineStageError(PermanentError):
    """A commit of a pipeline repository did not get through a stage of its CI."""


class RegistryConflictError(PermanentError):
    """Somebody else moved an alias or a state between our look and our write."""


class NotebookError(MlopsError):
    """A cell of a notebook failed, or its kernel died; what it called may work next time."""


class ServiceError(MlopsError):
    """A service did not answer or did not do its part; a retry may help."""


class SourceChangedError(ServiceError):
    """A source was written to while it was read; once its writer is done, a retry helps."""


class StepFailedError(ServiceError):
    """A step in an environment of its own crashed, was killed, or its environment was not made."""


class FeatureStoreUnavailableError(ServiceError):
    """The registry of Feast is held by another process, or a store does not answer."""


class MlflowUnavailableError(ServiceError):
    """The MLflow server does not answer."""


class ServingUnavailableError(ServiceError):
    """The serving host does not answer."""


class StackUnavailableError(ServiceError):
    """A part of the local stack did not come up, or Airflow's API did not answer as expected."""
