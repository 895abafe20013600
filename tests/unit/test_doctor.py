"""``airflow-mlops doctor`` on DAG files that Airflow really parses."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from airflow_mlops_provider import cli, operators, sensors
from airflow_mlops_provider.cli.dag_facts import read_dags
from airflow_mlops_provider.operators.base import MlopsOperator
from airflow_mlops_provider.operators.rollout.release import ReleaseOperator
from airflow_mlops_provider.records.maturity import MaturityReport
from airflow_mlops_provider.steps import doctor
from airflow_mlops_provider.steps.doctor.facts import ServiceFacts
from airflow_mlops_provider.steps.doctor.files import read_files
from airflow_mlops_provider.steps.doctor.judge import SCHEMES, judge

ROOT = Path(__file__).resolve().parents[2]

TRAINING = """
from airflow.sdk import DAG, Asset, AssetAlias, AssetWatcher, task
from airflow.providers.standard.triggers.file import FileDeleteTrigger
from airflow_mlops_provider.assets import drift_asset
from airflow_mlops_provider.operators import MonitorModelOperator, TrainModelOperator

print("DAG files may print")

class OwnTrainer(TrainModelOperator):
    pass

landed = Asset("landed", watchers=[
    AssetWatcher(name="w", trigger=FileDeleteTrigger(filepath="/x"))
])

with DAG("training", schedule=drift_asset("e") | landed):
    OwnTrainer(task_id="train", dataset={}, estimator="e", features=[], target="t")
    OwnTrainer.partial(task_id="many", estimator="e", features=[], target="t").expand(dataset=[])

    @task.mlflow_run
    def look():
        pass

    look()

with DAG("hourly", schedule="@hourly"):
    MonitorModelOperator(task_id="monitor", endpoint="e", predictions={},
                         outlets=[AssetAlias("a"), drift_asset("e")])
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A DAGs folder with a file that works and two that do not import."""
    dags = tmp_path_factory.mktemp("project") / "dags"
    dags.mkdir()
    (dags / "training.py").write_text(TRAINING)
    (dags / "broken.py").write_text("from airflow.sdk import DAG\nimport nothing_of_that_name\n")
    (dags / "leaving.py").write_text("from airflow.sdk import DAG\nraise SystemExit('bye')\n")
    return dags


@pytest.fixture(scope="module")
def facts(folder):
    return read_dags(folder, str(folder.parent / "workspace"))


def test_tasks_are_known_by_their_class_and_its_bases(facts):
    _, training = facts.dags
    classes = {task.task_id: task.classes for task in training.tasks}
    assert "TrainModelOperator" in classes["train"]
    assert "TrainModelOperator" in classes["many"]
    assert "MlflowRunDecoratedOperator" in classes["look"]
    names = {task.task_id: task.operator for task in training.tasks}
    assert names == {"train": "OwnTrainer", "many": "OwnTrainer", "look": "@task.mlflow_run"}


def test_what_starts_a_dag_is_read(facts):
    hourly, training = facts.dags
    assert (hourly.schedule, hourly.assets) == ("0 * * * *", [])
    assert training.schedule is None
    assert training.assets[0].startswith("mlops-drift://e")
    assert training.watchers == ["FileDeleteTrigger"]
    (monitor,) = hourly.tasks
    assert (monitor.outlets, monitor.aliased) == ([training.assets[0]], True)


def test_files_that_do_not_import_are_named(facts):
    assert set(facts.import_errors) == {"broken.py", "leaving.py"}
    assert "nothing_of_that_name" in facts.import_errors["broken.py"]


def test_an_empty_folder_is_level_0(tmp_path, capsys):
    assert cli.main(["doctor", str(tmp_path), "--json"]) == 0
    report = MaturityReport.from_xcom(json.loads(capsys.readouterr().out))
    assert [each.level for each in report.schemes] == [0, 0]
    assert (report.n_dags, report.import_errors) == (0, {})


def test_the_table_says_levels_errors_and_remedies(folder, facts, monkeypatch, capsys):
    monkeypatch.setattr("airflow_mlops_provider.cli.dag_facts.read_dags", lambda *_: facts)
    monkeypatch.setenv("COLUMNS", "160")
    assert cli.main(["doctor", str(folder), "--workspace", str(folder.parent / "w")]) == 0
    shown = capsys.readouterr().out
    for words in (
        "does not import: broken.py: ModuleNotFoundError",
        "Google: level 0 of 2, manual process",
        "For level 1, ML pipeline automation, by https://cloud.google.com/",
        "data validation (missing)",
        "ValidateDataOperator in the training DAG",
        "serving: No serving host runs for",
        "training.py:training:train (OwnTrainer)",
    ):
        assert words in shown, words
    assert not (folder.parent / "w").exists()


def test_a_file_that_ends_the_process_is_an_error_of_one_line(tmp_path, capsys):
    (tmp_path / "a.py").write_text("import os\nfrom airflow.sdk import DAG\nos._exit(7)\n")
    assert cli.main(["doctor", str(tmp_path)]) == 1
    assert "ended with exit code 7" in capsys.readouterr().err


def test_a_folder_that_is_none_is_named(capsys):
    assert cli.main(["doctor", "/does/not/exist"]) == 1
    assert "DAGS_FOLDER" in capsys.readouterr().err


def test_the_examples_lack_only_what_is_said_here():
    services = {
        "mlflow": ["runs", "tracked", "aliases"],
        "serving": ["endpoints"],
        "workspace": ["prediction_logs", "monitoring_reports"],
        "features": ["registries"],
    }
    facts = replace(
        read_dags(ROOT / "dags", None),
        files=replace(read_files(ROOT), git=True),
        services={
            name: ServiceFacts(state="answered", found={kind: ["one"] for kind in kinds})
            for name, kinds in services.items()
        },
    )
    assert facts.import_errors == {}
    watchers = {dag.dag_id: dag.watchers for dag in facts.dags}
    assert watchers["level1_continuous_training"] == ["NewFilesEventTrigger"]
    google, microsoft = judge(facts, "here").schemes
    assert google.level == google.highest_level
    assert microsoft.level == microsoft.highest_level


def test_criteria_name_what_exists():
    text = "".join(path.read_text() for path in Path(doctor.__path__[0]).glob("*.py"))
    known = {*operators.__all__, *sensors.__all__}
    known |= {MlopsOperator.__name__, ReleaseOperator.__name__}
    named = set(re.findall(r"\b[A-Z]\w+(?:Operator|Sensor)\b", text))
    decorated = {name for name in named if name.endswith("DecoratedOperator")}
    assert named - decorated <= known
    modules = "".join(
        path.read_text() for path in (ROOT / "airflow_mlops_provider/decorators").glob("*.py")
    )
    assert all(f"class {name}" in modules for name in decorated)


def test_remedies_name_pages_that_exist():
    for scheme in SCHEMES:
        for each in scheme.criteria:
            for page in re.findall(r"(?:docs|dags)/[\w-]+\.\w+", each.remedy):
                assert (ROOT / page).is_file(), page


def test_the_commands_of_the_page_are_understood():
    commands = re.findall(
        r"^airflow-mlops (doctor.*)$", (ROOT / "docs/doctor.md").read_text(), re.MULTILINE
    )
    assert len(commands) == 3
    for command in commands:
        assert cli.build_parser().parse_args(command.split()).run is cli.doctor.run
