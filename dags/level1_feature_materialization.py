"""Level 1: what has landed becomes features, and the newest of them go online.

Each feature view is a task of its own. A week before the window is looked through again for rows
that came late, and a long window is taken month by month.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG

from airflow_mlops_provider.operators import FeastApplyOperator, FeastMaterializeOperator
from flights.settings import FEATURE_REPO
from flights.tasks import MONTH, MONTHLY, build_features, choose_window

with DAG(
    "level1_feature_materialization",
    description="Feature sources, feature registry and online store of the flights",
    schedule=MONTHLY,
    start_date=datetime(2013, 2, 1),
    catchup=False,
    max_active_runs=1,
    params={"month": MONTH},
    doc_md=__doc__,
    tags=["mlops", "level-1", "flights"],
):
    window = choose_window()
    apply = FeastApplyOperator(task_id="apply_features", repo_path=FEATURE_REPO)
    FeastMaterializeOperator.partial(
        task_id="materialize",
        repo_path=FEATURE_REPO,
        start=window["start"],
        end=window["end"],
        overlap="P7D",
        chunk="P31D",
    ).expand(feature_views=apply.output)
    build_features() >> apply
