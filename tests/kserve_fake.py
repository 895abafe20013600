"""KServe without a cluster: its controller as a function, and an API server in memory."""

from __future__ import annotations

import copy
import json

from airflow_mlops_provider.exceptions import ParameterError


class Controller:
    """Writes the status that KServe's controller would, for both deployment modes.

    ``broken`` models never load, ``slow`` ones are not ready yet.
    """

    def __init__(self):
        self.broken, self.slow = set(), set()
        self._templates = {}

    def status(self, service):
        mode = service["metadata"]["annotations"]["serving.kserve.io/deploymentMode"]
        found = self._standard(service) if mode == "Standard" else self._knative(service)
        return {**found, "deploymentMode": mode, "url": "http://e.example.com"}

    def _up(self, predictor):
        return predictor["model"]["storageUri"] not in self.broken | self.slow

    def _failure(self, predictor, revision=""):
        if predictor["model"]["storageUri"] not in self.broken:
            return {"modelStatus": {"transitionStatus": "UpToDate"}}
        info = {"reason": "ModelLoadFailed", "message": "no such file"}
        info |= {"modelRevisionName": revision} if revision else {}
        return {"modelStatus": {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": info}}

    def _standard(self, service):
        spec = service["spec"]
        statuses = [
            {
                "name": each["predictor"]["name"],
                "ready": self._up(each["predictor"]),
                "trafficPercent": each["trafficPercent"],
            }
            for each in spec.get("canary") or []
        ]
        ready = "True" if self._up(spec["predictor"]) else "False"
        found = {"conditions": [{"type": "PredictorReady", "status": ready}]}
        found |= self._failure(spec["predictor"])
        return found | ({"canaryStatuses": statuses} if statuses else {})

    def _knative(self, service):
        predictor = copy.deepcopy(service["spec"]["predictor"])
        percent = predictor.pop("canaryTrafficPercent", None)
        name = service["metadata"]["name"]
        templates = self._templates.setdefault(name, [])
        if not templates or templates[-1] != predictor:
            templates.append(predictor)
        created = f"{name}-predictor-{len(templates):05}"
        old = service.get("status", {}).get("components", {}).get("predictor", {})
        ready = created if self._up(predictor) else old.get("latestReadyRevision", "")
        rolled = old.get("latestRolledoutRevision", "")
        before = old.get("previousRolledoutRevision", "")
        stable = before if rolled == ready and percent is not None and percent < 100 else rolled
        traffic = []
        if percent is not None and percent < 100 and stable:
            latest = {"latestRevision": True, "revisionName": ready, "percent": percent}
            prev = {"tag": "prev", "revisionName": stable, "percent": 100 - percent}
            traffic = [latest, prev]
        elif ready:
            traffic = [{"latestRevision": True, "revisionName": ready, "percent": 100}]
            if rolled != ready:
                before, rolled = rolled, ready
        known = {
            "latestCreatedRevision": created,
            "latestReadyRevision": ready,
            "latestRolledoutRevision": rolled,
            "previousRolledoutRevision": before,
            "traffic": traffic,
        }
        return {
            "components": {"predictor": known},
            "conditions": [{"type": "PredictorReady", "status": str(ready == created)}],
            **self._failure(predictor, created),
        }


class FakeCluster:
    """What ``Cluster`` does, in memory; the controller acts at once unless it is ``paused``."""

    url, namespace = "memory", "models"

    def __init__(self):
        self.services, self.documents = {}, {}
        self.controller, self.paused = Controller(), False
        self.fields = None
        self.writes = 0

    def close(self):
        pass

    def act(self):
        for service in self.services.values():
            service["status"] = self.controller.status(service)

    def read(self, endpoint):
        if not self.paused:
            self.act()
        return copy.deepcopy(self.services.get(endpoint))

    def existing(self, endpoint):
        if endpoint not in self.services:
            raise ParameterError(f"No endpoint {endpoint!r}")
        return self.read(endpoint)

    def list(self):
        return [self.read(endpoint) for endpoint in self.services]

    def create(self, service):
        name = service["metadata"]["name"]
        if name in self.services:
            return False
        kept = json.loads(json.dumps(service))
        kept["metadata"] |= {"generation": 1, "uid": "u"}
        self.services[name] = kept
        self.writes += 1
        return True

    def change(self, endpoint, change):
        service = self.existing(endpoint)
        wanted = change(service)
        if wanted["spec"] == service["spec"]:
            return service
        kept = json.loads(json.dumps(wanted))
        kept["metadata"]["generation"] += 1
        self.services[endpoint] = kept
        self.writes += 1
        return kept

    def delete(self, endpoint):
        self.services.pop(endpoint, None)
        self.documents.pop(endpoint, None)

    def schema(self):
        return self.fields

    def read_document(self, endpoint):
        return copy.deepcopy(self.documents.get(endpoint))

    def put_document(self, endpoint, document):
        self.existing(endpoint)
        self.documents[endpoint] = json.loads(json.dumps(document, allow_nan=False))

    def delete_document(self, endpoint):
        self.documents.pop(endpoint, None)


def edited_by_hand(cluster, endpoint, **predictor):
    """Change an endpoint's predictor as a person would with kubectl."""
    service = cluster.services[endpoint]
    service["spec"]["predictor"] |= predictor
    service["metadata"]["generation"] += 1
