from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_mlops_provider.records.maturity import MaturityReport
from airflow_mlops_provider.steps.doctor.facts import (
    CiFile,
    DagFacts,
    FileFacts,
    ProjectFacts,
    ServiceFacts,
    TaskFacts,
)
from airflow_mlops_provider.steps.doctor.judge import (
    SCHEMES,
    judge,
    judge_scheme,
    lacking,
)

GOOGLE, MICROSOFT = SCHEMES


def task(operator, *bases, **more):
    return TaskFacts(
        task_id=operator.lower(),
        operator=operator,
        classes=[operator, *bases, "MlopsOperator"],
        **more,
    )


def dag(dag_id, *tasks, **more):
    return DagFacts(dag_id=dag_id, file=f"{dag_id}.py", tasks=list(tasks), **more)


MANUAL = dag(
    "by_hand",
    *map(
        task,
        [
            "SnapshotDatasetOperator",
            "TrainModelOperator",
            "EvaluateModelOperator",
            "RegisterModelOperator",
            "DeployModelOperator",
        ],
    ),
)
TRAINING = dag(
    "training",
    task("SnapshotDatasetOperator"),
    task("ValidateDataOperator"),
    task("FeastHistoricalFeaturesOperator"),
    task("TuneModelOperator", "TrainModelOperator"),
    task("CheckModelArtifactOperator"),
    task("EvaluateModelOperator"),
    task("ValidateModelOperator"),
    task("RegisterModelOperator", aliased=True),
    schedule="@daily",
    assets=["mlops-drift://flights/", "mlops-performance://flights/"],
)
DELIVERY = dag(
    "delivery",
    task("DeployModelOperator"),
    task("CanaryRolloutOperator", "ReleaseOperator"),
    assets=["mlflow-model://flights/"],
)
MONITORING = dag("monitoring", task("MonitorModelOperator", aliased=True), schedule="@hourly")
PIPELINE_CI = dag(
    "ci",
    task("BuildPipelineOperator"),
    task("TestPipelineOperator"),
    assets=["commits"],
    watchers=["GitBranchTrigger"],
)
PIPELINE_CD = dag("cd", task("PromotePipelineOperator"), assets=["published"])
FILES = FileFacts(
    git=True,
    unit_tests=["tests/unit/test_a.py"],
    integration_tests=["tests/integration/test_b.py"],
    ci=[CiFile(path=".github/workflows/ci.yml", tests=True, builds=True)],
)
FOUND = {
    "mlflow": ["runs", "tracked", "aliases"],
    "serving": ["endpoints"],
    "workspace": ["prediction_logs", "monitoring_reports"],
    "features": ["registries"],
}
SERVICES = {
    name: ServiceFacts(state="answered", found={kind: [f"a {kind}"] for kind in kinds})
    for name, kinds in FOUND.items()
}
DOWN = {name: ServiceFacts(state="unknown", reason="is down") for name in FOUND}
ALL = ProjectFacts(
    dags=[MANUAL, TRAINING, DELIVERY, MONITORING, PIPELINE_CI, PIPELINE_CD],
    files=FILES,
    services=SERVICES,
)


def project(*dags, **more):
    return replace(ALL, dags=list(dags), **more)


def without(dag, *operators):
    return replace(dag, tasks=[each for each in dag.tasks if each.operator not in operators])


@pytest.mark.parametrize(
    ("facts", "google", "microsoft"),
    [
        (ProjectFacts(), 0, 0),
        (project(files=FileFacts()), 0, 0),
        (project(MANUAL), 0, 0),
        (project(MANUAL, MONITORING), 0, 0),
        (project(TRAINING), 0, 2),
        (project(TRAINING, files=FileFacts()), 0, 0),
        (project(TRAINING, DELIVERY), 1, 3),
        (project(TRAINING, DELIVERY, files=FileFacts()), 1, 0),
        (project(TRAINING, DELIVERY, MONITORING), 1, 4),
        (project(TRAINING, DELIVERY, MONITORING, PIPELINE_CI), 1, 4),
        (ALL, 2, 4),
        (project(without(TRAINING, "ValidateDataOperator"), DELIVERY, MONITORING), 0, 4),
        (project(without(TRAINING, "ValidateModelOperator"), DELIVERY, MONITORING), 0, 3),
        (project(without(TRAINING, "CheckModelArtifactOperator"), DELIVERY), 1, 2),
        (project(without(TRAINING, "FeastHistoricalFeaturesOperator"), DELIVERY), 1, 3),
        (project(replace(TRAINING, schedule=None, assets=[]), DELIVERY), 0, 0),
    ],
)
def test_what_a_project_has_decides_on_its_levels(facts, google, microsoft):
    assert judge_scheme(GOOGLE, facts).level == google
    assert judge_scheme(MICROSOFT, facts).level == microsoft


