"""An experiment in memory: a serving target, its prediction log as files, and outcomes."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from itertools import accumulate

import numpy as np
import pandas as pd

from tests.prediction_logs import record, write_segment
from tests.serving_fake import FakeTarget

START = 1_700_000_000.0


class LoggingTarget(FakeTarget):
    """A target that logs what it serves, and whose log can be closed."""

    def start(self, folder, seed=1):
        self.folder, self.random = folder, np.random.default_rng(seed)
        self.served, self.rotated, self.outcomes = 0, 0, []
        self.abilities = self.abilities | {"sticky"}
        folder.mkdir(parents=True)
        for name in ("v1", "v2", "v3"):
            self.create_deployment("e", name, f"models:/m/{name[1:]}")
        self.deployments.pop("v2")
        self.traffic = {"v1": 100}
        return self

    def rotate_logs(self, endpoint):
        self._call()
        self.rotated += 1

    def play(self, now, requests, means, *, entities=None, share=None, missing=()):
        """Serve requests in the second after ``now``, with outcomes around the arms' means."""
        names, weights = zip(*self.traffic.items(), strict=True)
        weights = share if share and len(names) > 1 else weights
        lines = []
        for _ in range(requests):
            self.served += 1
            i = self.served
            entity = None if entities is None else f"u{self.random.integers(entities)}"
            name = self._assigned(entity, names, weights)
            ts = now + self.random.random()
            moment = datetime.fromtimestamp(ts, UTC).isoformat()
            lines.append(record(i, ts=moment, deployment=name, entity_id=entity, endpoint="e"))
            self.count(name, 1)
            if name not in missing:
                value = float(means[name] + self.random.normal())
                self.outcomes.append((f"r{i}", entity, ts + 1, value))
        write_segment(self.folder, f"v-{self.served}", lines)

    def _assigned(self, entity, names, weights):
        """Return the deployment of a request; that of an entity is always the same."""
        place = self.random.random() if entity is None else zlib.crc32(entity.encode()) / 2**32
        bounds = accumulate(weight / sum(weights) for weight in weights)
        return next(name for name, bound in zip(names, bounds, strict=True) if place <= bound)

    def rows(self, start, end, key="request_id", rate=False):
        """Return the outcomes until ``end`` as their source gives them."""
        return pd.DataFrame(
            [
                {
                    key: request if key == "request_id" else entity,
                    "ts": pd.Timestamp(ts, unit="s", tz="UTC"),
                    "value": float(value > 0) if rate else value,
                }
                for request, entity, ts, value in self.outcomes
                if ts < end
            ],
            columns=[key, "ts", "value"],
        )
