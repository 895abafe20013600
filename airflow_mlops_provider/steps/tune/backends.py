"""Where trials run: in this process, in processes beside it, or on a cluster that joblib knows.

Worker processes are started once and used again; they end with the process that started them,
however that ends.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool
from threadpoolctl import threadpool_limits

from airflow_mlops_provider.exceptions import ServiceError
from airflow_mlops_provider.steps.extras import required

_WATCHED: list[int] = []
_WATCH_SECONDS = 0.5
Job = Callable[[], Any]


@contextmanager
def joblib_backend(name: str, params: Mapping[str, Any], n_workers: int) -> Iterator[None]:
    """Have joblib run what it is given on ``name`` with ``params``; end what this has started.

    Raises:
        ParameterError: the library behind ``name`` is not installed.
    """
    if name == "loky":
        try:
            yield
        finally:
            stop_workers()
        return
    started = {"threading": _threading, "ray": _ray, "dask": _dask, "spark": _spark}[name]
    with started(params, n_workers) as options, joblib.parallel_config(name, **options):
        yield


def stop_workers() -> None:
    """End the worker processes, in the midst of what they do."""
    get_reusable_executor().shutdown(wait=True, kill_workers=True)


def each_done(jobs: Iterable[Job], n_workers: int) -> Iterator[Any]:
    """Run ``jobs`` on ``n_workers`` at a time, and yield each result as it comes.

    ``jobs`` is read no faster than they run. Some clusters (Ray, Spark) give results only at the
    end of all jobs.

    Raises:
        ServiceError: a worker process died.
    """
    if n_workers == 1:
        yield from (job() for job in jobs)
        return
    parent = os.getpid()
    calls = (joblib.delayed(_guarded)(job, parent, n_workers) for job in jobs)
    try:
        yield from _parallel(n_workers)(calls)
    except BrokenProcessPool as error:
        raise ServiceError(
            f"Expected {n_workers} worker processes to live until the search ends, but one died: "
            f"{error} If memory is short, use fewer `n_workers`."
        ) from error


def _parallel(n_workers: int) -> joblib.Parallel:
    options = {"n_jobs": n_workers, "pre_dispatch": n_workers, "batch_size": 1}
    try:
        return joblib.Parallel(return_as="generator_unordered", **options)
    except ValueError:  # this backend gives results only when all are there
        return joblib.Parallel(**options)


def _guarded(job: Job, parent: int, n_workers: int) -> Any:
    _end_with(parent)
    with threads_of(n_workers):
        return job()


@contextmanager
def threads_of(n_workers: int) -> Iterator[None]:
    """Give the native code of one worker its share of the processors."""
    with threadpool_limits(max(1, joblib.cpu_count() // n_workers)):
        yield


def _end_with(parent: int) -> None:
    """Have this process end when its parent does, if it is a child of ``parent`` at all."""
    if os.getppid() == parent and parent not in _WATCHED:
        _WATCHED.append(parent)
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)


@contextmanager
def _threading(params: Mapping[str, Any], n_workers: int) -> Iterator[dict[str, Any]]:
    yield dict(params)


@contextmanager
def _ray(params: Mapping[str, Any], n_workers: int) -> Iterator[dict[str, Any]]:
    ray = _library("ray", "ray")
    _library("ray.util.joblib", "ray").register_ray()
    ours = not ray.is_initialized()
    if ours:
        local = {} if "address" in params else {"num_cpus": n_workers, "include_dashboard": False}
        ray.init(**{**local, "log_to_driver": False, **params})
    try:
        yield {}
    finally:
        if ours:
            ray.shutdown()


@contextmanager
def _dask(params: Mapping[str, Any], n_workers: int) -> Iterator[dict[str, Any]]:
    distributed = _library("distributed", "dask")
    local = {
        "n_workers": n_workers,
        "threads_per_worker": 1,
        "host": "127.0.0.1",
        "dashboard_address": None,
    }
    with distributed.Client(**{**({} if "address" in params else local), **params}) as client:
        yield {"client": client}


@contextmanager
def _spark(params: Mapping[str, Any], n_workers: int) -> Iterator[dict[str, Any]]:
    joblibspark, sql = _library("joblibspark", "spark"), _library("pyspark.sql", "spark")
    ours = sql.SparkSession.getActiveSession() is None
    local = {"spark.master": f"local[{n_workers}]", "spark.ui.enabled": "false"}
    builder = sql.SparkSession.builder
    for key, value in {**local, **params}.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    joblibspark.register_spark()
    try:
        yield {}
    finally:
        if ours:
            session.stop()


def _library(module: str, backend: str) -> Any:
    return required(module, backend, f"for joblib_backend={backend!r}")
