"""What the host knows of each deployment's requests: the scorer's counts plus lost attempts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.serving.counters import Counters, counters_path, read_total
from airflow_mlops_provider.serving.router import cluster_name

if TYPE_CHECKING:
    from airflow_mlops_provider.serving.state import EndpointState


class Observer:
    """Reads and completes the counters under the host's ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unanswered: dict[str, int] = {}

    def read(self, endpoint: str, name: str) -> dict[str, Any]:
        """Return the counters of a deployment since it was created."""
        return read_total(self._paths(endpoint, name))

    def forget(self, endpoint: str, name: str) -> None:
        """Drop the counters of a deployment that is gone."""
        for path in self._paths(endpoint, name):
            path.unlink(missing_ok=True)

    def count_unanswered(
        self, endpoints: Mapping[str, EndpointState], totals: Mapping[str, int]
    ) -> None:
        """Count as errors the attempts that died with their scorer, which could not log them.

        Args:
            endpoints: Endpoints of the host.
            totals: Attempts without an answer by cluster, since Envoy started.
        """
        for endpoint, state in endpoints.items():
            for name in state.deployments:
                counters = Counters(self._paths(endpoint, name)[1])
                for shadow, kind in ((False, ""), (True, "shadow_")):
                    cluster = cluster_name(endpoint, name, shadow=shadow)
                    new = self._growth(cluster, totals.get(cluster, 0))
                    counters.add(f"{kind}requests", new)
                    counters.add(f"{kind}errors", new)

    def _growth(self, cluster: str, total: int) -> int:
        """Return how far a counter grew; a restarted Envoy counts from zero."""
        before = self._unanswered.get(cluster, 0)
        self._unanswered[cluster] = total
        return total - before if total >= before else total

    def _paths(self, endpoint: str, name: str) -> tuple[Path, Path]:
        path = counters_path(self.folder, endpoint, name)
        return path, path.with_suffix(".router.bin")
