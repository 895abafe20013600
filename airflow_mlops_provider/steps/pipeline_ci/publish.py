"""Keep a version of a pipeline for ever: its wheel, source, reports and provenance."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from airflow_mlops_provider.exceptions import (
    DataError,
    ParameterError,
    PipelineStageError,
    RegistryConflictError,
)
from airflow_mlops_provider.records import (
    PipelineBuild,
    PipelineStagingReport,
    PipelineTestReport,
    PublishedPipeline,
)
from airflow_mlops_provider.steps.pipeline_ci.source import keep
from airflow_mlops_provider.workspace import (
    exists,
    file_hash,
    join,
    read_json,
    write_json,
)

MANIFEST = "manifest.json"
_FORMAT = 1


def publish_pipeline(
    build: PipelineBuild,
    report: PipelineTestReport,
    staging: PipelineStagingReport | None,
    *,
    folder: str,
    run: Mapping[str, str],
) -> PublishedPipeline:
    """Publish a build below ``folder/NAME/VERSION/COMMIT``.

    The manifest is written last and at once, and a version without one is not published: a killed
    publication leaves nothing that counts, and the next one does it again. What is published never
    changes; the same build again gives the same record.

    Args:
        build: What to publish.
        report: What its tests said; of the same wheel, and passed.
        staging: What its staging run said, likewise.
        folder: fsspec URI.
        run: Where it was published from, kept in the manifest.

    Raises:
        PipelineStageError: a report is of another wheel, or did not pass.
        RegistryConflictError: another wheel of this version and commit is published.
        DataError: a file of the build is gone, or is not what was built.
        ParameterError: ``folder`` is empty.
    """
    if not folder:
        raise ParameterError.of("folder", "publish_pipeline", "a folder or fsspec URI", folder)
    _require_same(build, [report, *([staging] if staging else [])])
    target = join(folder, build.name, build.version, build.commit)
    manifest = join(target, MANIFEST)
    if exists(manifest):
        return _published(build, manifest)
    reports = [*report.artifacts, *(staging.artifacts if staging else [])]
    files = {
        "wheel": _kept(build.wheel_uri, target, build.wheel_sha256),
        "source": _kept(build.source_uri, target, build.source_sha256),
        "reports": [_kept(uri, join(target, "reports")) for uri in reports],
    }
    content = {
        "format": _FORMAT,
        "build": build.to_xcom(),
        "tests": report.to_xcom(),
        "staging": staging.to_xcom() if staging else None,
        "run": dict(run),
        "files": files,
    }
    _write_once(manifest, content)
    return _published(build, manifest)


def read_published(manifest_uri: str) -> PublishedPipeline:
    """Read a published version.

    Raises:
        DataError: there is none.
    """
    try:
        content = read_json(manifest_uri)
    except FileNotFoundError as error:
        raise DataError(
            f"No pipeline is published at {manifest_uri}. Publish the commit, or correct the URI."
        ) from error
    build = PipelineBuild.from_xcom(content["build"])
    return PublishedPipeline(
        name=build.name,
        version=build.version,
        commit=build.commit,
        manifest_uri=manifest_uri,
        wheel_uri=content["files"]["wheel"]["uri"],
        wheel_sha256=build.wheel_sha256,
        source_uri=content["files"]["source"]["uri"],
        repository=build.repository,
    )


def _require_same(
    build: PipelineBuild, reports: Sequence[PipelineTestReport | PipelineStagingReport]
) -> None:
    for each in reports:
        failed = [check.name for check in each.checks if check.outcome == "failed"]
        if each.wheel_sha256 != build.wheel_sha256 or failed:
            what = f"failed {failed}" if failed else f"is of the wheel {each.wheel_sha256[:12]}"
            raise PipelineStageError(
                f"The publish stage refused commit {build.commit[:12]}: the "
                f"{type(each).__name__} {what}. Expected one of the wheel "
                f"{build.wheel_sha256[:12]} that passed; test and stage this build."
            )


def _published(build: PipelineBuild, manifest: str) -> PublishedPipeline:
    found = read_published(manifest)
    if found.wheel_sha256 != build.wheel_sha256:
        raise RegistryConflictError(
            f"{build.name} {build.version} of commit {build.commit[:12]} is published with the "
            f"wheel {found.wheel_sha256[:12]} at {manifest}; got the wheel "
            f"{build.wheel_sha256[:12]}. A published version does not change: use that one, or "
            "make a new commit."
        )
    return found


def _kept(uri: str, folder: str, sha256: str | None = None) -> dict[str, str]:
    """Copy a file, whole, and return what the manifest says of it."""
    try:
        found = file_hash(uri)
    except FileNotFoundError as error:
        raise DataError(f"There is no file at {uri} to publish. Run the stages again.") from error
    if sha256 not in (None, found):
        raise DataError(
            f"{uri} is not what was built: expected sha256 {sha256}, found {found}. Build again."
        )
    target = join(folder, found[:16], uri.rsplit("/", 1)[-1])
    return {"uri": keep(uri, target), "sha256": found}


def _write_once(uri: str, content: dict[str, Any]) -> None:
    """Write a JSON file unless there is one; of rivals on a local disk exactly one writes it."""
    fs, path = url_to_fs(uri)
    if not isinstance(fs, LocalFileSystem):
        if not exists(uri):
            write_json(uri, content)
        return
    ours = f"{path}.{os.getpid()}.tmp"
    write_json(ours, content)
    try:
        os.link(ours, path)
    except FileExistsError:
        pass  # a rival was first; the caller compares
    finally:
        os.unlink(ours)
