from __future__ import annotations

import importlib
import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pytest

from airflow_mlops_provider.cli import main
from airflow_mlops_provider.exceptions import ModelError, ParameterError
from airflow_mlops_provider.records import TrainingSpec
from airflow_mlops_provider.steps.register import register_model
from airflow_mlops_provider.steps.reproduce import REPRODUCES, Room, reproduce_run
from airflow_mlops_provider.steps.reproduce_compare import compare_predictions
from airflow_mlops_provider.steps.reproduce_recorded import Store
from airflow_mlops_provider.steps.snapshot import read_dataset, write_dataset
from airflow_mlops_provider.steps.track import experiment_id, start_pipeline_run, task_run
from tests.training import evaluate, train
from tests.unit.steps.conftest import frame_of

FOREST = "sklearn.ensemble.RandomForestClassifier"
GIVEN = {"features": ["hour"], "target": "late", "params": {"n_estimators": 5, "max_depth": 3}}
FACTORY = """
from sklearn.ensemble import RandomForestClassifier
def forest(**params):
    return RandomForestClassifier(**{"min_samples_leaf": 2, **params})
"""


@pytest.fixture
def pipeline(client, experiment, request):
    """Tags of a DAG run whose MLflow run is open."""
    tags = {"airflow.dag_id": "a_dag", "airflow.run_id": request.node.name}
    return tags, start_pipeline_run(client, experiment, tags, name="run", extra_tags={})


@pytest.fixture
def trained(client, experiment, pipeline, dataset, holdout, tmp_path):
    """Train and evaluate as two tasks of a DAG run; gives the model."""

    def make(estimator=FOREST, **changes):
        tags, _ = pipeline
        with task_run(client, experiment, tags, {"airflow.task_id": "train"}, "train") as run:
            model = train(dataset, estimator, run=run, **{**GIVEN, **changes})
        with task_run(client, experiment, tags, {"airflow.task_id": "judge"}, "judge") as run:
            report = evaluate(model.model_uri, holdout, workspace=str(tmp_path), run=run)
            run.log_record(report)
        return model

    return make


@pytest.fixture
def reproduce(client, tmp_path_factory):
    artifacts = tmp_path_factory.mktemp("artifacts")

    def ask(subject, **places):
        experiment = experiment_id(client, "reproductions", str(artifacts))
        return reproduce_run(Store(client), subject, Room(client, experiment, **places))

    return ask


@pytest.fixture
def factory(tmp_path, monkeypatch):
    """A module of a team's own, which can be written anew; gives the import path."""

    def write(source):
        (tmp_path / "teams_model.py").write_text(source)
        sys.modules.pop("teams_model", None)
        importlib.invalidate_caches()
        return "teams_model.forest"

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield write
    sys.modules.pop("teams_model", None)


def told(report):
    """The differences that matter."""
    return {(each.kind, each.name): each for each in report.differences if each.matters}


def test_the_same_inputs_give_the_same_model(client, trained, reproduce):
    model = trained()
    report = reproduce(model.run_id)
    assert report.outcome == "identical"
    assert report.predictions.n == 990
    assert report.predictions.differing == 0
    assert {"train_rows", "auc on holdout", "log_loss on holdout"} <= set(report.checked)
    assert not [name for name in report.checked if "seconds" in name]
    again = client.get_run(report.reproduced_run_id)
    assert again.data.tags[REPRODUCES] == model.run_id
    assert again.info.status == "FINISHED"


def test_a_training_is_found_by_pipeline_run_model_version_and_alias(
    client, trained, reproduce, pipeline
):
    model = trained()
    version = register_model(client, model, name="reproduced")
    subjects = [pipeline[1], model.model_uri, version.model_uri, "models:/reproduced@champion"]
    for subject in subjects:
        report = reproduce(subject)
        assert (report.outcome, report.run_id) == ("identical", model.run_id)


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("0" * 32, "run id or a model URI"),
        ("models:/m-00000000000000000000000000000000", "run id or a model URI"),
        ("models:/nobody/1", "no such version"),
        ("models:/nobody", "models:/name@alias"),
    ],
)
def test_what_names_no_training_is_said(reproduce, subject, said):
    with pytest.raises(ParameterError, match=said):
        reproduce(subject)


def test_a_pipeline_without_a_training_is_said(reproduce, pipeline):
    with pytest.raises(ParameterError, match="none"):
        reproduce(pipeline[1])


def test_two_trainings_in_a_pipeline_are_named(client, experiment, trained, reproduce, pipeline):
    first = trained()
    tags, run_id = pipeline
    spec = {"airflow.task_id": "other"}
    with task_run(client, experiment, tags, spec, "other") as run:
        train(dataset_of(client, first.run_id), FOREST, run=run, **GIVEN)
    with pytest.raises(ParameterError, match=r"2 of them: .*other"):
        reproduce(run_id)


