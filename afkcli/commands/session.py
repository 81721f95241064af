"""What turns share that follow each other in one process: the setup, the runner with its servers, who
decides on tool calls, and the stop signals. `afk run` has a session of one turn, `afk chat` one of many.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import FrameType, MappingProxyType
from typing import TYPE_CHECKING

from afkcli.commands.approvals import Approver, approver, interaction_mode
from afkcli.commands.turn_request import TurnRequest
from afkcli.host.invocation import Invocation
from afkcli.host.signals import die_of
from afkcli.screen.messages import Messages

if TYPE_CHECKING:
    from afkcli.core.contract.events import Event
    from afkcli.core.run.config import InteractionMode
    from afkcli.wiring.runner import Runner
    from afkcli.wiring.setup import Setup
    from afkcli.wiring.tapes import Tapes

LAST_WORDS_SECONDS = 0.5


class Session:
    """What the turns of one process share. It is made and closed inside the event loop in which its turns run.

    Args:
        invocation: what the process was started with.
        setup: the config and the plugins.
        messages: the lines on stderr.
        request: says who decides on tool calls, whether threads are kept, and what to do while a thread is held.
        tapes: what records or replays the requests to the model and the calls of tools.
        patience: for so many seconds after the first stop signal, more of them do not end the process.

    `observe` is called with each event of a turn. `names_resume` is whether a turn that was cut names the command that
    continues it.
    """

    def __init__(
        self,
        invocation: Invocation,
        setup: Setup,
        messages: Messages,
        request: TurnRequest,
        tapes: Tapes | None = None,
        *,
        patience: float = 0.0,
    ) -> None:
        from afkcli.wiring.runner import Runner
        from afkcli.wiring.surroundings import runner_config

        self.invocation = invocation
        self.setup = setup
        self.messages = messages
        self.tapes = tapes
        self.approver: Approver | None = None
        mode: InteractionMode = "headless"
        if self.is_real:  # a replay asks no question: the recording has the decisions
            mode = interaction_mode(request.approvals or setup.config.approval("mode"), invocation)
            self.approver = approver(mode, invocation, messages, plain=request.plain)
        self.runner: Runner = Runner(
            dataclasses.replace(runner_config(setup, request.busy, request.busy_timeout), interaction_mode=mode),
            store=None if request.memory else "memory",
            sinks=None if request.memory else (),
            setup=setup,
            tapes=tapes,
        )
        self.signals = StopSignals(
            invocation.stop_signals,
            patience=patience,
            before_death=invocation.erase_transient,
            passed_on=invocation.passed_on,
        )
        self.observe: Callable[[Event], object] | None = None
        self.names_resume = True

    @property
    def asks_on_stderr(self) -> bool:
        """Whether a person is asked about tool calls where the lines about tools are shown too."""
        return self.approver is not None and self.approver.shows_calls and self.invocation.stderr.is_terminal

    @property
    def is_real(self) -> bool:
        """Whether a model and tools answer, and not a recording."""
        return self.tapes is None or self.tapes.is_real

    async def aclose(self) -> None:
        """Close the approver, the servers and connections, the store and the sinks."""
        if self.approver is not None:
            self.approver.close()
        await self.runner.aclose()


class StopSignals:
    """The stop signals while a session is open: the first one stops what runs now, one more ends the process at once.

    Work that does not react to the first signal does not return, so nothing else could end it. What is sent to all
    processes reaches one twice to which another passes its signals on (`Invocation.passed_on`), and counts once.

    `number` is the signal that came, or that stands for what ended the work; None for none. `stop` is called with it,
    and `before_death` just before a signal ends the process.
    """

    def __init__(
        self,
        numbers: Sequence[int],
        *,
        patience: float = 0.0,
        before_death: Callable[[], object] = lambda: None,
        passed_on: Mapping[int, int] = MappingProxyType({}),
    ) -> None:
        self.number: int | None = None
        self.stop: Callable[[int], object] = lambda number: None
        self._numbers = numbers
        self._patience = patience
        self._came = 0.0
        self._unserved = False
        self._before_death = before_death
        self._passed_on = passed_on
        self._seen: Counter[int] = Counter()

    def listen(self) -> None:
        """Take the signals in the running event loop, until the loop is closed or somebody else takes them."""
        loop = asyncio.get_running_loop()
        for number in self._numbers:
            try:
                loop.add_signal_handler(number, self._on_signal, number)
                # The loop is still woken. `signal.signal` has a system call interrupted, not restarted: where a write
                # of a plugin blocks the loop, the second signal has to be seen.
                signal.signal(number, self._on_unserved)
            except NotImplementedError:  # Windows: only Ctrl-C, and not through the loop
                signal.signal(number, lambda got, frame: loop.call_soon_threadsafe(self._on_signal, got))

    def unlisten(self) -> None:
        """Leave the signals to what they do by default."""
        loop = asyncio.get_running_loop()
        for number in self._numbers:
            try:
                loop.remove_signal_handler(number)
            except NotImplementedError:  # Windows
                signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    def reset(self, stop: Callable[[int], object]) -> None:
        """Forget what came, and call `stop` for the next signal."""
        self.number, self._unserved, self.stop = None, False, stop

    def _on_unserved(self, number: int, frame: FrameType | None) -> None:
        """Die of the second signal if the event loop has not handled the first: a tool blocks it."""
        self._seen[number] += 1
        if not self._unserved:
            self._unserved, self._came = True, time.monotonic()
        elif self.number is None and self._is_over():
            self._before_death()
            die_of(number)

    def _on_signal(self, number: int) -> None:
        if self.number is None:
            self._came = time.monotonic()
            self.number = number
            self.stop(number)
        elif self._is_over():
            self._before_death()
            os._exit(128 + number) if os.name == "nt" else die_of(number)

    def _is_over(self) -> bool:
        return time.monotonic() - self._came >= self._patience and not self._was_sent_once()

    def _was_sent_once(self) -> bool:
        """Return whether all that came is one signal, which came here and was passed on by another process, too."""
        passed_on = self._passed_on
        sent = [max(passed_on.get(number, 0), seen - passed_on.get(number, 0)) for number, seen in self._seen.items()]
        return bool(passed_on) and sum(sent) == 1


async def are_left_behind(*, stopped: bool) -> bool:
    """Cancel what plugins and tools left on the event loop; return whether a task of it, or a thread, does not end."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    if left and (await asyncio.wait(left, timeout=LAST_WORDS_SECONDS))[1]:
        return True
    from afkcli.core.contract.tasks import CLOSE_SECONDS

    ending = asyncio.ensure_future(asyncio.get_running_loop().shutdown_default_executor())
    return bool((await asyncio.wait({ending}, timeout=LAST_WORDS_SECONDS if stopped else CLOSE_SECONDS))[1])
