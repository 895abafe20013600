from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import papermill
import pytest
from papermill.engines import papermill_engines

from airflow_mlops_provider.exceptions import (
    DataError,
    NotebookError,
    ParameterError,
    PermanentError,
)
from airflow_mlops_provider.steps.notebook import (
    KernelProcesses,
    folder_of,
    kernel_with,
    log_datasets,
    log_notebook,
    notebook_page,
    notebook_run,
    prepare_notebook,
)
from tests.notebooks import ends, write_notebook, written

PARAMETERS = "alpha = 1\ndataset = None"
CHILD = """
import subprocess
command = ["sh", "-c", "sleep 600 >/dev/null & echo $!"]
child = int(subprocess.run(command, stdout=subprocess.PIPE).stdout)
"""
TELL = "import os\nwith open('pids', 'w') as file: print(os.getpid(), child, file=file)"
HANG = "import time\ntime.sleep(600)"


def run_in(folder: Path, notebook: str, processes: KernelProcesses | None = None) -> Path:
    """Run a notebook with its kernel in ``folder``."""
    executed = folder / "executed.ipynb"
    with kernel_with(
        {**os.environ, "GIVEN": "to the kernel"}, str(folder), processes or KernelProcesses()
    ):
        papermill.execute_notebook(notebook, str(executed), progress_bar=False)
    return executed


def prepare(
    notebook: object, tmp_path: Path, kernel_name: str | None = None, **parameters: object
) -> None:
    prepare_notebook(
        str(notebook), tmp_path / "given.ipynb", kernel_name=kernel_name, parameters=parameters
    )


def test_a_kernel_gets_its_environment_and_folder_and_this_process_keeps_its_own(
    tmp_path: Path,
) -> None:
    usual = papermill_engines.get_engine(None)
    tell = "import os\nwith open('told', 'w') as file: print(os.environ['GIVEN'], file=file)"
    run_in(tmp_path, write_notebook(tmp_path / "a.ipynb", tell))
    assert (tmp_path / "told").read_text() == "to the kernel\n"
    assert "GIVEN" not in os.environ
    assert papermill_engines.get_engine(None) is usual


@pytest.mark.parametrize(("error", "kind"), [("Odd", NotebookError), ("DataError", PermanentError)])
def test_a_failing_cell_is_named_and_what_ran_is_kept(
    tmp_path: Path, error: str, kind: type[Exception]
) -> None:
    first = f"print('before')\nclass {error}(Exception): pass"
    notebook = write_notebook(tmp_path / "a.ipynb", first, f"\nraise {error}('no rows')")
    said = re.escape(f"Cell In [2] (`raise {error}('no rows')`) failed: {error}: no rows.")
    with pytest.raises(kind, match=said):
        run_in(tmp_path, notebook)
    page = notebook_page(tmp_path / "executed.ipynb")
    assert "before" in page
    assert "no rows" in page


def test_ending_a_kernel_ends_the_processes_it_started(tmp_path: Path) -> None:
    processes = KernelProcesses()
    pids: list[int] = []

    def end() -> None:
        pids.extend(int(pid) for pid in written(tmp_path / "pids").split())
        processes.end()

    watcher = threading.Thread(target=end)
    watcher.start()
    with pytest.raises(NotebookError, match="kernel died"):
        run_in(tmp_path, write_notebook(tmp_path / "a.ipynb", CHILD, TELL, HANG), processes)
    watcher.join()
    assert len(pids) == 2
    assert all(ends(pid) for pid in pids)


def test_a_notebook_leaves_no_process_behind(tmp_path: Path) -> None:
    run_in(tmp_path, write_notebook(tmp_path / "a.ipynb", CHILD, TELL))
    assert all(ends(int(pid)) for pid in written(tmp_path / "pids").split())


def test_a_kernel_that_starts_when_its_end_was_asked_for_is_ended() -> None:
    processes = KernelProcesses()
    processes.end()
    late = subprocess.Popen(["sleep", "600"], start_new_session=True)
    processes.started(late.pid)
    assert late.wait(30) == -signal.SIGKILL


def test_a_kernel_ends_when_its_task_is_killed(tmp_path: Path) -> None:
    tell = TELL.replace("child", "os.getppid()")
    notebook = write_notebook(tmp_path / "a.ipynb", tell, HANG)
    code = (
        "import os, sys, papermill\n"
        "from airflow_mlops_provider.steps.notebook import KernelProcesses, kernel_with\n"
        "with kernel_with(os.environ, sys.argv[1], KernelProcesses()):\n"
        "    papermill.execute_notebook(sys.argv[2], sys.argv[2], progress_bar=False)\n"
    )
    task = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), notebook])
    kernel, parent = (int(pid) for pid in written(tmp_path / "pids").split())
    assert parent == task.pid
    task.kill()
    task.wait()
    assert ends(kernel)


