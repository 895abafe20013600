"""The ref that an environment follows, and the ledger of how it was moved, in one repository.

The ledger is a chain of empty commits under ``refs/mlops/environments/NAME``. Ref and ledger move
by one atomic push, each only from where it was seen: neither a rival nor a killed worker can
leave one without the other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_mlops_provider.exceptions import DataError, ParameterError
from airflow_mlops_provider.records import PipelineEnvironment, PipelinePromotion
from airflow_mlops_provider.steps.pipeline_ci.git import Git
from airflow_mlops_provider.workspace import checked_name

_REF = re.compile(r"refs/(heads|tags)/[A-Za-z0-9][\w./-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_HERE = "refs/heads/ledger"


@dataclass(frozen=True)
class Seen:
    """Where an environment's ref is, and the last entry of its ledger."""

    commit: str | None
    entry: PipelinePromotion | None


class Ledger(Git):
    """Reads and moves the ref of one environment.

    Args:
        environment: The environment.
        folder: Folder of the clone, made if need be.
        variables: All the environment variables that git gets.

    Raises:
        ParameterError: the environment's repository, ref or name cannot be used.
    """

    def __init__(
        self, environment: PipelineEnvironment, folder: Path, variables: Mapping[str, str]
    ) -> None:
        who = {f"GIT_{role}_NAME": "airflow-mlops" for role in ("AUTHOR", "COMMITTER")}
        mail = {f"GIT_{role}_EMAIL": "airflow-mlops@localhost" for role in ("AUTHOR", "COMMITTER")}
        super().__init__(environment.repository, folder, {**variables, **who, **mail})
        self.ref = _full_ref(environment.ref)
        self._ledger = "refs/mlops/environments/" + checked_name(
            environment.name, "name", "PipelineEnvironment"
        )

    def look(self) -> Seen:
        """Return where ref and ledger are.

        Raises:
            DataError: the ledger was written by somebody else.
            ServiceError: the repository does not answer, or the ledger moves right now.
        """
        told = self._ask("ls-remote", self.repository, self.ref, self._ledger)
        at = {ref: commit for commit, ref in map(str.split, told.splitlines())}
        entry = at.get(self._ledger)
        return Seen(at.get(self.ref), self._entry(entry) if entry else None)

    def fetch(self, commit: str, source: str) -> None:
        """Fetch a commit with its history from the repository, else from ``source``.

        Raises:
            ParameterError: ``commit`` is not a full hash.
            DataError: neither has it.
            ServiceError: the repository does not answer.
        """
        if not _COMMIT.fullmatch(commit):
            raise ParameterError.of("version", "Ledger", "of a full commit hash", commit)
        self._fetch("+refs/heads/*:refs/remotes/origin/*")
        for repository in (self.repository, source):
            if self._has(commit) or self._is_true(
                "fetch", "--quiet", "--no-tags", "--", repository, commit
            ):
                return
        raise DataError(
            f"Neither {self.repository} nor {source} has commit {commit}. Push it, or promote "
            "another version."
        )

    def move(self, seen: Seen, entry: PipelinePromotion) -> PipelinePromotion | None:
        """Move the ref to ``entry.commit``, which is here, and return the entry as it is kept.

        None if ref or ledger are no longer where they were seen.

        Raises:
            ServiceError: the repository does not answer, or does not let us push.
        """
        parents = [seen.entry.entry] if seen.entry else []
        arguments = [f"-p{each}" for each in [*parents, entry.commit]]
        content = json.dumps(replace(entry, entry="").to_xcom())
        message = f"{entry.kind.capitalize()} of {entry.commit[:12]} by {entry.by}\n\n{content}"
        ours = self._ask("commit-tree", self._ask("mktree"), *arguments, "-m", message)
        leases = {self.ref: seen.commit, self._ledger: parents[0] if parents else None}
        push = [
            *("push", "--quiet", "--atomic"),
            *(f"--force-with-lease={ref}:{at or ''}" for ref, at in leases.items()),
            *("--", self.repository, f"{entry.commit}:{self.ref}", f"{ours}:{self._ledger}"),
        ]
        if not self._is_true(*push):
            now = self.look()
            if now == seen:
                self._ask(*push)  # once more, for its error
            elif not now.entry or now.entry.entry != ours:
                return None  # otherwise it was pushed, but the answer was lost
        return replace(entry, entry=ours)

    def describe(self, commit: str) -> str:
        """Return a commit with who made it and when, as far as the repository tells."""
        self._is_true("fetch", "--quiet", "--no-tags", "--", self.repository, commit)
        said = self._run(("show", "-s", "--format=%h '%s' by %cn <%ce> at %cI", f"{commit}^0"))
        return said.stdout.strip() if said.returncode == 0 else commit[:12]

    def _entry(self, commit: str) -> PipelinePromotion:
        if not self._has(commit):
            self._fetch(f"+{self._ledger}:{_HERE}")
        body = self._ask("show", "-s", "--format=%b", commit)
        try:
            return replace(PipelinePromotion.from_xcom(json.loads(body)), entry=commit)
        except ValueError as error:
            raise DataError(
                f"{self._ledger} of {self.repository} is at {self.describe(commit)}, which is no "
                "entry of a ledger. Set it back to the last that is, or delete it."
            ) from error


def _full_ref(ref: str) -> str:
    full = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
    if not _REF.fullmatch(full) or ".." in full or full.endswith((".lock", "/", ".")):
        constraint = "a branch, or a ref below refs/heads/ or refs/tags/"
        raise ParameterError.of("ref", "PipelineEnvironment", constraint, ref)
    return full
