"""How triggers look at the world without crowding the triggerer or what they look at.

Thousands may wait in one process. Those that ask the same at about the same time share one look, a
few threads of ours do all the looking, and pauses differ a little, so that triggers which began
together do not stay together.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
FRESH_SECONDS = 1.0
"""How old an answer may be that is shared."""
_THREADS = 4
_SPREAD = 0.2

_pool = ThreadPoolExecutor(_THREADS, "mlops-look")
_looks: dict[Any, tuple[float, Future[Any]]] = {}
"""When the latest look for each question began, and what it gives."""


async def shared_look(look: Callable[..., T], *question: Any) -> T:
    """Return ``look(*question)``, from a thread, or what it gave somebody else just now.

    Args:
        look: Blocks, and knows nothing of who asks.
        question: Its arguments; they have to be hashable.
    """
    now = time.monotonic()
    known = _looks.get((look, question))
    if known is None or (known[1].done() and now - known[0] > FRESH_SECONDS):
        _forget(now)
        run = contextvars.copy_context().run
        known = _looks[look, question] = (now, _pool.submit(run, look, *question))
    # one that is cancelled while it waits must not take the answer from the others
    answer: T = await asyncio.shield(asyncio.wrap_future(known[1]))
    return answer


async def pause(seconds: float) -> None:
    """Sleep for about ``seconds``."""
    await asyncio.sleep(seconds * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311 - no secret


def _forget(now: float) -> None:
    old = [key for key, (at, look) in _looks.items() if look.done() and now - at > FRESH_SECONDS]
    for key in old:
        del _looks[key]
