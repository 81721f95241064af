"""The turns of a chat: one session for all of them, and what is known of the conversation.

Since: 0.2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from afkcli.chat.loop import Reply
from afkcli.chat.slash import Typed
from afkcli.chat.status import Status
from afkcli.commands.chat_loading import Loading
from afkcli.commands.turn_request import TurnRequest
from afkcli.core.contract.errors import AfkError, UsageError
from afkcli.core.contract.structs import replace
from afkcli.host.invocation import Invocation
from afkcli.screen.messages import Messages

if TYPE_CHECKING:
    from afkcli.commands.chat_shell import CommandsOfAfk
    from afkcli.commands.question import Question
    from afkcli.commands.session import Session
    from afkcli.core.contract.events import Event
    from afkcli.core.contract.result import AgentResult
    from afkcli.core.thread.attachments import Attachment

PATIENCE_SECONDS = 2.0
"""So long after Ctrl-C has stopped an answer, another Ctrl-C does not end the chat."""


class ChatTalk:
    """Takes the turns of a chat, and carries out its slash commands; see `Talk`.

    Args:
        invocation: what the process was started with.
        request: what each turn asks: thread, agent, model and the form of the output.
        loading: the setup.
        messages: the lines on stderr.
        shell: carries out command lines of afk.
        commands: carries out a slash command.
    """

    def __init__(
        self,
        invocation: Invocation,
        request: TurnRequest,
        loading: Loading,
        messages: Messages,
        shell: CommandsOfAfk,
        commands: Callable[[ChatTalk, Typed], Coroutine[Any, Any, Reply] | Reply],
    ) -> None:
        self.invocation = invocation
        self.request = request
        self.messages = messages
        self.shell = shell
        self.attached: Sequence[Attachment] = ()
        self.is_begun = False
        self._loading = loading
        self._commands = commands
        self._session: Session | None = None
        self._status: Status | None = None
        self._used = 0

    @property
    def thread(self) -> str | None:
        """The name of the thread, None for one that begins with the next message."""
        return self.request.thread

    def status(self) -> Status:
        """Return what is known of the conversation now."""
        if self._status is None:
            loaded = self._loading.at_once()
            if loaded is None:
                return Status(self.thread, self.request.model, is_begun=self.is_begun)
            cost = loaded.thread.cost_usd if loaded.thread is not None else 0.0
            self._status = Status(self.thread, loaded.model, cost=cost)
        return self._status._replace(thread=self.thread, attached=len(self.attached), is_begun=self.is_begun)

    def know(self, **known: Any) -> None:
        """Change what is known of the conversation."""
        self._status = self.status()._replace(**known)

    def switch(self, thread: str | None, *, is_begun: bool) -> None:
        """Continue with another thread, None for a new one."""
        self.request = replace(self.request, thread=thread, continue_=False)
        self.is_begun = is_begun
        self.know(thread=thread, used=None, window=None, cost=0.0)

    async def session(self) -> Session:
        """Return the session, which is made when it is first needed.

        Raises:
            AfkError: the config or a plugin cannot be used.
        """
        if self._session is None:
            from afkcli.commands.session import Session

            loaded = await self._loading.loaded()
            self._session = Session(
                self.invocation, loaded.setup, self.messages, self.request, patience=PATIENCE_SECONDS
            )
            self._session.observe = self._observe
            self._session.names_resume = False
        return self._session

    async def agent(self) -> str:
        """Return the name of the agent of the next turn.

        Raises:
            AfkError: the config, a plugin or the agent cannot be used.
        """
        from afkcli.commands.turn import flags_of
        from afkcli.wiring.agents import agent_and_model

        session = await self.session()
        thread = None
        if self.thread is not None:
            with contextlib.suppress(UsageError):  # it begins with the next message
                thread = await session.runner.thread_meant(self.thread)
        return agent_and_model(session.setup, flags_of(self.request), thread)[0].name

    async def continue_last(self) -> None:
        """Continue the thread that was last used in this folder; `UsageError` if there is none."""
        last = await (await self.session()).runner.last_thread()
        if last is None:
            raise UsageError(f"no thread was used in {self.invocation.folder} yet; start one with --thread NAME")
        self.messages.say(f"thread {last.name}")
        self.switch(last.name, is_begun=True)
        self.know(model=self.request.model or last.model, cost=last.cost_usd)

    async def ask(self, message: str) -> Reply:
        """Send a message and show the answer."""
        from afkcli.commands.question import Question

        reply = await self.take(self.request, Question(message, self.attached))
        if reply.was_sent:
            self.attached = ()
        return reply

    def carry_out(self, command: Typed) -> Coroutine[Any, Any, Reply] | Reply:
        """Carry out a slash command."""
        return self._commands(self, command)

    async def take(self, request: TurnRequest, question: Question) -> Reply:
        """Take a turn; what cannot be started is said, and could be sent again."""
        from afkcli.commands.turn import flags_of, take_turn

        self._used = 0
        try:
            session = await self.session()
            session.signals.listen()
            try:
                ended = await take_turn(session, request, question, flags_of(request))
            finally:
                session.signals.unlisten()
        except AfkError as error:
            return Reply(self.said(error), was_sent=False)
        stopped = session.signals.number
        if ended.result is None:
            return Reply(ended.code, stopped, was_sent=False)
        await self._learn(session, ended.result)
        return Reply(ended.code, stopped)

    def said(self, error: BaseException) -> int:
        """Write the line about an error, and return the exit code that it has in the shell."""
        from afkcli.screen.errors import ending_of

        return ending_of(error, self.invocation, debug=self.request.debug).code

    async def _learn(self, session: Session, result: AgentResult) -> None:
        """Know more of the conversation after a turn, and name the command that continues a cut answer."""
        self.request = replace(self.request, thread=result.thread_id, continue_=False)
        self.is_begun = True
        cost: float | None = None
        window: int | None = None
        with contextlib.suppress(AfkError):
            cost = (await session.runner.thread_meant(result.thread_id)).cost_usd
        with contextlib.suppress(AfkError):
            window = await session.runner.window_of(result.model)
        self.know(model=result.model, used=self._used or None, window=window, cost=cost)
        if result.saved and _is_cut(result):
            self.messages.say("/resume continues the answer")

    def _observe(self, event: Event) -> None:
        if event.type == "step_completed":
            self._used = event.usage.input_tokens + event.usage.output_tokens

    async def aclose(self) -> bool:
        """Close the session; return whether something is left behind that does not end."""
        if self._session is None:
            return False
        from afkcli.commands.session import are_left_behind

        await self._session.aclose()
        return await are_left_behind(stopped=False)

    async def wait_for_loading(self) -> None:
        """Return when the setup is there; raises what made that impossible."""
        await self._loading.loaded()


def _is_cut(result: AgentResult) -> bool:
    """Return whether the turn ended before its answer did."""
    from afkcli.core.contract.errors import ErrorKind
    from afkcli.core.contract.result import RunState

    if result.state is RunState.FAILED:
        return result.error_kind is ErrorKind.TRUNCATED
    return result.state is not RunState.COMPLETED
