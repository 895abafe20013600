from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import fsspec
import pytest

from airflow_mlops_provider.exceptions import (
    DataError,
    ParameterError,
    PipelineStageError,
    RegistryConflictError,
)
from airflow_mlops_provider.records import (
    PipelineBuild,
    PipelineCheck,
    PipelineStagingReport,
    PipelineTestReport,
)
from airflow_mlops_provider.steps.pipeline_ci import publish
from airflow_mlops_provider.steps.pipeline_ci.publish import publish_pipeline, read_published
from airflow_mlops_provider.workspace import file_hash, read_json

PASSED = PipelineCheck(name="tests", outcome="passed", reason="")
RUN = {"dag_id": "ci", "run_id": "r"}


@pytest.fixture
def built(tmp_path):
    """Make a build with these bytes as its wheel."""

    def make(content=b"wheel"):
        files = {"shop-1.2-py3-none-any.whl": content, "source.tar.gz": b"source"}
        for name, data in files.items():
            (tmp_path / name).write_bytes(data)
        wheel, source = (str(tmp_path / name) for name in files)
        return PipelineBuild(
            repository="file:///shop.git",
            commit="c" * 40,
            tree="t" * 40,
            author="Ada <ada@example.org>",
            committed_at="2026-01-01T00:00:00+00:00",
            subject="Add one",
            source_uri=source,
            source_sha256=file_hash(source),
            name="shop",
            version="1.2",
            wheel_uri=wheel,
            wheel_sha256=file_hash(wheel),
            builders={},
        )

    return make


def report_of(build, tmp_path, **changes):
    (tmp_path / "junit.xml").write_text("<testsuite/>")
    report = PipelineTestReport(
        commit=build.commit,
        wheel_sha256=build.wheel_sha256,
        checks=[PASSED],
        n_tests=1,
        n_failed=0,
        n_skipped=0,
        coverage=None,
        dags=["train"],
        artifacts=[str(tmp_path / "junit.xml")],
    )
    return replace(report, **changes)


def published(build, tmp_path, staging=None, folder=None, **changes):
    report = report_of(build, tmp_path, **changes)
    target = folder or str(tmp_path / "published")
    return publish_pipeline(build, report, staging, folder=target, run=RUN)


@pytest.fixture(params=["disk", "memory"])
def folder(request, tmp_path):
    yield str(tmp_path / "published") if request.param == "disk" else "memory://published"
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/published", recursive=True)


def test_a_version_has_its_wheel_reports_and_provenance(built, tmp_path, folder):
    build = built()
    ref = published(build, tmp_path, folder=folder)
    assert (ref.name, ref.version, ref.commit) == ("shop", "1.2", build.commit)
    content = read_json(ref.manifest_uri)
    assert content["build"] == build.to_xcom()
    assert content["run"] == RUN
    files = [content["files"]["wheel"], content["files"]["source"], *content["files"]["reports"]]
    assert len(files) == 3
    assert all(file_hash(each["uri"]) == each["sha256"] for each in files)
    assert all(each["uri"].startswith(ref.manifest_uri.rpartition("/")[0]) for each in files)


def test_publishing_again_gives_the_same_record_and_changes_nothing(built, tmp_path, folder):
    first = published(built(), tmp_path, folder=folder)
    before = read_json(first.manifest_uri)
    assert published(built(), tmp_path, folder=folder, coverage=0.5) == first
    assert read_json(first.manifest_uri) == before


def test_another_wheel_of_a_published_commit_is_refused(built, tmp_path, folder):
    first = published(built(), tmp_path, folder=folder)
    with pytest.raises(RegistryConflictError, match="is published with the wheel"):
        published(built(b"another"), tmp_path, folder=folder)
    assert read_published(first.manifest_uri) == first


def test_of_two_rivals_one_publishes_and_the_other_is_told(built, tmp_path):
    real = publish._write_once

    def after_a_rival(uri, content):
        with patch.object(publish, "_write_once", real):
            published(built(b"rival"), tmp_path)
        built()
        real(uri, content)

    with (
        patch.object(publish, "_write_once", after_a_rival),
        pytest.raises(RegistryConflictError, match="is published with the wheel"),
    ):
        published(built(), tmp_path)
    (manifest,) = Path(tmp_path, "published").rglob("manifest.json")
    assert file_hash(read_published(str(manifest)).wheel_uri) == built(b"rival").wheel_sha256


def test_nothing_is_published_by_a_worker_that_is_killed(built, tmp_path):
    worker = os.fork()
    if not worker:
        try:
            with patch.object(publish, "_write_once", lambda *given: os.kill(os.getpid(), 9)):
                published(built(), tmp_path)
        finally:
            os._exit(0)
    _, status = os.waitpid(worker, 0)
    assert os.WTERMSIG(status) == 9
    assert not list(Path(tmp_path, "published").rglob("manifest.json"))
    ref = published(built(), tmp_path)
    assert file_hash(ref.wheel_uri) == ref.wheel_sha256


@pytest.mark.parametrize(
    "changes",
    [
        {"checks": [replace(PASSED, outcome="failed")]},
        {"wheel_sha256": "0" * 64},
    ],
)
def test_what_did_not_pass_as_this_wheel_is_not_published(built, tmp_path, changes):
    with pytest.raises(PipelineStageError, match="publish stage refused"):
        published(built(), tmp_path, **changes)
    assert not (tmp_path / "published").exists()


def test_a_staging_that_failed_is_not_published(built, tmp_path):
    build = built()
    staging = PipelineStagingReport(
        commit=build.commit,
        wheel_sha256=build.wheel_sha256,
        dag_id="train",
        checks=[PipelineCheck(name="finite", outcome="failed", reason="loss")],
        metrics={},
        endpoints=[],
        artifacts=[],
    )
    with pytest.raises(PipelineStageError, match="PipelineStagingReport failed"):
        published(build, tmp_path, staging)


def test_a_wheel_that_was_changed_since_is_not_published(built, tmp_path):
    build = built()
    Path(build.wheel_uri).write_bytes(b"changed")
    with pytest.raises(DataError, match="is not what was built"):
        published(build, tmp_path)


def test_what_is_not_published_is_said(tmp_path):
    with pytest.raises(DataError, match="No pipeline is published"):
        read_published(str(tmp_path / "manifest.json"))


def test_a_folder_is_needed(built, tmp_path):
    build = built()
    with pytest.raises(ParameterError, match="folder parameter"):
        publish_pipeline(build, report_of(build, tmp_path), None, folder="", run=RUN)
