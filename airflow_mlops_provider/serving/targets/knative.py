"""KServe's Knative mode: the newest revision of a predictor beside the one rolled out before.

The annotations of the newest predictor also name the deployment that was serving when it came, with
its revision: they are written once, together with the change that makes the revision.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from airflow_mlops_provider.exceptions import ParameterError, RegistryConflictError
from airflow_mlops_provider.serving.targets.documents import (
    DEPLOYMENT,
    MODEL_URI,
    component,
    load_failure,
    require_known,
    told,
)

PREVIOUS, PREVIOUS_MODEL = f"{DEPLOYMENT}-previous", f"{MODEL_URI}-previous"
PREVIOUS_STORAGE = "airflow-provider-mlops/storage-uri-previous"
PREVIOUS_REVISION = "airflow-provider-mlops/revision-previous"
AFTER = "airflow-provider-mlops/after-revision"
"""The newest revision there was before: the one this predictor makes is another."""


class KnativeMode:
    """Deployments as the last two revisions of one predictor; see ``documents.Mode``."""

    name = "Knative"

    def known(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return the model URI of the newest deployment and of the one before."""
        predictor = service["spec"]["predictor"]
        previous = _previous(predictor)
        before = {previous: told(predictor, PREVIOUS_MODEL)} if previous else {}
        return before | {_latest(predictor): told(predictor, MODEL_URI)}

    def is_ready(self, service: Mapping[str, Any], name: str) -> bool:
        """Tell whether the newest revision is this predictor's and ready; the one before is."""
        if name == _previous(service["spec"]["predictor"]):
            return True
        made = _made(service)
        return made is not None and component(service).get("latestReadyRevision") == made

    def failure(self, service: Mapping[str, Any], name: str) -> str | None:
        """Say why the newest revision's model cannot be loaded."""
        found, made = load_failure(service), _made(service)
        if found is None or name != _latest(service["spec"]["predictor"]):
            return None
        revision, reason = found
        first = not told(service["spec"]["predictor"], AFTER)
        return reason if (revision or made) == made and (made or first) else None

    def traffic(self, service: Mapping[str, Any]) -> dict[str, int]:
        """Return the percents of the revisions; one that nobody announced keeps its own name."""
        split: dict[str, int] = {}
        names = _by_revision(service)
        for each in component(service).get("traffic", []):
            if percent := int(each.get("percent") or 0):
                revision = each.get("revisionName", "")
                name = names.get(revision, revision)
                split[name] = split.get(name, 0) + percent
        return split

    def workloads(self, service: Mapping[str, Any]) -> dict[str, str]:
        """Return a pattern of the revisions of each deployment that has any."""
        found: dict[str, str] = {}
        for revision, name in _by_revision(service).items():
            found[name] = f"{found[name]}|{revision}" if name in found else revision
        return found

    def prepared(self, predictor: dict[str, Any]) -> dict[str, Any]:
        """Return the predictor as it is."""
        return predictor

    def added(self, service: Mapping[str, Any], predictor: dict[str, Any]) -> dict[str, Any]:
        """Make a new revision that gets no traffic.

        Raises:
            RegistryConflictError: traffic is split; Knative would lose one of the two.
        """
        old = service["spec"]["predictor"]
        split = self.traffic(service)
        serving = next(iter(split), "")
        if split != {serving: 100} or serving not in self.known(service):
            raise RegistryConflictError(
                f"Expected one deployment with all traffic before another is added, got {split}. "
                "Knative keeps two revisions: end the rollout that splits them."
            )
        newest = serving == _latest(old)
        storage = old["model"]["storageUri"] if newest else told(old, PREVIOUS_STORAGE)
        announced = {
            PREVIOUS: serving,
            PREVIOUS_MODEL: self.known(service)[serving],
            PREVIOUS_STORAGE: storage,
            PREVIOUS_REVISION: _serving_revision(service),
            AFTER: component(service).get("latestCreatedRevision", ""),
        }
        changed = deepcopy(dict(service))
        annotations = {**predictor["annotations"], **announced}
        new = {**predictor, "annotations": annotations, "canaryTrafficPercent": 0}
        changed["spec"]["predictor"] = new
        return changed

    def with_traffic(
        self, service: Mapping[str, Any], traffic: Mapping[str, int]
    ) -> dict[str, Any]:
        """Set the newest revision's percent; without one it has all."""
        require_known(traffic, self.known(service))
        changed = deepcopy(dict(service))
        predictor = changed["spec"]["predictor"]
        percent = traffic.get(_latest(predictor), 0)
        if percent == 100:
            predictor.pop("canaryTrafficPercent", None)
        else:
            predictor["canaryTrafficPercent"] = percent
        return changed

    def removed(self, service: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Take the newest model back by making a revision of the one before.

        Raises:
            ParameterError: it is the revision before, which Knative keeps without pods.
        """
        predictor = service["spec"]["predictor"]
        if name != _latest(predictor):
            raise ParameterError(
                f"Knative keeps the revision of {name!r} to go back to, without pods. It goes when "
                "the next version is deployed."
            )
        changed = deepcopy(dict(service))
        new = changed["spec"]["predictor"]
        new.pop("canaryTrafficPercent", None)
        new["model"]["storageUri"] = told(predictor, PREVIOUS_STORAGE)
        new["annotations"] |= {
            DEPLOYMENT: _previous(predictor),
            MODEL_URI: told(predictor, PREVIOUS_MODEL),
            AFTER: component(service).get("latestCreatedRevision", ""),
        }
        return changed


def _latest(predictor: Mapping[str, Any]) -> str:
    return told(predictor, DEPLOYMENT)


def _previous(predictor: Mapping[str, Any]) -> str:
    return told(predictor, PREVIOUS)


def _by_revision(service: Mapping[str, Any]) -> dict[str, str]:
    """Return the deployment of each revision that is known."""
    predictor, made = service["spec"]["predictor"], _made(service)
    found = {told(predictor, PREVIOUS_REVISION): _previous(predictor)}
    if made is not None:
        found[made] = _latest(predictor)
    return {revision: name for revision, name in found.items() if revision}


def _serving_revision(service: Mapping[str, Any]) -> str:
    traffic = component(service)["traffic"]
    return str(next(each["revisionName"] for each in traffic if each.get("percent")))


def _made(service: Mapping[str, Any]) -> str | None:
    """Return the revision that the newest predictor made, once the controller has made it."""
    created = component(service).get("latestCreatedRevision", "")
    return created if created and created != told(service["spec"]["predictor"], AFTER) else None