@pytest.mark.parametrize("name", FOUND)
def test_a_service_that_is_down_is_unknown_and_never_missing(name):
    facts = replace(ALL, services={**SERVICES, name: DOWN[name]})
    for result in (judge_scheme(each, facts) for each in SCHEMES):
        assert {each.status for each in result.criteria if each.required} <= {"met", "unknown"}
        assert result.possible_level == result.highest_level
        for each in result.criteria:
            assert each.status != "unknown" or each.reason == f"{name}: is down"


def test_services_nobody_asked_are_unknown():
    result = judge_scheme(GOOGLE, replace(ALL, services={}))
    assert (result.level, result.possible_level) == (0, 2)


def test_a_service_that_answers_without_evidence_is_missing_it():
    empty = ServiceFacts(state="answered", found={"endpoints": []})
    result = judge_scheme(GOOGLE, replace(ALL, services={**SERVICES, "serving": empty}))
    (found,) = lacking(result, 1)
    assert (found.status, found.reason) == ("missing", "serving has no endpoints")
    assert (result.level, result.possible_level) == (0, 0)


def test_what_dags_lack_is_missing_whatever_services_would_say():
    result = judge_scheme(GOOGLE, project(MANUAL, services=DOWN))
    found = {each.name: each.status for each in lacking(result, 1)}
    assert found["continuous delivery of models"] == "missing"
    assert found["metadata management"] == "unknown"


def test_evidence_names_file_dag_task_and_what_starts_it():
    result = judge_scheme(GOOGLE, ALL)
    found = {(each.level, each.name): each.evidence for each in result.criteria}
    assert found[1, "online validation"] == [
        "delivery.py:delivery:canaryrolloutoperator (CanaryRolloutOperator), "
        "started by mlflow-model://flights/"
    ]
    assert (
        "monitoring.py:monitoring:monitormodeloperator (MonitorModelOperator) emits it"
        in (found[2, "monitoring"])
    )


def test_subclasses_count_and_namesakes_of_others_do_not():
    own = replace(TRAINING, tasks=[task("OurTrainer", "TrainModelOperator"), *TRAINING.tasks[:1]])
    foreign = replace(
        TRAINING,
        tasks=[TaskFacts(task_id="t", operator="TrainModelOperator", classes=[])],
    )
    for trained, status in ((own, "met"), (foreign, "missing")):
        result = judge_scheme(MICROSOFT, project(trained))
        (found,) = [each for each in result.criteria if each.name == "automated training"]
        assert found.status == status


def test_a_signal_that_nothing_emits_wakes_nobody():
    silent = replace(MONITORING, tasks=[task("MonitorModelOperator")])
    result = judge_scheme(GOOGLE, project(TRAINING, DELIVERY, silent))
    (found,) = [each for each in result.criteria if each.name == "retraining signals"]
    assert found.status == "missing"
    assert "nothing emits" in found.reason


def test_an_outlet_of_any_task_emits_a_signal():
    gate = dag(
        "g",
        TaskFacts(
            task_id="t", operator="EmptyOperator", classes=[], outlets=["mlops-drift://flights/"]
        ),
        schedule="@daily",
    )
    result = judge_scheme(MICROSOFT, project(TRAINING, DELIVERY, gate))
    (found,) = [each for each in result.criteria if each.name == "automatic retraining"]
    assert found.status == "met"


def test_much_evidence_is_cut_and_counted():
    facts = replace(ALL, files=replace(FILES, unit_tests=[f"test_{n}.py" for n in range(20)]))
    result = judge_scheme(MICROSOFT, facts)
    (found,) = [each for each in result.criteria if each.name == "automated tests"]
    assert found.evidence[-1] == "and 17 more"


def test_the_report_reads_back_and_names_files_that_do_not_import():
    report = judge(replace(ALL, import_errors={"x.py": "SyntaxError"}, services=DOWN), "/p")
    assert MaturityReport.from_xcom(report.to_xcom()) == report
    assert report.import_errors == {"x.py": "SyntaxError"}
    assert report.services["mlflow"] == "is down"


@pytest.mark.parametrize("table", SCHEMES, ids=lambda table: table.name)
def test_each_level_asks_for_something_and_each_criterion_has_a_source_and_a_remedy(table):
    assert {each.level for each in table.criteria} == set(range(1, len(table.titles)))
    keys = [(each.level, each.name) for each in table.criteria]
    assert len(set(keys)) == len(keys)
    assert all(each.source and each.remedy and each.asks for each in table.criteria)
