"""Where the prompts of a worker wait for the permission to send a request, in the order in which they came.

The engine is asked for the first ones of a queue only: a hundred that wait for the same minute are not asked for a
hundred times. Each model has its own queue, because one that is slowed down must not hold up the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, NamedTuple

from afkcli.core.contract.engine import Engine, Grant, Reservation

MOST_AT_ONCE: Final = 256
_AFTER_A_WAIT: Final = 8
LONGEST_PAUSE_S: Final = 1.0
"""How long the engine is not asked again at most: what held back may have gone by then."""


class Gate:
    """Asks the engine for the requests of the prompts of a batch that this worker has."""

    def __init__(self, engine: Engine, batch: str) -> None:
        self._engine = engine
        self._batch = batch
        self._queues: dict[str, _Queue] = {}
        self._stopped = False

    def stop(self) -> None:
        """Let no prompt begin any more: those that wait for their first request are refused, as in a paused batch."""
        self._stopped = True
        for queue in self._queues.values():
            queue.refuse_first()

    async def allow(self, asked: Reservation, *, is_first: bool) -> Grant:
        """Wait until a request may be sent; the grant is one that is allowed or refused.

        Args:
            asked: the request.
            is_first: whether it is the first one of its prompt.

        Raises:
            EngineError: the engine failed; nothing may be sent.
        """
        if self._stopped and is_first:
            return _STOPPED
        queue = self._queues.get(asked.model)
        if queue is None:
            queue = self._queues[asked.model] = _Queue(self._engine, self._batch)
        return await queue.allow(asked, is_first)

    async def slow_down(self, model: str, seconds: float) -> None:
        await self._engine.slow_down(self._batch, model, seconds)

    async def more(self, asked: Reservation) -> Grant:
        """Ask for more of a request that is in progress; it does not wait behind others."""
        (grant,) = await self._engine.reserve(self._batch, [asked])
        return grant


_STOPPED: Final = Grant(refused="paused")


class _Waiting(NamedTuple):
    asked: Reservation
    answer: asyncio.Future[Grant]
    is_first: bool


class _Queue:
    def __init__(self, engine: Engine, batch: str) -> None:
        self._engine = engine
        self._batch = batch
        self._waiting: deque[_Waiting] = deque()
        self._asking: asyncio.Task[None] | None = None

    def refuse_first(self) -> None:
        for waiting in self._waiting:
            if waiting.is_first and not waiting.answer.done():
                waiting.answer.set_result(_STOPPED)

    async def allow(self, asked: Reservation, is_first: bool) -> Grant:
        answer: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(asked, answer, is_first))
        if self._asking is None:
            self._asking = asyncio.ensure_future(self._ask())
        return await answer

    async def _ask(self) -> None:
        most = MOST_AT_ONCE
        try:
            while self._waiting:
                await asyncio.sleep(0)  # those that come in the same turn of the loop are asked for together
                wait = await self._ask_for(min(most, len(self._waiting)))
                most = _AFTER_A_WAIT if wait else min(2 * most, MOST_AT_ONCE)
                if wait:
                    await asyncio.sleep(min(wait, LONGEST_PAUSE_S))
        except BaseException as error:
            while self._waiting:
                answer = self._waiting.popleft().answer
                if not answer.done():
                    answer.set_exception(error) if isinstance(error, Exception) else answer.cancel()
            if not isinstance(error, Exception):
                raise
        finally:
            self._asking = None

    async def _ask_for(self, number: int) -> float:
        """Ask for the first ones; return after how many seconds to ask again, 0 if all were answered."""
        first = [self._waiting.popleft() for _ in range(number)]
        first = [each for each in first if not each.answer.done()]  # what was cancelled or refused sends nothing
        left = first
        try:
            grants = await self._engine.reserve(self._batch, [each.asked for each in first]) if first else []
            left = []
            wait = 0.0
            for each, grant in zip(first, grants, strict=True):
                if grant.allowed or grant.refused is not None:
                    if not each.answer.done():
                        each.answer.set_result(grant)
                else:
                    left.append(each)
                    wait = min(wait, grant.wait_s) if wait else grant.wait_s
            return wait
        finally:
            self._waiting.extendleft(reversed(left))
