"""KServe's Standard mode: one stable predictor, and canaries with a percent of traffic each.

``spec.canary`` exists since KServe 0.20; before, ``canaryTrafficPercent`` was accepted in this mode
and ignored, so it is never written here.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError
from airflow_mlops_provider.serving.targets.documents import (
    DEPLOYMENT,
    MODEL_URI,
    condition,
    load_failure,
    require_known,
    told,
)

_AUTOSCALING = frozenset({"maxReplicas", "scaleTarget", "scaleMetric", "autoScaling"})
"""Fields of a predictor that KServe refuses in canaries."""


class StandardMode:
    """Deployments as named predictors; see ``documents.Mode``."""

    name = "Standard"

    def known(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return the model URI by deployment."""
        return {name: told(each, MODEL_URI) for name, each in _predictors(service).items()}

    def is_ready(self, service: Mapping[str, Any], name: str) -> bool:
        """Tell whether a deployment answers: its canary status, or the predictor's condition."""
        if name != _stable(service):
            return any(each["name"] == name and each.get("ready") for each in _statuses(service))
        return bool(_canaries(service)) or condition(service, "PredictorReady") == "True"

    def failure(self, service: Mapping[str, Any], name: str) -> str | None:
        """Say why the stable model cannot be loaded; of canaries KServe reports no reason."""
        found = load_failure(service)
        return found[1] if found and name == _stable(service) else None

    def traffic(self, service: Mapping[str, Any]) -> dict[str, int]:
        """Return what is in force: the percents the controller reports of canaries that are ready.

        The rest goes to the stable predictor, as it was when the controller looked last.
        """
        statuses = _statuses(service)
        split = {
            each["name"]: int(each.get("trafficPercent", 0))
            for each in statuses
            if each.get("ready")
        }
        rest = 100 - sum(split.values())
        if condition(service, "PredictorReady") == "Unknown" and not statuses:
            return {}
        if rest:
            stable = self._stable_then(service, {each["name"] for each in statuses})
            split[stable] = split.get(stable, 0) + rest
        return {name: percent for name, percent in split.items() if percent}

    def workloads(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return the name of each Kubernetes deployment."""
        endpoint = service["metadata"]["name"]
        return {name: f"{endpoint}-{name}-predictor" for name in _predictors(service)}

    def prepared(self, predictor: dict[str, Any]) -> dict[str, Any]:
        """Return a predictor with the name that KServe calls its objects by.

        Raises:
            ParameterError: it asks for autoscaling, which a canary cannot have.
        """
        if wrong := sorted(_AUTOSCALING & set(predictor)):
            constraint = "free of autoscaling in the mode Standard (give minReplicas)"
            raise ParameterError.of("predictor", "the Connection's extra", constraint, wrong)
        return {**predictor, "name": told(predictor, DEPLOYMENT)}

    def added(self, service: Mapping[str, Any], predictor: dict[str, Any]) -> dict[str, Any]:
        """Add a canary with no traffic."""
        changed = deepcopy(dict(service))
        canary = {"trafficPercent": 0, "predictor": self.prepared(predictor)}
        changed["spec"]["canary"] = [*_canaries(service), canary]
        return changed

    def with_traffic(
        self, service: Mapping[str, Any], traffic: Mapping[str, int]
    ) -> dict[str, Any]:
        """Set the percents; who gets everything becomes the stable predictor, without restart."""
        predictors = _predictors(service)
        require_known(traffic, predictors)
        winners = [name for name, percent in traffic.items() if percent == 100]
        stable = winners[0] if winners else _stable(service)
        changed = deepcopy(dict(service))
        changed["spec"]["predictor"] = predictors.pop(stable)
        changed["spec"]["canary"] = [
            {"trafficPercent": traffic.get(name, 0), "predictor": predictor}
            for name, predictor in predictors.items()
        ]
        return changed

    def removed(self, service: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Remove a canary.

        Raises:
            ParameterError: it is the stable predictor, which an endpoint always has.
        """
        if name == _stable(service):
            raise ParameterError(
                f"Deployment {name!r} is the stable predictor. Move the traffic to another first."
            )
        changed = deepcopy(dict(service))
        kept = [each for each in _canaries(service) if _name(each["predictor"]) != name]
        changed["spec"]["canary"] = kept
        return changed

    def _stable_then(self, service: Mapping[str, Any], canaries: set[str]) -> str:
        """Return who was stable when these were the canaries: a promotion may be under way."""
        wanted = _stable(service)
        others = set(_predictors(service)) - canaries
        return wanted if wanted in others or len(others) != 1 else others.pop()


def _name(predictor: Mapping[str, Any]) -> str:
    return str(predictor.get("name", "")) or told(predictor, DEPLOYMENT)


def _stable(service: Mapping[str, Any]) -> str:
    return _name(service["spec"]["predictor"])


def _canaries(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(service["spec"].get("canary") or [])


def _statuses(service: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(service.get("status", {}).get("canaryStatuses") or [])


def _predictors(service: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    every = [service["spec"]["predictor"], *(each["predictor"] for each in _canaries(service))]
    return {_name(each): each for each in every}