def dataset_of(client, run_id):
    return spec_of(client, run_id).dataset


def spec_of(client, run_id):
    path = client.download_artifacts(run_id, "records/TrainingSpec.json")
    with open(path) as file:
        return TrainingSpec.from_xcom(json.load(file))


def test_a_training_that_failed_has_nothing_to_compare(client, experiment, reproduce, dataset):
    with (
        pytest.raises(ModelError),
        task_run(client, experiment, {}, {"airflow.task_id": "fails"}, "t") as run,
    ):
        train(dataset, FOREST, run=run, **{**GIVEN, "params": {"n_estimators": -1}})
    with pytest.raises(ParameterError, match=r"finished training .* got none"):
        reproduce(run.run_id)


def test_a_changed_parameter_is_named(client, trained, reproduce):
    model = trained()
    spec = spec_of(client, model.run_id)
    changed = replace(spec, params=spec.params | {"n_estimators": 7})
    client.log_dict(model.run_id, changed.to_xcom(), "records/TrainingSpec.json")
    report = reproduce(model.run_id)
    assert report.outcome == "differs"
    found = told(report)
    assert found["parameter", "n_estimators"].recorded == "5"
    assert found["parameter", "n_estimators"].found == "7"
    assert ("predictions", "predictions") in found
    assert ("evaluation", "auc on holdout") in found
    assert report.predictions.differing > 0
    assert 0 < report.predictions.largest <= 1
    assert report.deterministic is True


def test_a_changed_source_is_named_and_what_it_changed(trained, reproduce, factory):
    model = trained(factory(FACTORY))
    assert reproduce(model.run_id).outcome == "identical"
    factory(FACTORY.replace("2", "100"))
    found = told(reproduce(model.run_id))
    assert ("code", "teams_model.py") in found
    assert found["parameter", "min_samples_leaf"].recorded == "2"
    assert found["parameter", "min_samples_leaf"].found == "100"


def test_a_comment_in_the_source_is_a_difference_in_code_alone(trained, reproduce, factory):
    model = trained(factory(FACTORY))
    factory(FACTORY + "# a comment\n")
    report = reproduce(model.run_id)
    assert report.outcome == "differs"
    assert list(told(report)) == [("code", "teams_model.py")]
    assert report.predictions.differing == 0


def test_a_factory_that_cannot_be_imported_says_how_to_give_it(
    trained, reproduce, factory, tmp_path
):
    model = trained(factory(FACTORY))
    sys.modules.pop("teams_model")
    (tmp_path / "teams_model.py").unlink()
    report = reproduce(model.run_id)
    assert report.outcome == "cannot"
    assert "teams_model.forest" in report.reason
    assert "--dags-folder" in report.reason


@pytest.mark.parametrize("where", ["the rows", "the footer"])
def test_a_changed_byte_of_the_dataset_is_said(trained, reproduce, dataset, where):
    model = trained()
    with open(dataset.uri, "r+b") as file:
        place = 200 if where == "the rows" else file.read().index(b"parquet-cpp")
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1]))
    report = reproduce(model.run_id)
    assert report.outcome in ("differs", "cannot")
    assert ("dataset", "flights (file hash)") in told(report)


def test_other_rows_are_told_from_other_bytes(trained, reproduce, dataset, tmp_path):
    model = trained()
    frame = read_dataset(dataset)
    frame.to_parquet(tmp_path / "same-rows.parquet", compression="gzip")
    report = reproduce(model.run_id, dataset_uri=str(tmp_path / "same-rows.parquet"))
    assert list(told(report)) == [("dataset", "flights (file hash)")]
    assert report.predictions.differing == 0
    other = write_dataset(frame.iloc[::2], "flights", str(tmp_path), "test")
    report = reproduce(model.run_id, dataset_uri=other.uri)
    assert ("dataset", "flights (rows)") in told(report)
    assert ("metric", "train_rows") in told(report)


def test_a_dataset_that_is_gone_is_said_and_may_lie_elsewhere(
    trained, reproduce, dataset, tmp_path_factory, tmp_path
):
    model = trained()
    copy = tmp_path_factory.mktemp("copy")
    shutil.move(tmp_path / "datasets", copy / "datasets")
    report = reproduce(model.run_id)
    assert report.outcome == "cannot"
    assert dataset.uri in report.reason
    assert reproduce(model.run_id, workspace=str(copy)).outcome == "identical"


def test_code_that_fails_now_cannot_be_reproduced_and_is_named(trained, reproduce, factory):
    model = trained(factory(FACTORY))
    factory(FACTORY.replace("return", "raise OSError('no licence')\n    return"))
    report = reproduce(model.run_id)
    assert report.outcome == "cannot"
    assert "OSError: no licence" in report.reason


