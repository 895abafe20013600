"""The children that a host leaves behind, and those that it finds."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops_provider.serving import keeper
from airflow_mlops_provider.serving.processes import spawn

if TYPE_CHECKING:
    import psutil


class Orphans:
    """Sees to it that every child of a host has an heir or an end.

    Args:
        folder: The host's folder in the workspace.
        orphan_seconds: How long children outlive a host that is killed.
    """

    def __init__(self, folder: Path, orphan_seconds: float) -> None:
        self.folder, self.orphan_seconds = folder, orphan_seconds
        self._found: list[psutil.Process] = []
        self._keeper: Process | None = None

    async def enter(self) -> None:
        """Take over what an earlier host left: from now on only this one ends it."""
        self._found = keeper.children_of(self.folder)
        await self.keep()
        keepers = [process for process in self._found if keeper.is_keeper(process)]
        await asyncio.to_thread(keeper.end, keepers)

    async def keep(self) -> None:
        """Have a keeper that ends the children, should we not be able to."""
        if self._keeper is None or self._keeper.returncode is not None:
            command = [sys.executable, "-m", keeper.__name__, str(self.folder)]
            log_file = self.folder / "processes" / "keeper.log"
            self._keeper = await spawn(
                [*command, str(self.orphan_seconds)], log_file, self.folder, held=True
            )

    async def end_unclaimed(self, claimed: Collection[int]) -> None:
        """End what an earlier host left, but for ``claimed`` process ids and their children."""
        strangers = [
            process
            for process in self._found
            if not {process.pid, *(each.pid for each in keeper.ancestors(process))} & {*claimed}
        ]
        await asyncio.to_thread(keeper.end, strangers)

    async def end(self) -> None:
        """End every child that is left, the keeper too."""
        await asyncio.to_thread(keeper.end, keeper.children_of(self.folder))