def test_a_page_loads_nothing(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb", "1 + 1")
    page = notebook_page(Path(notebook))
    assert not re.findall(r"(?:src|href)=.?https?://|import\(", page)
    assert "<style" in page


@pytest.mark.parametrize("kernel_name", [None, "python3"])
def test_what_papermill_is_given_names_its_kernel(tmp_path: Path, kernel_name: str | None) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb", parameters=PARAMETERS)
    prepare(notebook, tmp_path, kernel_name, alpha=2, dataset={"n": None})
    assert '"language": "python"' in (tmp_path / "given.ipynb").read_text()


def test_a_notebook_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for notebook in (tmp_path / "none.ipynb", tmp_path / "folder", "gopher://a.ipynb"):
        with pytest.raises(ParameterError, match=f"The notebook parameter .*{notebook}"):
            prepare(notebook, tmp_path)


@pytest.mark.parametrize("text", ["", "no notebook", "[]", "{}", '{"nbformat": 4}', b"\xff"])
def test_what_is_no_notebook_is_named(tmp_path: Path, text: str | bytes) -> None:
    path = tmp_path / "a.ipynb"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ParameterError, match=r"Cannot read .*a.ipynb as a Jupyter notebook: "):
        prepare(path, tmp_path)


def test_an_unknown_kernel_is_told_with_those_that_are_installed(tmp_path: Path) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb", "1")
    said = r"one of the installed kernels \[.*'python3'.*\]. Got 'julia' instead"
    with pytest.raises(ParameterError, match=said):
        prepare(notebook, tmp_path, "julia")
    path = Path(notebook)
    path.write_text(path.read_text().replace("kernelspec", "no_kernel"))
    with pytest.raises(ParameterError, match="Got None instead"):
        prepare(notebook, tmp_path)


@pytest.mark.parametrize(
    ("parameters", "given", "said"),
    [
        (PARAMETERS, {"alpa": 1}, r"among \['alpha', 'dataset'\], .* Got \['alpa'\]"),
        (None, {"alpha": 1}, "has no cell tagged `parameters`"),
        (PARAMETERS, {"alpha": object()}, "dict of JSON values .*object"),
        (PARAMETERS, {"alpha": float("nan")}, "dict of JSON values .*nan"),
    ],
)
def test_parameters_that_a_notebook_does_not_take_are_named(
    tmp_path: Path, parameters: str | None, given: dict[str, object], said: str
) -> None:
    notebook = write_notebook(tmp_path / "a.ipynb", "1", parameters=parameters)
    with pytest.raises(ParameterError, match=said):
        prepare(notebook, tmp_path, **given)


def test_relative_paths_begin_where_the_notebook_lies(tmp_path: Path) -> None:
    assert folder_of(f"file://{tmp_path}/a.ipynb", Path("/else")) == str(tmp_path)
    assert folder_of("memory://a.ipynb", Path("/else")) == "/else"


def test_what_a_notebook_wrote_is_handed_over(run, tmp_path: Path) -> None:
    run.log_metrics({"auc": 0.75, "lost": float("nan")})
    run.client.log_dict(run.run_id, {"model": "m", "n": [1]}, "outputs.json")
    found = notebook_run(run, {"alpha": 1})
    assert found.metrics == {"auc": 0.75}
    assert found.outputs == {"model": "m", "n": [1]}
    assert found.to_xcom()["parameters"] == {"alpha": 1}
    executed = Path(write_notebook(tmp_path / "notebook.ipynb", "1"))
    log_notebook(run, executed)
    kept = Path(run.client.download_artifacts(run.run_id, "notebook.ipynb"))
    assert kept.read_bytes() == executed.read_bytes()
    assert found.notebook_uri == f"runs:/{run.run_id}/notebook.ipynb"


def test_a_notebook_need_not_hand_over_anything(run) -> None:
    found = notebook_run(run, {})
    assert (found.metrics, found.outputs) == ({}, {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"n": NaN}', "NaN is no JSON value"),
        ("[1]", "Expected an object in outputs.json, got list"),
        ("{", "Expected JSON in outputs.json"),
        (" " * 70_000, "at most 65536 bytes in outputs.json, got 70000"),
    ],
)
def test_outputs_that_cannot_be_handed_over_are_refused(run, text: str, said: str) -> None:
    run.client.log_text(run.run_id, text, "outputs.json")
    with pytest.raises(DataError, match=said):
        notebook_run(run, {})


def test_datasets_among_the_parameters_are_inputs_of_the_run(run, client, dataset) -> None:
    log_datasets(run, {"dataset": dataset.to_xcom(), "alpha": 1, "other": {"name": "x"}})
    (logged,) = client.get_run(run.run_id).inputs.dataset_inputs
    assert logged.dataset.name == dataset.name
