"""Run a notebook in a kernel whose environment we choose and whose end we see to.

The library papermill executes it; this module prepares what it executes, gives the kernel its
environment, and keeps what came of it.
"""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from jinja2 import DictLoader
from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
from jupyter_client.manager import AsyncKernelManager
from nbclient.exceptions import DeadKernelError
from nbconvert import HTMLExporter
from nbformat.reader import NotJSONError
from papermill import inspect_notebook
from papermill.engines import NBClientEngine, papermill_engines
from papermill.exceptions import PapermillExecutionError

from airflow_mlops_provider import exceptions
from airflow_mlops_provider.exceptions import (
    DataError,
    NotebookError,
    ParameterError,
    PermanentError,
    RecordError,
)
from airflow_mlops_provider.records import DatasetRef, NotebookRun

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.track import TaskRun

NOTEBOOK, PAGE, OUTPUTS = "notebook.ipynb", "notebook.html", "outputs.json"
MAX_OUTPUTS = 1 << 16
"""Bytes that a notebook may hand over."""
_CALLER = "RunNotebookOperator"
_PERMANENT = {
    "AirflowFailException",
    *(
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type) and issubclass(value, PermanentError)
    ),
}
_SELF_CONTAINED = """
{%- extends "lab/index.html.j2" -%}
{%- block html_head_js -%}{%- endblock -%}
{%- block html_head_js_mathjax -%}{%- endblock -%}
{%- block html_head_js_mermaidjs -%}{%- endblock -%}
{%- block jupyter_widgets -%}{%- endblock -%}
"""
"""The page of JupyterLab's look, without what it would load from public servers."""


class KernelProcesses:
    """A kernel and the processes it started, which end together."""

    def __init__(self) -> None:
        self._group: int | None = None
        self._ended = False

    def started(self, group: int) -> None:
        """Take note of the process group; end it, if that was asked for meanwhile."""
        self._group = group
        if self._ended:
            self.end()

    def end(self) -> None:
        """Kill what still runs; safe in a signal handler."""
        group, self._group, self._ended = self._group, None, True
        if group is not None:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def prepare_notebook(
    notebook: str, target: Path, *, kernel_name: str | None, parameters: Mapping[str, Any]
) -> None:
    """Write ``notebook`` to ``target``, with its kernel chosen.

    Args:
        notebook: Path or fsspec URI of the notebook.
        target: Where to write it.
        kernel_name: Name of an installed kernel; None takes the notebook's own.
        parameters: Values for its cell that is tagged ``parameters``.

    Raises:
        ParameterError: there is no such notebook, kernel or parameter, or a value is not JSON.
    """
    content = _read(notebook)
    content.metadata["kernelspec"] = _kernel(content, kernel_name)
    nbformat.write(content, target)
    _require_json(parameters)
    _require_known(parameters, content, target, notebook)


def folder_of(notebook: str, otherwise: Path) -> str:
    """Return the folder in which a notebook's relative paths begin, as in Jupyter: its own."""
    fs, path = url_to_fs(notebook)
    return str(Path(path).parent if isinstance(fs, LocalFileSystem) else otherwise)


@contextmanager
def kernel_with(
    environment: Mapping[str, str], folder: str, processes: KernelProcesses
) -> Iterator[None]:
    """Let papermill start its kernel with ``environment`` in ``folder``, and end it for sure.

    Papermill's default engine is replaced meanwhile: callers of papermill cannot pass a kernel
    its environment, and that of this process is not to be changed.

    Raises:
        NotebookError: a cell failed, or the kernel died.
        PermanentError: a cell failed with one, or with ``AirflowFailException``.
    """

    class Kernel(AsyncKernelManager):  # type: ignore[misc]  # partly typed
        async def start_kernel(self, **options: Any) -> None:
            await super().start_kernel(**options, env=dict(environment), cwd=folder)
            processes.started(self.provisioner.pgid)

    class Engine(NBClientEngine):  # type: ignore[misc]  # not typed
        @classmethod
        def execute_managed_notebook(cls, notebook: Any, kernel_name: str, **options: Any) -> None:
            options["kernel_manager_class"] = Kernel
            super().execute_managed_notebook(notebook, kernel_name, **options)

    usual = papermill_engines.get_engine(None)
    papermill_engines.register(None, Engine)
    try:
        yield
    except PapermillExecutionError as error:
        raise _cell_error(error) from error
    except DeadKernelError as error:
        raise NotebookError(
            "The kernel died while a cell ran: expected an answer, got none. It was stopped, or "
            "took more memory than there is; the executed notebook shows the cell."
        ) from error
    finally:
        papermill_engines.register(None, usual)
        processes.end()


def log_notebook(run: TaskRun, executed: Path) -> None:
    """Keep an executed notebook, also half of one, and a page of it."""
    run.client.log_artifact(run.run_id, str(executed))
    run.log_page(notebook_page(executed), PAGE)


