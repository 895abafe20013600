from __future__ import annotations

import pytest

from airflow_mlops_provider.records import PipelineEnvironment, PublishedPipeline
from airflow_mlops_provider.steps.pipeline_cd.ledger import Ledger
from airflow_mlops_provider.steps.pipeline_cd.promote import promote_pipeline, roll_back_pipeline
from tests.forges import ENVIRONMENT, Forge

AT = "2026-01-01T00:00:00+00:00"


class Delivery:
    """One environment of a forge, and who promotes to it."""

    def __init__(self, forge: Forge) -> None:
        self.forge = forge
        self.environment = environment_of(repository=forge.address)
        self.clones = 0

    def ledger(self) -> Ledger:
        """A fresh clone, as each task has it."""
        self.clones += 1
        folder = self.forge.folder / f"ledger-{self.clones}"
        return Ledger(self.environment, folder, ENVIRONMENT)

    def version(self, commit: str) -> PublishedPipeline:
        return version_of(commit, self.forge.address)

    def promote(self, commit: str, *, ledger: Ledger | None = None, by: str = "cd run-1", **more):
        return promote_pipeline(
            ledger or self.ledger(),
            self.environment,
            self.version(commit),
            by=by,
            at=AT,
            **more,
        )

    def roll_back(self, commit: str, *, by: str = "cd run-1"):
        return roll_back_pipeline(
            self.ledger(), self.environment, self.version(commit), by=by, at=AT
        )

    def at(self) -> str | None:
        told = self.forge.git("ls-remote", "origin", "refs/heads/production")
        return told.split()[0] if told else None

    def set_by_hand(self, commit: str) -> None:
        self.forge.git("push", "--quiet", "--force", "origin", f"{commit}:refs/heads/production")


def environment_of(**changes):
    given = {
        "name": "production",
        "repository": "/forge",
        "ref": "production",
        "airflow_conn_id": "airflow",
        "bundle": "pipeline",
        "dag_id": "train",
    }
    return PipelineEnvironment(**{**given, **changes})


def version_of(commit, repository="/forge"):
    return PublishedPipeline(
        name="shop",
        version="1",
        commit=commit,
        manifest_uri="/m",
        wheel_uri="/w",
        wheel_sha256="w",
        source_uri="/s",
        repository=repository,
    )


@pytest.fixture
def delivery(tmp_path):
    return Delivery(Forge(tmp_path))


@pytest.fixture
def commits(delivery):
    """Three commits of the main branch, oldest first; production follows the first."""
    made = [delivery.forge.pushed({"file": str(number)}) for number in range(3)]
    delivery.set_by_hand(made[0])
    return made


@pytest.fixture
def environment():
    return environment_of
