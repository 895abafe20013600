"""What is asked of a git repository: its newest commits, and the files of one."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from airflow_mlops_provider.exceptions import DataError, ParameterError, ServiceError

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_BRANCH = re.compile(r"[A-Za-z0-9][\w./-]*")
_WATCHED = "refs/heads/watched"
_LIMIT_SECONDS = 300.0
_LONGEST = 500
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
"""Variables that hooks of git have, and that would lead to their repository."""
_QUIET = {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}


@dataclass(frozen=True)
class CommitInfo:
    """One commit."""

    commit: str
    tree: str
    author: str
    committed_at: str
    subject: str


@dataclass(frozen=True)
class Push:
    """What happened to a branch between two looks."""

    commits: tuple[str, ...]
    """New commits of the branch itself, oldest first; never empty."""
    forced: bool
    """Whether the branch no longer has the commit it was at."""


class Git:
    """A bare clone, filled as far as it is asked.

    Args:
        repository: Path, ``file://``, ``https://`` or ``ssh`` URL, without a password in it.
        folder: Folder of the clone, made if need be.
        environment: All the environment variables that git gets (``HOME`` for its credential
            helpers and keys).

    Raises:
        ParameterError: ``repository`` is no address, or has a password in it.
    """

    def __init__(self, repository: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.repository = _checked_address(repository)
        self._folder = folder
        given = {name: value for name, value in environment.items() if name not in _ELSEWHERE}
        self._environment = {**given, **_QUIET}

    def head(self, branch: str) -> str:
        """Return the commit a branch is at.

        Raises:
            DataError: there is no such branch.
            ParameterError: ``branch`` is no name of a branch.
            ServiceError: the repository does not answer.
        """
        if not _BRANCH.fullmatch(branch) or ".." in branch:
            raise ParameterError.of("branch", "Git", "the name of a branch", branch)
        said = self._ask("ls-remote", self.repository, f"refs/heads/{branch}")
        if not said:
            raise DataError(
                f"{self.repository} has no branch {branch!r}. Push one, or correct `branch`."
            )
        return said.split()[0]

    def push_since(self, branch: str, seen: str, head: str, *, at_most: int) -> Push:
        """Return what was pushed to a branch that was at ``seen`` and is at ``head``.

        Of more than ``at_most`` commits the newest are told. A branch set back to an earlier
        commit gives that one.

        Raises:
            ServiceError: the repository does not answer, or the branch has moved on meanwhile.
        """
        self._fetch(f"+refs/heads/{branch}:{_WATCHED}")
        if not self._has(seen):
            return Push((head,), forced=True)
        forced = not self._is_true("merge-base", "--is-ancestor", seen, head)
        listed = self._ask(
            *("rev-list", "--first-parent", f"--max-count={at_most}", head, f"^{seen}")
        )
        return Push(tuple(reversed(listed.split())) or (head,), forced)

    def info(self, commit: str) -> CommitInfo:
        """Fetch a commit, also one that no branch has any more, and return what it says.

        Raises:
            ParameterError: ``commit`` is not a full hash.
            DataError: the repository does not have it.
            ServiceError: the repository does not answer.
        """
        if not _COMMIT.fullmatch(commit):
            raise ParameterError.of("commit", "Git", "the full hash of a commit", commit)
        self._require_answer()
        if not self._fetched(commit):
            raise DataError(
                f"{self.repository} has no commit {commit}. It may have been pushed over, and "
                "removed since; run this for a commit of a branch."
            )
        told = self._ask("show", "-s", "--format=%H%n%T%n%an <%ae>%n%cI%n%s", commit)
        fields = told.split("\n", 4)
        return CommitInfo(*fields, *[""] * (5 - len(fields)))  # the message may be empty

    def archive(self, commit: str, file: Path) -> None:
        """Write the files of a fetched commit to a ``.tar.gz``; same commit, same bytes."""
        self._ask("archive", "--format=tar.gz", f"--output={file.absolute()}", commit)

    def _require_answer(self) -> None:
        """Ask for anything, so that no commit is called missing while nobody answers."""
        self._ask("ls-remote", self.repository, "HEAD")

    def _fetched(self, commit: str) -> bool:
        """Fetch a commit alone if the server gives it, else all branches; tell if it is here."""
        if not self._has(commit) and not self._is_true(
            *("fetch", "--quiet", "--no-tags", "--depth=1", self.repository, commit)
        ):
            self._fetch("+refs/heads/*:refs/remotes/origin/*")
        return self._has(commit)

    def _fetch(self, refspec: str) -> None:
        self._ask("fetch", "--quiet", "--no-tags", self.repository, refspec)

    def _has(self, commit: str) -> bool:
        return self._is_true("cat-file", "-e", f"{commit}^{{commit}}")

    def _is_true(self, *arguments: str) -> bool:
        return self._run(arguments).returncode == 0

    def _ask(self, *arguments: str) -> str:
        ended = self._run(arguments)
        if ended.returncode:
            said = " ".join(ended.stderr.split())[-_LONGEST:]
            raise ServiceError(
                f"git {arguments[0]} failed for {self.repository}: {said}. Check the address, that "
                "this machine may read it, and that it answers."
            )
        return ended.stdout.strip()

    def _run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        if not (self._folder / "HEAD").exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            self._git(["init", "--quiet", "--bare"])
        return self._git(arguments)

    def _git(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(  # noqa: S603 - addresses and names are checked
                ["git", *arguments],  # noqa: S607 - the git of the worker
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=_LIMIT_SECONDS,
                check=False,
            )
        except FileNotFoundError as error:
            raise ParameterError("There is no `git` on the path of this worker. Install it.") from (
                error
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceError(
                f"git {arguments[0]} of {self.repository} took more than {_LIMIT_SECONDS:g} s. "
                "Check that the repository answers."
            ) from error


def _checked_address(repository: str) -> str:
    if not repository or repository.startswith("-") or "::" in repository:
        constraint = "a path, or an https, ssh or file URL"
        raise ParameterError.of("repository", "Git", constraint, repository)
    if "://" in repository and urlsplit(repository).password:
        raise ParameterError(
            "The repository parameter of Git must have no password in it, for it is recorded. "
            "Give git a credential helper or an ssh key on the workers."
        )
    local = Path(repository).expanduser()
    return str(local.absolute()) if local.exists() else repository
