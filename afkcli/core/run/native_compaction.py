"""Has the server of a model make a compaction of a thread, because the user asks for it under the policy `native`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence

from afkcli.core.contract.agent import Agent
from afkcli.core.contract.errors import ErrorKind, PluginContractError, ProviderError, UsageError
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.messages import (
    FilePart,
    ImagePart,
    Message,
    ModelRequest,
    ModelResponse,
    Part,
    ProviderData,
    ReasoningPart,
    ToolResultPart,
)
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import FrozenStruct, replace
from afkcli.core.contract.tasks import contained
from afkcli.core.contract.waits import waiting_for
from afkcli.core.run.cost import Spending
from afkcli.core.run.limits import Limits
from afkcli.core.run.models import Model
from afkcli.core.run.native import Takes, compaction_at, is_compaction, takes_of
from afkcli.core.thread.attachments import note_for_model
from afkcli.core.thread.changes import Compaction, spans
from afkcli.core.thread.sending import SentTurn

_CANNOT = frozenset({ErrorKind.NOT_FOUND, ErrorKind.BAD_REQUEST})
"""The kinds of errors with which a server says that it makes no compactions when it is asked."""


class NativeCompactor(FrozenStruct, kw_only=True):
    """Asks the server of a model for a compaction.

    Args:
        model: the model.
        spending: counts what it costs, against the limit of the agent and the budgets.
        limits: counts its call.
        notify: takes a line for a person: the server makes none.
    """

    model: Model
    spending: Spending
    limits: Limits
    notify: Callable[[str], None]

    async def compact(self, agent: Agent, turns: Sequence[SentTurn], seen: Iterable[int]) -> Compaction | None:
        """Return the compaction of what is sent of `turns`; None, after a line, if the server makes none.

        Args:
            agent: the agent whose thread it is.
            turns: what is sent of the turns that it stands for.
            seen: the numbers of all turns of the thread that are not set aside.

        Raises:
            UsageError: a compaction stands for all of them already.
            ProviderError: the call failed.
        """
        name = self.model.full_name
        compact = getattr(self.model.provider, "compact", None)
        if compact is None or self.model.capabilities.native_context_from is None:
            self.notify(f"the server of {name} makes no compaction when it is asked; {name} makes a summary")
            return None
        messages = _sent(turns, takes_of(self.model))
        if len(messages) < 2 and all(is_compaction(message, takes_of(self.model)) for message in messages):
            raise UsageError("there is nothing more to summarise: a compaction of the server is sent in its place")
        started = rfc3339(time.time())
        try:
            response = await self._call(compact, ModelRequest(model=self.model.name, messages=messages))
        except ProviderError as error:
            if error.kind not in _CANNOT:
                raise
            self.notify(f"the server of {name} makes no compaction ({error.said or error}); {name} makes a summary")
            return None
        usage = response.usage or Usage()
        return Compaction(
            id=uuid7(),
            covers=spans(number for number in seen if number <= turns[-1].turn),
            summary="",
            model=name,
            agent=agent.name,
            started=started,
            ended=rfc3339(time.time()),
            usage=usage,
            cost_usd=await self.spending.cost_of(response.usage, self.model),
            provider_data=self._data(response),
        )

    async def _call(self, compact: Callable[[ModelRequest], object], request: ModelRequest) -> ModelResponse:
        """Make the call, and count it."""
        self.limits.start_call()
        cost = await self.spending.start_call(self.model, request)
        try:
            waiting = waiting_for(f"a compaction by the server of {self.model.full_name}")
            with contained(f"the provider {self.model.provider.name!r}"), waiting:
                response = await compact(request)  # type: ignore[misc]  # an optional method of the provider
        except Exception:
            cost.fail()
            raise
        except BaseException:  # a cancelled call may be billed
            cost.end(None)
            raise
        if not isinstance(response, ModelResponse):
            cost.end(None)
            raise PluginContractError(f"`compact` of the provider {self.model.provider.name!r} returned no response")
        cost.end(response.usage)
        return response

    def _data(self, response: ModelResponse) -> ProviderData:
        for part in response.message.parts:
            if isinstance(part, ReasoningPart) and part.compacts and part.provider_data is not None:
                return part.provider_data
        raise PluginContractError(f"`compact` of the provider {self.model.provider.name!r} returned no compaction")


def _sent(turns: Sequence[SentTurn], takes: Takes) -> list[Message]:
    """Return the messages of turns from the last compaction on that the model takes, without their attachments."""
    messages = [
        message for turn in turns for message in turn.messages if not turn.is_native or is_compaction(message, takes)
    ]
    return [_without_attachments(message) for message in messages[compaction_at(messages, takes) or 0 :]]


def _without_attachments(message: Message) -> Message:
    if message.is_text:
        return message
    return replace(message, parts=tuple(map(_note, message.parts)))


def _note(part: Part) -> Part:
    if isinstance(part, (ImagePart, FilePart)):
        return note_for_model(part, "it is not part of what is compacted")
    return replace(part, parts=tuple(map(_note, part.parts))) if isinstance(part, ToolResultPart) else part