def notebook_page(executed: Path) -> str:
    """Return a notebook as HTML that is whole in itself."""
    exporter = HTMLExporter(
        extra_loaders=[DictLoader({"page": _SELF_CONTAINED})], template_file="page"
    )
    page, _ = exporter.from_filename(str(executed))
    return str(page)


def log_datasets(run: TaskRun, parameters: Mapping[str, Any]) -> None:
    """Tie the run to the datasets among the parameters."""
    for value in parameters.values():
        with suppress(RecordError):
            run.log_dataset(DatasetRef.from_xcom(value), "notebook")


def notebook_run(run: TaskRun, parameters: Mapping[str, Any]) -> NotebookRun:
    """Return what the notebook wrote to its run.

    Raises:
        DataError: ``outputs.json`` is larger than 64 KiB or no JSON object.
    """
    metrics = run.client.get_run(run.run_id).data.metrics
    return NotebookRun(
        run_id=run.run_id,
        notebook_uri=f"runs:/{run.run_id}/{NOTEBOOK}",
        parameters=dict(parameters),
        metrics={name: value for name, value in metrics.items() if math.isfinite(value)},
        outputs=_outputs(run),
    )


def _read(notebook: str) -> Any:
    try:
        fs, path = url_to_fs(notebook)
        text = fs.cat_file(path)
    except (FileNotFoundError, IsADirectoryError, ImportError, ValueError) as error:
        raise ParameterError.of(
            "notebook", _CALLER, "the path or fsspec URI of a notebook that exists", notebook
        ) from error
    try:
        return nbformat.reads(text.decode(), as_version=4)
    except (NotJSONError, nbformat.ValidationError, ValueError, AttributeError) as error:
        raise ParameterError(
            f"Cannot read {notebook} as a Jupyter notebook: {_first_line(error)}. Save it in "
            "Jupyter as .ipynb, format 4."
        ) from error


def _kernel(content: Any, kernel_name: str | None) -> dict[str, str]:
    """Return what a notebook says of its kernel; papermill needs the language."""
    name = kernel_name or content.metadata.get("kernelspec", {}).get("name")
    kernels = KernelSpecManager()
    try:
        spec = kernels.get_kernel_spec(name or "")
    except NoSuchKernel as error:
        installed = sorted(kernels.find_kernel_specs())
        raise ParameterError.of(
            "kernel_name", _CALLER, f"one of the installed kernels {installed}", name
        ) from error
    return {"name": str(name), "display_name": spec.display_name, "language": spec.language}


def _require_json(parameters: Mapping[str, Any]) -> None:
    try:
        json.dumps(parameters, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError.of(
            "parameters", _CALLER, f"a dict of JSON values ({error})", parameters
        ) from error


def _require_known(
    parameters: Mapping[str, Any], content: Any, prepared: Path, notebook: str
) -> None:
    tagged = any("parameters" in cell.metadata.get("tags", ()) for cell in content.cells)
    if parameters and not tagged:
        raise ParameterError.of(
            "parameters",
            _CALLER,
            f"empty, as {notebook} has no cell tagged `parameters`",
            parameters,
        )
    known = inspect_notebook(prepared)  # nothing, for languages that papermill cannot read
    unknown = sorted(set(parameters) - set(known))
    if known and unknown:
        raise ParameterError.of(
            "parameters",
            _CALLER,
            f"among {sorted(known)}, which the cell of {notebook} tagged `parameters` sets",
            unknown,
        )


def _cell_error(error: PapermillExecutionError) -> Exception:
    kind = PermanentError if error.ename in _PERMANENT else NotebookError
    source = next((line for line in error.source.splitlines() if line.strip()), "")
    return kind(
        f"Cell In [{error.exec_count}] (`{source.strip()[:80]}`) failed: {error.ename}: "
        f"{error.evalue}. The executed notebook, up to this cell, is an artifact of the MLflow run."
    )


def _outputs(run: TaskRun) -> dict[str, Any]:
    files = {file.path: file.file_size or 0 for file in run.client.list_artifacts(run.run_id)}
    if OUTPUTS not in files:
        return {}
    if files[OUTPUTS] > MAX_OUTPUTS:
        raise DataError(
            f"Expected at most {MAX_OUTPUTS} bytes in {OUTPUTS}, got {files[OUTPUTS]}. Log large "
            "results as artifacts of their own, and hand over where they are."
        )
    try:
        with open(run.client.download_artifacts(run.run_id, OUTPUTS), "rb") as file:
            outputs = json.load(file, parse_constant=_no_json)
    except ValueError as error:
        raise DataError(f"Expected JSON in {OUTPUTS}, got something else: {error}.") from error
    if not isinstance(outputs, dict):
        raise DataError(
            f"Expected an object in {OUTPUTS}, got {type(outputs).__name__}. Log a dict with "
            f"`mlflow.log_dict(..., {OUTPUTS!r})`."
        )
    return outputs


def _no_json(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON value")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__).rstrip(".")
