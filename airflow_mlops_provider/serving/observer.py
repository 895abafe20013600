"""What the host knows of each deployment's requests: the scorers' counts plus lost attempts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.serving.counters import counters_path, read_total
from airflow_mlops_provider.serving.router import cluster_name
from airflow_mlops_provider.workspace import read_json, write_json

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.state import EndpointState


class Observer:
    """Reads and completes the counters under the host's ``folder``.

    What the router lost is kept as one file that names the router it was read from, so that a
    host which adopts this router counts nothing twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._file = folder / "counters" / "router.json"
        self._router: str | None = None
        self._lost: dict[str, tuple[int, int]] = {}
        """By cluster: lost under earlier routers, and the total of this one."""
        if self._file.exists():
            kept = read_json(str(self._file))
            self._router = kept["router"]
            self._lost = {name: (before, now) for name, (before, now) in kept["lost"].items()}

    def read(self, endpoint: str, name: str) -> dict[str, Any]:
        """Return the counters of a deployment since it was created."""
        total = read_total(self._paths(endpoint, name))
        for shadow, kind in ((False, ""), (True, "shadow_")):
            lost = sum(self._lost.get(cluster_name(endpoint, name, shadow=shadow), (0, 0)))
            total[f"{kind}requests"] += lost
            total[f"{kind}errors"] += lost
        return total

    def forget(self, endpoint: str, name: str) -> None:
        """Drop the counters of a deployment that is gone."""
        for path in self._paths(endpoint, name):
            path.unlink(missing_ok=True)
        for shadow in (False, True):
            self._lost.pop(cluster_name(endpoint, name, shadow=shadow), None)
        self._keep()

    def count_unanswered(
        self, endpoints: Mapping[str, EndpointState], router: str, totals: Mapping[str, int]
    ) -> None:
        """Count as errors the attempts that died with their scorer, which could not log them.

        Args:
            endpoints: Endpoints of the host.
            router: The Envoy process that counted.
            totals: Attempts without an answer by cluster, since this process started.
        """
        known = {
            cluster_name(endpoint, name, shadow=shadow)
            for endpoint, state in endpoints.items()
            for name in state.deployments
            for shadow in (False, True)
        }
        counted = {cluster: self._counted(cluster, router, totals) for cluster in known}
        lost = {cluster: pair for cluster, pair in counted.items() if pair != (0, 0)}
        if (router, lost) != (self._router, self._lost):
            self._router, self._lost = router, lost
            self._keep()

    def _counted(self, cluster: str, router: str, totals: Mapping[str, int]) -> tuple[int, int]:
        before, now = self._lost.get(cluster, (0, 0))
        total = totals.get(cluster, 0)
        if router != self._router or total < now:  # it counts from zero
            before += now
        return before, total

    def _keep(self) -> None:
        write_json(str(self._file), {"router": self._router, "lost": self._lost})

    def _paths(self, endpoint: str, name: str) -> list[Path]:
        path = counters_path(self.folder, endpoint, name)
        return [path, *sorted(path.parent.glob(f"{name}.*.bin"))]
