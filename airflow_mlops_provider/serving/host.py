"""The serving host: serves what the stored state asks for, and changes that state.

Nothing here knows HTTP or weights: states change in ``state.py``, the router is told in
``envoy.py``, models run in ``scorers.py``, and ``admin.py`` gives it all an address.

A change is stored only once the router serves it, so what is stored can be trusted, a caller
whose change failed may repeat it, and the watch brings the router back to what is stored.

Router and scorers outlive a host that is killed, and the next one adopts them. Their keeper ends
them if none comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlops_provider.exceptions import ServingUnavailableError
from airflow_mlops_provider.serving import state as states
from airflow_mlops_provider.serving.envoy import Envoy
from airflow_mlops_provider.serving.feedback import FeedbackLog, entity_privacy
from airflow_mlops_provider.serving.observer import Observer
from airflow_mlops_provider.serving.orphans import Orphans
from airflow_mlops_provider.serving.pairs import Pairs
from airflow_mlops_provider.serving.scorers import Scorers
from airflow_mlops_provider.serving.state import EndpointState

if TYPE_CHECKING:
    from airflow_mlops_provider.records import EndpointRef
    from airflow_mlops_provider.serving.feedback import Feedback
    from airflow_mlops_provider.serving.options import DeploymentOptions
    from airflow_mlops_provider.serving.state import Deployment
    from airflow_mlops_provider.serving.workers import Key

CAPABILITIES = frozenset({"traffic", "mirror", "sticky", "shield", "observe", "lease", "pairs"})
ORPHAN_SECONDS = 600.0
HUNG_SECONDS = 30.0
_TICK_SECONDS = 0.5

log = logging.getLogger(__name__)


class ServingHost:
    """The host of one workspace.

    Args:
        folder: Local folder ``{workspace}/serving``.
        tracking_uri: Registry that models come from.
        router_host: Address the router listens on.
        router_port: Port the router listens on.
        orphan_seconds: How long router and scorers outlive a host that is killed.
        hung_seconds: How long a scorer may be silent before it is replaced.
    """

    def __init__(
        self,
        folder: Path,
        tracking_uri: str,
        router_host: str,
        router_port: int,
        *,
        orphan_seconds: float = ORPHAN_SECONDS,
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        self.folder = folder
        self.router_url = f"http://{router_host}:{router_port}"
        self.endpoints = states.load(folder / "state.json")
        self._envoy = Envoy(folder / "router", router_host, router_port)
        self._deadlines: dict[str, float] = {}
        self._observer = Observer(folder)
        self._scorers = Scorers(
            folder, tracking_uri, self._observer, self._serves, self._tell_addresses, hung_seconds
        )
        self._orphans = Orphans(folder, orphan_seconds)
        self._changing = asyncio.Lock()
        self._counting = asyncio.Lock()
        self._pairing = asyncio.Lock()
        self._pairs = Pairs(folder / "logs")
        self._feedback = FeedbackLog(folder / "feedback")
        self._settled = True
        """Whether the router serves what is stored; changes under ``_changing`` only."""
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Bring back the stored deployments and traffic, then watch over them.

        What an earlier host left running is adopted if it is what the state asks for, and ended
        otherwise. A model that cannot be loaded now is tried again in the background.
        """
        self._feedback.close_orphans()
        await self._orphans.enter()
        self._scorers.adopt(
            {
                (endpoint, name): deployment
                for endpoint, item in self.endpoints.items()
                for name, deployment in item.deployments.items()
            }
        )
        adopted = self._scorers.addresses
        await self._envoy.start(self.endpoints, adopted)
        await self._orphans.end_unclaimed(self._scorers.pids | {self._envoy.pid})
        await self._scorers.bring_back()
        if self._scorers.addresses != adopted:
            await self._envoy.apply(self.endpoints, self._scorers.addresses)
        for endpoint, item in self.endpoints.items():
            if item.lease:
                self._renew(endpoint, item.lease.seconds)
        for watch in (self._watch_leases, self._watch_router, self._orphans.keep):
            self._watches.append(asyncio.create_task(_forever(watch)))

    async def stop(self) -> None:
        """Stop watching, then every child, the router first and their keeper last."""
        for task in self._watches:
            task.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self._scorers.unwatch()
        await self._envoy.stop()
        await self._scorers.stop()
        await self._orphans.end()
        self._feedback.close()

    def refs(self) -> list[EndpointRef]:
        """Return all endpoints."""
        return [self.ref(endpoint) for endpoint in self.endpoints]

    def ref(self, endpoint: str) -> EndpointRef:
        """Return one endpoint, or say which there are (``ParameterError``)."""
        return states.find(self.endpoints, endpoint).ref(endpoint, self.router_url)

    async def create_endpoint(self, endpoint: str) -> EndpointRef:
        """Create an endpoint without deployments; an existing one stays as it is."""
        async with self._changing:
            if endpoint not in self.endpoints:
                await self._change(states.valid_name("endpoint", endpoint), EndpointState())
        return self.ref(endpoint)

    async def delete_endpoint(self, endpoint: str) -> None:
        """Take an endpoint off line and remove its deployments; its prediction log stays."""
        async with self._changing:
            if endpoint not in self.endpoints:
                return
            idle = replace(self.endpoints[endpoint], traffic={}, mirror_traffic={}, lease=None)
            await self._change(endpoint, idle)
            await self._change(endpoint, None)
        for name in idle.deployments:
            await self._scorers.release((endpoint, name))

    async def create_deployment(
        self,
        endpoint: str,
        name: str,
        model_uri: str,
        timeout: float,
        options: DeploymentOptions | None = None,
    ) -> EndpointRef:
        """Serve a model without traffic; return once its scorers answer.

        Without ``options`` a deployment that exists is left as it is, and a new one has the
        defaults.

        Raises:
            ModelError: the model cannot be loaded or does not answer; nothing is left behind.
            RegistryConflictError: ``name`` already serves another model, or with other options.
        """
        key = (endpoint, name)
        async with self._scorers.lock(key):
            before = states.find(self.endpoints, endpoint)
            wanted = states.wanted_deployment(before, name, model_uri, options)
            if states.with_deployment(before, name, wanted) is not before:
                await self._scorers.retire(key)  # scorers and counters that an earlier one left
                await self._scorers.start(key, wanted, timeout)
                await self._accept(key, wanted)
        return self.ref(endpoint)

    async def delete_deployment(self, endpoint: str, name: str) -> None:
        """Remove a deployment that carries no traffic, letting it finish what it has begun."""
        async with self._changing:
            current = states.find(self.endpoints, endpoint)
            if name not in current.deployments:
                return
            await self._change(endpoint, states.without_deployment(current, name))
        self._pairs.forget(endpoint, name)
        await self._scorers.release((endpoint, name))

    async def set_traffic(self, endpoint: str, **wanted: Any) -> EndpointRef:
        """Set the traffic (see ``state.with_traffic``); return once the router serves it."""
        async with self._changing:
            current = states.find(self.endpoints, endpoint)
            moved = states.with_traffic(current, **wanted)
            if moved is not current:
                await self._change(endpoint, moved)
        return self.ref(endpoint)

    async def put_rollout(self, endpoint: str, **wanted: Any) -> None:
        """Store a rollout's document and renew its lease (see ``state.with_rollout``)."""
        async with self._changing:
            current = states.find(self.endpoints, endpoint)
            self._store(self._with(endpoint, states.with_rollout(current, **wanted)))
            if wanted["lease_seconds"] is not None:
                self._renew(endpoint, wanted["lease_seconds"])

    def rollout(self, endpoint: str) -> dict[str, Any] | None:
        """Return the document of the endpoint's rollout, if there is one."""
        return states.find(self.endpoints, endpoint).rollout

    async def clear_rollout(self, endpoint: str) -> None:
        """Forget the rollout and its lease."""
        async with self._changing:
            current = states.find(self.endpoints, endpoint)
            self._store(self._with(endpoint, replace(current, rollout=None, lease=None)))

    async def observe(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return the counters of each deployment since it was created."""
        current = states.find(self.endpoints, endpoint)
        with contextlib.suppress(httpx.HTTPError):
            await self._count_unanswered()
        return {name: self._observer.read(endpoint, name) for name in current.deployments}

    async def pairs(self, endpoint: str, tolerance: float) -> dict[str, dict[str, Any]]:
        """Return how the answers to mirrored requests compare (see ``pairs.py``)."""
        current = states.find(self.endpoints, endpoint)
        async with self._pairing:
            return await asyncio.to_thread(
                self._pairs.read, endpoint, set(current.deployments), tolerance
            )

    async def send_feedback(self, endpoint: str, feedback: list[Feedback]) -> list[str]:
        """Keep true outcomes, all or none; return their ids once they are on the disk."""
        deployments = states.find(self.endpoints, endpoint).deployments.values()
        privacy = entity_privacy(deployments, self.folder)
        return await self._feedback.append(endpoint, feedback, privacy)

    async def rotate_logs(self, endpoint: str) -> None:
        """Close the open segments of an endpoint's prediction log and feedback."""
        states.find(self.endpoints, endpoint)
        await self._scorers.rotate_logs(endpoint)
        await asyncio.to_thread(self._feedback.rotate, endpoint)

    def status(self, endpoint: str) -> dict[str, dict[str, Any]]:
        """Return how each deployment's scorers are: ``wanted``, ``workers``, ``restarts``."""
        current = states.find(self.endpoints, endpoint)
        return {name: self._scorers.status((endpoint, name)) for name in current.deployments}

    async def _change(self, endpoint: str, wanted: EndpointState | None) -> None:
        """Have the router serve a state, then store it; the caller holds the lock."""
        endpoints = self._with(endpoint, wanted)
        self._settled = False
        await self._envoy.apply(endpoints, self._scorers.addresses)
        self._store(endpoints)
        self._settled = True

    def _with(self, endpoint: str, wanted: EndpointState | None) -> states.Endpoints:
        endpoints = {**self.endpoints}
        endpoints.pop(endpoint) if wanted is None else endpoints.update({endpoint: wanted})
        return endpoints

    def _store(self, endpoints: states.Endpoints) -> None:
        states.save(self.folder / "state.json", endpoints)
        self.endpoints = endpoints

    async def _accept(self, key: Key, wanted: Deployment) -> None:
        """Make scorers that are up a deployment, or leave no trace of them."""
        endpoint, name = key
        async with self._changing:
            try:
                current = states.find(self.endpoints, endpoint)
                await self._change(endpoint, states.with_deployment(current, name, wanted))
            except BaseException:
                await self._scorers.retire(key)
                raise

    def _serves(self, key: Key) -> bool:
        endpoint, name = key
        return name in self.endpoints.get(endpoint, EndpointState()).deployments

    async def _tell_addresses(self) -> None:
        async with self._changing:
            self._settled = False
        with contextlib.suppress(ServingUnavailableError):  # the watch tells the router later
            await self._settle()

    async def _watch_leases(self) -> None:
        now = asyncio.get_running_loop().time()
        async with self._changing:
            for endpoint, current in list(self.endpoints.items()):
                overdue = self._deadlines.get(endpoint, now) < now
                if states.lease_runs(current) and overdue:
                    log.warning("The rollout on %s lost its driver; rolling back", endpoint)
                    await self._change(endpoint, states.with_expired_lease(current))

    async def _watch_router(self) -> None:
        if self._envoy.edited and self._settled:
            log.warning("Somebody edited what the router reads; putting it back")
            async with self._changing:
                self._settled = False
        if self._envoy.ended or not self._settled:
            await self._settle()
        await self._count_unanswered()

    async def _settle(self) -> None:
        """Bring the router back to what is stored."""
        async with self._changing:
            if self._envoy.ended:
                log.warning("Envoy ended; starting it again")
                self._settled = False
                await self._envoy.start(self.endpoints, self._scorers.addresses)
            elif not self._settled:
                await self._envoy.apply(self.endpoints, self._scorers.addresses)
            self._settled = True

    def _renew(self, endpoint: str, seconds: float) -> None:
        self._deadlines[endpoint] = asyncio.get_running_loop().time() + seconds

    async def _count_unanswered(self) -> None:
        async with self._counting:  # an older answer after a newer looks like a restart
            router = self._envoy.instance
            totals = await self._envoy.unanswered()
            if router == self._envoy.instance:
                self._observer.count_unanswered(self.endpoints, router, totals)


async def _forever(watch: Callable[[], Awaitable[None]]) -> None:
    """Call ``watch`` at each tick; what goes wrong once is tried again at the next."""
    while True:
        try:
            await watch()
        except Exception:  # a watchdog that dies of one error protects nobody
            log.exception("The serving host's watch failed; trying again")
        await asyncio.sleep(_TICK_SECONDS)
