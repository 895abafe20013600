"""Level 1: the pipeline trains, judges, registers and deploys by itself.

Five events start it: a person, the schedule, a month that lands, a champion that degraded, and
inputs that drifted. The first task says which one it was and whether it is worth a training. A
challenger that passes the gate is served without traffic; the delivery DAG of level 2 gives it
some. One that does not ends the run well, as a non-event in the ledger of retraining.
"""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, AssetAlias, AssetAny
from airflow.timetables.assets import AssetOrTimeSchedule

from airflow_mlops_provider.assets import drift_asset, performance_asset
from airflow_mlops_provider.operators import (
    CheckModelArtifactOperator,
    CheckModelBehaviourOperator,
    DecideRetrainingOperator,
    DeployModelOperator,
    EvaluateModelOperator,
    FeastApplyOperator,
    FeastHistoricalFeaturesOperator,
    FinishPipelineRunOperator,
    ProfileDatasetOperator,
    RecordRetrainingOperator,
    RegisterModelOperator,
    SnapshotDatasetOperator,
    SplitDatasetOperator,
    StartPipelineRunOperator,
    TuneModelOperator,
    ValidateDataOperator,
    ValidateModelOperator,
)
from flights.columns import FEATURES, TARGET, TIME
from flights.settings import (
    BEHAVIOUR,
    CHAMPION,
    ENDPOINT,
    ESTIMATOR,
    FEATURE_REPO,
    FEATURE_SERVICE,
    INTENDED_USE,
    LANDED_FLIGHTS,
    MODEL,
    SOURCE_LICENSE,
    SOURCE_OWNER,
    SUITE,
)
from flights.tasks import MONTH, MONTHLY, NEW_FLIGHTS, build_features, choose_window

EVENTS = [NEW_FLIGHTS, performance_asset(ENDPOINT), drift_asset(ENDPOINT)]

with DAG(
    "level1_continuous_training",
    description="Continuous training of the flight-delay model",
    schedule=AssetOrTimeSchedule(timetable=MONTHLY, assets=AssetAny(*EVENTS)),
    start_date=datetime(2013, 2, 1),
    catchup=False,
    max_active_runs=1,
    params={"month": MONTH},
    doc_md=__doc__,
    tags=["mlops", "level-1", "flights"],
):
    start_run = StartPipelineRunOperator(task_id="start_run")
    finish_run = FinishPipelineRunOperator(task_id="finish_run")

    with finish_run.as_teardown(setups=start_run):
        decide = DecideRetrainingOperator(
            task_id="decide",
            name=MODEL,
            cooldown_seconds={"new_data": 3600, "performance": 86_400, "drift": 86_400},
            budget=20,
            inlets=EVENTS,
        )
        window = choose_window()
        snapshot = SnapshotDatasetOperator(
            task_id="snapshot",
            name="flights",
            source=LANDED_FLIGHTS,
            time_column=TIME,
            window_start=window["start"],
            window_end=window["end"],
            owner=SOURCE_OWNER,
            license=SOURCE_LICENSE,
        )
        validate = ValidateDataOperator(
            task_id="validate_data", dataset=snapshot.output, suite=SUITE
        )
        apply = FeastApplyOperator(task_id="apply_features", repo_path=FEATURE_REPO)
        features = FeastHistoricalFeaturesOperator(
            task_id="join_features",
            repo_path=FEATURE_REPO,
            entities=snapshot.output,
            feature_service=FEATURE_SERVICE,
            name="training_set",
        )
        split = SplitDatasetOperator(task_id="split", dataset=features.output, column=TIME)
        profile = ProfileDatasetOperator(
            task_id="profile",
            dataset=split.output["train"],
            columns=FEATURES,
            segments=["origin"],
        )
        tune = TuneModelOperator(
            task_id="tune_and_train",
            dataset=split.output["train"],
            estimator=ESTIMATOR,
            features=FEATURES,
            target=TARGET,
            search_space={
                "learning_rate": {"type": "float", "low": 0.03, "high": 0.3, "log": True},
                "max_leaf_nodes": {"type": "int", "low": 7, "high": 63, "log": True},
            },
            estimator_params={"max_iter": 60},
            n_trials=3,
        )
        behaviour = CheckModelBehaviourOperator(
            task_id="check_behaviour",
            model=tune.output,
            dataset=split.output["test"],
            tests=BEHAVIOUR,
        )
        artifact = CheckModelArtifactOperator(
            task_id="check_artifact", model=tune.output, dataset=split.output["test"]
        )
        judged_on = {
            "dataset": split.output["test"],
            "target": TARGET,
            "slices": ["origin", {"column": "distance", "bins": 4}],
        }
        challenger = EvaluateModelOperator(
            task_id="evaluate_challenger", model=tune.output, **judged_on
        )
        champion = EvaluateModelOperator(
            task_id="evaluate_champion", model=CHAMPION, optional=True, **judged_on
        )
        gate = ValidateModelOperator(
            task_id="gate",
            challenger=challenger.output,
            champion=champion.output,
            mode="non_inferiority",
            margin=0.01,
            floors={"auc": 0.6},
            slice_floor=0.55,
            data=validate.output,
            behaviour=behaviour.output,
            artifact=artifact.output,
            on_refusal="skip",
        )
        register = RegisterModelOperator(
            task_id="register",
            model=tune.output,
            name=MODEL,
            evaluation=challenger.output,
            verdict=gate.output,
            behaviour=behaviour.output,
            intended_use=INTENDED_USE,
            profile_uri=profile.output["profile_uri"],
            suite_uri=profile.output["suite_uri"],
            feature_service=features.output["feature_service"],
            outlets=[AssetAlias(f"{MODEL}-versions")],
        )
        deploy = DeployModelOperator(
            task_id="deploy", model_version=register.output, endpoint=ENDPOINT
        )

        decide >> window
        validate >> build_features() >> apply >> features

    record = RecordRetrainingOperator(
        task_id="record",
        decision=decide.output,
        verdict=gate.output,
        model_version=register.output,
    )
    deploy >> record.as_teardown(setups=decide) >> finish_run