def test_an_evaluation_whose_rows_are_gone_is_not_compared(trained, reproduce, holdout):
    model = trained()
    Path(holdout.uri).unlink()
    report = reproduce(model.run_id)
    assert report.outcome == "identical"
    assert any("evaluation on holdout" in each for each in report.not_compared)


def test_a_workspace_with_its_own_mlflow_may_be_copied_elsewhere(tmp_path, capsys):
    workspace, copy = tmp_path / "workspace", tmp_path / "copy"
    (workspace / "mlflow").mkdir(parents=True)
    uri = f"sqlite:///{workspace}/mlflow/mlflow.db"
    embedded = mlflow.MlflowClient(uri, uri)
    experiment = experiment_id(embedded, "a_dag", str(workspace / "mlflow" / "artifacts"))
    dataset = write_dataset(frame_of(200), "flights", str(workspace), "test")
    with task_run(embedded, experiment, {}, {"airflow.task_id": "train"}, "train") as run:
        train(dataset, FOREST, run=run, **GIVEN)
    shutil.move(workspace, copy)
    assert main(["reproduce", run.run_id, "--workspace", str(copy)]) == 0
    assert "200 of 200 predictions are the same" in capsys.readouterr().out
    assert not workspace.exists()


def test_chance_is_told_from_a_changed_input(trained, reproduce):
    report = reproduce(trained(seed=None).run_id)
    assert report.outcome == "differs"
    assert report.deterministic is False
    assert {kind for kind, _ in told(report)} == {"predictions", "evaluation"}


def test_a_package_of_the_model_matters_and_others_are_told(client, trained, reproduce):
    model = trained()
    folder = client.get_logged_model(model.model_id).artifact_location
    file = f"{folder.removeprefix('file://')}/requirements.txt"
    with open(file) as given:
        requirements = given.read()
    with open(file, "w") as changed:
        changed.write(requirements.replace("scikit-learn==", "scikit-learn==0."))
    client.log_dict(
        model.run_id,
        {"python": "3.10.0", "packages": {"flask": "0.1", "numpy": np.__version__}},
        "environment.json",
    )
    report = reproduce(model.run_id)
    assert list(told(report)) == [("environment", "scikit-learn")]
    others = {each.name: each.recorded for each in report.differences if not each.matters}
    assert others == {"flask": "0.1", "python": "3.10.0"}
    assert report.not_compared == ["git commit (not recorded)"]


@pytest.mark.parametrize(
    ("now", "differing", "largest"),
    [
        ([[0.1], [0.5], [np.nan]], 0, 0.0),
        ([[0.1], [0.7], [np.nan]], 1, 0.2),
        ([[0.1], [0.7], [0.2]], 2, None),
        ([[0.1], [0.5]], 3, None),
        ([["a"], ["b"], ["c"]], 3, None),
    ],
)
def test_predictions_are_compared_row_by_row(now, differing, largest):
    found = compare_predictions(np.array([[0.1], [0.5], [np.nan]]), np.array(now))
    assert (found.n, found.differing) == (3, differing)
    assert found.largest == pytest.approx(largest)


def test_the_command_tells_it_in_words_and_by_its_exit_code(client, trained, capsys):
    model = trained()
    store = ["--tracking-uri", client.tracking_uri, "--no-log"]
    assert main(["reproduce", model.run_id, *store]) == 0
    shown = capsys.readouterr().out
    assert "is reproduced" in shown
    assert "990 of 990 predictions are the same" in shown
    assert "the new run" not in shown
    experiments = [each.experiment_id for each in client.search_experiments()]
    assert client.search_runs(experiments, f"tags.`{REPRODUCES}` = '{model.run_id}'") == []


def test_the_command_tells_what_differs(client, trained, factory, capsys):
    model = trained(factory(FACTORY))
    factory(FACTORY.replace("2", "100"))
    assert main(["reproduce", model.run_id, "--tracking-uri", client.tracking_uri]) == 1
    shown = capsys.readouterr().out
    assert "parameter: min_samples_leaf 2 -> 100" in shown
    assert "code: teams_model.py" in shown
    assert "an input differs, not chance" in shown


def test_the_command_fails_with_2_where_nothing_can_be_compared(client, capsys):
    assert main(["reproduce", "0" * 32, "--tracking-uri", client.tracking_uri]) == 2
    assert "run id or a model URI" in capsys.readouterr().err


def test_the_report_as_json_is_the_record(client, trained, capsys):
    model = trained()
    main(["reproduce", model.run_id, "--tracking-uri", client.tracking_uri, "--json"])
    payload = json.loads(capsys.readouterr().out)
    assert payload["outcome"] == "identical"
    assert client.get_run(payload["reproduced_run_id"]).data.tags[REPRODUCES] == model.run_id
