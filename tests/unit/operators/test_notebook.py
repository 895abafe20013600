from __future__ import annotations

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlops_provider.operators import RunNotebookOperator
from airflow_mlops_provider.steps import extras
from tests.notebooks import write_notebook


def test_what_a_notebook_does_not_take_fails_for_good(context, run, tmp_path):
    notebook = write_notebook(tmp_path / "a.ipynb", parameters="alpha = 1")
    operator = RunNotebookOperator(task_id="t", notebook=notebook, parameters={"alpa": 2})
    with pytest.raises(AirflowFailException, match=r"among \['alpha'\].* Got \['alpa'\] instead"):
        operator.execute(context)
    run.client.log_artifact.assert_not_called()


def test_without_the_extra_one_learns_what_to_install(context, run, monkeypatch):
    def missing(module):
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(extras.importlib, "import_module", missing)
    operator = RunNotebookOperator(task_id="t", notebook="a.ipynb")
    with pytest.raises(AirflowFailException, match=r"airflow.providers.papermill .*\[notebook\]"):
        operator.execute(context)


def test_a_task_that_has_no_kernel_yet_can_be_killed():
    RunNotebookOperator(task_id="t", notebook="a.ipynb").on_kill()
