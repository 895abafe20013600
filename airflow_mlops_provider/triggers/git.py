"""Wait in the triggerer for what is pushed to a branch of a git repository."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from airflow_mlops_provider.exceptions import DataError, ServiceError

if TYPE_CHECKING:
    from airflow_mlops_provider.steps.pipeline_ci.git import Push

_STATE_KEY = "mlops_git_head"
_HAND_OVER_SECONDS = 3.0  # within one, the triggerer writes down the events it was given


class GitBranchTrigger(BaseEventTrigger):
    """Turn pushes to a branch into events of an asset, for an ``AssetWatcher``.

    All that was pushed between two looks is one event. Its payload has ``repository``, ``branch``,
    ``commits`` (full hashes of the branch's new commits, oldest first, merges as one) and
    ``forced``: whether the branch was set to something that does not follow from what it was. What
    was there when the trigger first looked is no push. What was told is kept with the asset a
    moment later: a restart of the triggerer loses nothing, and only one within that moment tells
    twice.

    Args:
        repository: Path, ``file://``, ``https://`` or ``ssh`` URL, without a password: git on the
            triggerer needs a credential helper or a key.
        branch: Its name.
        max_commits: Of more new commits only the newest are told.
        poke_interval: Seconds between two looks.
    """

    def __init__(
        self,
        *,
        repository: str,
        branch: str = "main",
        max_commits: int = 20,
        poke_interval: float = 30,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # as Airflow wrote it
        self.repository = repository
        self.branch = branch
        self.max_commits = max_commits
        self.poke_interval = poke_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what makes this trigger anew elsewhere."""
        arguments = {
            "repository": self.repository,
            "branch": self.branch,
            "max_commits": self.max_commits,
            "poke_interval": self.poke_interval,
        }
        return "airflow_mlops_provider.triggers.git.GitBranchTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield an event whenever something was pushed, for as long as somebody watches."""
        with tempfile.TemporaryDirectory(prefix="airflow-mlops-git-") as folder:
            seen = await self._remembered()
            while True:
                head, push = await asyncio.to_thread(self._look, Path(folder), seen)
                if push is not None:
                    yield TriggerEvent(
                        {
                            "repository": self.repository,
                            "branch": self.branch,
                            "commits": list(push.commits),
                            "forced": push.forced,
                        }
                    )
                    await asyncio.sleep(_HAND_OVER_SECONDS)
                if head != seen:
                    seen = head
                    await self._remember(head)
                await asyncio.sleep(self.poke_interval)

    def _look(self, folder: Path, seen: str | None) -> tuple[str | None, Push | None]:
        """Return what the branch is at, and what was pushed; ``seen`` while nobody answers."""
        from airflow_mlops_provider.steps.pipeline_ci.git import Git

        try:
            git = Git(self.repository, folder, os.environ)
            head = git.head(self.branch)
            if seen is None or head == seen:
                return head, None
            return head, git.push_since(self.branch, seen, head, at_most=self.max_commits)
        except (ServiceError, DataError) as error:
            self.log.warning("Looking again in %s s: %s", self.poke_interval, error)
            return seen, None

    async def _remembered(self) -> str | None:
        stored = await self.asset_state_store.aget(_STATE_KEY) if self.asset_state_store else None
        return stored if isinstance(stored, str) else None

    async def _remember(self, head: str | None) -> None:
        if self.asset_state_store:
            await self.asset_state_store.aset(_STATE_KEY, head)
