"""The way of a request through the scorer: one at a time, off the event loop, and no jam.

The loop itself stays free to answer ``/ping``, so a slow model is not taken for a dead one; nor
is one whose disk does not take the log. What cannot be worked on soon is refused, so that memory
stays bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from airflow_mlops_provider.serving.answers import Answer, Caller, Scorer
from airflow_mlops_provider.serving.body import read_body, stated_size
from airflow_mlops_provider.serving.scoring import Scored, ScoringError

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_BODY_BYTES = 16 << 20
_MAX_QUEUED = 256
_MAX_QUEUED_BYTES = 64 << 20
_DURABLE_SECONDS = 10.0
OVERLOADED = "Overloaded"
LOG_FAILURE = "LogFailure"


class Line:
    """Requests on their way through the one thread that predicts."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="predict")
        self._requests = self._bytes = 0

    async def answer(self, request: Request, score: Callable[[bytes], Scored]) -> Scored:
        """Give a request's body to ``score``, log and count what comes of it.

        Raises:
            ParameterError: the body is too large; nothing is logged of it, as it was not read.
        """
        caller = Caller.of(request.headers)
        stated = stated_size(request)
        size = _MAX_BODY_BYTES if stated is None else min(stated, _MAX_BODY_BYTES)
        if self._requests >= _MAX_QUEUED or self._bytes + size > _MAX_QUEUED_BYTES:
            error = ScoringError(503, OVERLOADED, "Too many requests wait already. Try later.")
            refused = Answer(Scored([], None, error), 0.0, None)
            self.scorer.count(refused, caller, 503)
            return refused.scored
        self._requests, self._bytes = self._requests + 1, self._bytes + size
        try:
            body = await read_body(request, _MAX_BODY_BYTES)
            return await self._answer(caller, lambda: score(body))
        finally:
            self._requests, self._bytes = self._requests - 1, self._bytes - size

    async def _answer(self, caller: Caller, score: Callable[[], Scored]) -> Scored:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(self.worker, self.scorer.answer, score, caller)
        answer = await self._settled(answer)
        scored = answer.scored
        if answer.refusal and self.scorer.options.on_log_failure == "fail":
            message = f"The prediction could not be logged, so it is not given: {answer.refusal}"
            scored = Scored(scored.rows, None, ScoringError(500, LOG_FAILURE, message))
        self.scorer.count(answer, caller, scored.status)
        return scored

    async def _settled(self, answer: Answer) -> Answer:
        """Wait for the disk, if the answer is to survive a power cut."""
        if answer.ticket is None or self.scorer.log.durability != "power":
            return answer
        done = asyncio.wrap_future(self.scorer.log.durable(answer.ticket))
        try:
            await asyncio.wait_for(done, _DURABLE_SECONDS)
        except (OSError, TimeoutError) as error:
            refusal = OSError(f"the disk did not take the log ({error or 'in time'})")
            return Answer(answer.scored, answer.latency_ms, None, refusal)
        return answer
