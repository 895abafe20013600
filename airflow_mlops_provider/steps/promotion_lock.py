"""One at a time where the registry offers nothing of the kind: a lock for each registered model."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from airflow_mlops_provider.exceptions import MlflowUnavailableError
from airflow_mlops_provider.steps.registry_errors import is_absent

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOCK = ".promotion-lock"
_WAIT_SECONDS, _STALE_SECONDS, _LOOK_SECONDS = 45.0, 30.0, 0.2


@contextmanager
def promotion_lock(client: MlflowClient, name: str) -> Iterator[Callable[[], None]]:
    """Hold the right to register versions of ``name`` and to move its champion.

    The lock is a registered model of its own, because making one is the only thing that MLflow
    does for one caller alone; its description says who made it. A lock of a process that died is
    broken after 30 seconds, and so is one whose holder was held up for as long. Hence the function
    this gives: call it right before a write that must be the holder's alone.

    Raises:
        MlflowUnavailableError: another one holds it for longer than 45 seconds, or, by the
            function, took it over meanwhile.
    """
    lock, holder = name + _LOCK, f"Held while the champion is moved, by {uuid.uuid4().hex}."

    def require_held() -> None:
        if _holder(client, lock) != holder:
            raise MlflowUnavailableError(
                f"This task was held up for so long that another one took {lock!r} over. Retry it."
            )

    _acquire(client, lock, holder)
    try:
        yield require_held
    finally:
        if _holder(client, lock) == holder:
            _release(client, lock)


def _acquire(client: MlflowClient, lock: str, holder: str) -> None:
    start = time.monotonic()
    seen: tuple[str, float] | None = None  # who holds it, and since when we know
    while time.monotonic() - start < _WAIT_SECONDS:
        try:
            client.create_registered_model(lock, description=holder)
            return
        except MlflowException as error:
            if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
                raise
        other = _holder(client, lock)
        if other == holder:
            return  # MLflow's client sent our request twice
        if other is not None and (seen is None or seen[0] != other):
            seen = (other, time.monotonic())
        elif seen is not None and other is not None and _is_stale(seen[1]):
            _release(client, lock)
        time.sleep(_LOOK_SECONDS)
    raise MlflowUnavailableError(
        f"Another promotion holds {lock!r} for {_WAIT_SECONDS:.0f} seconds. Retry once it ended."
    )


def _release(client: MlflowClient, lock: str) -> None:
    try:
        client.delete_registered_model(lock)
    except MlflowException as error:
        if not is_absent(error):  # somebody else was as quick
            raise


def _is_stale(first_seen: float) -> bool:
    return time.monotonic() - first_seen > _STALE_SECONDS


def _holder(client: MlflowClient, lock: str) -> str | None:
    try:
        return str(client.get_registered_model(lock).description)
    except MlflowException as error:
        if is_absent(error):
            return None
        raise
