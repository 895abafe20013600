"""``/mlops/retraining``: the tab of a DAG run that says which event started it, and what for."""

from __future__ import annotations

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import APIRouter, Depends
from fastapi.responses import HTMLResponse

from airflow_mlops_provider.exceptions import MlopsError
from airflow_mlops_provider.hooks.settings import workspace_uri
from airflow_mlops_provider.steps.pages import render_page
from airflow_mlops_provider.steps.retrain.ledger import ledgers

router = APIRouter()


@router.get("/retraining", dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.RUN))])
def retraining(dag_id: str, run_id: str) -> HTMLResponse:
    """Show what was decided for a run, and what came of it."""
    run = f"{dag_id}/{run_id.replace(' ', '+')}"  # the UI leaves the + of run ids as it is
    try:
        for ledger in ledgers(workspace_uri()):
            if decision := ledger.decision(run):
                page = render_page(
                    "retraining.html", decision=decision, outcome=ledger.outcome(run)
                )
                return HTMLResponse(page)
    except (MlopsError, OSError) as error:
        return HTMLResponse(render_page("retraining_none.html", run=run, why=str(error)), 503)
    why = "No retraining was decided on in this run."
    return HTMLResponse(render_page("retraining_none.html", run=run, why=why))
