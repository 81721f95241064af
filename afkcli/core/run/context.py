"""Makes the requests of a run fit into the window of its model, and says what is left out of them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from afkcli.core.contract.context import SMALLEST_WINDOW
from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.events import ContextEvent
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.messages import ModelResponse
from afkcli.core.contract.result import Usage
from afkcli.core.contract.structs import Struct, field, replace
from afkcli.core.contract.tools import Tools
from afkcli.core.run.models import Model, WindowLookup
from afkcli.core.run.native import Native, is_compaction, takes_of, what_was_done
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.spec import RunSpec
from afkcli.core.run.transcript import Transcript
from afkcli.core.run.window import ANSWER_TOKENS, LISTED_FROM_TOKENS, MORE, REFUSED_PART, window_said
from afkcli.core.thread.changes import Compaction
from afkcli.core.thread.compactions import message_of
from afkcli.core.thread.trimming import NOTHING, Room, Size, Trim, covered, cut, kept_size, size_of, text_tokens
from afkcli.core.thread.turns import TurnContext

if TYPE_CHECKING:
    from afkcli.core.run.compacting import Compactor


class Context(Struct, kw_only=True):
    """The window of a run's model, and what the transcript leaves out of its requests.

    Args:
        spec: the run.
        transcript: what the requests are made of.
        outlet: where it is said.
        look_up_window: says how many tokens the window of a model has.
        compactor: makes summaries of old turns, where the policy is `compact`; with `native` in place of a compaction
            of a server that the model does not take.
    """

    spec: RunSpec
    transcript: Transcript
    outlet: Outlet
    look_up_window: WindowLookup
    native: Native
    compactor: Compactor | None = None
    _model: str = ""
    _windows: dict[str, int] = field(default_factory=dict)
    _told: dict[str, int] = field(default_factory=dict)
    _refused: set[str] = field(default_factory=set)
    _history: list[Size] | None = None
    _native_size: int = 0
    _answer: list[Size] = field(default_factory=list)
    _fixed: tuple[Tools | None, int] = (None, 0)
    _reported: int = 0
    _reported_at: int = 0
    _ratio: float = 1.0
    _done: str = ""
    _said: tuple[Trim, int, int | None, str | None] = (NOTHING, 0, None, None)
    _made: Compaction | None = None

    async def fit(self, model: Model, tools: Tools) -> None:
        """Leave out of the next request to `model` what does not fit into its window, and say so.

        Raises:
            ProviderError: `context_length`; the question alone does not fit, or the agent's policy is `refuse`.
        """
        if model.full_name != self._model:
            self._begin(model)
        self._measure(tools)
        window = await self._window(model)
        if window is None:
            return
        before, room = self._counted(), self._room(model, window)
        compactor = self._compactor() if before > room.limit else None
        if compactor is not None:
            await self._compact(compactor, model, window, room)
            room = self._room(model, window)
        if self._counted() > room.limit:
            self._cut(room)
        await self._say(window, before)

    def _compactor(self) -> Compactor | None:
        """Return what makes a summary for the next request; None if old turns are left out of it."""
        if self.spec.agent.context.policy == "native" and not self.transcript.lacks_compaction:
            return None
        return self.compactor

    async def _compact(self, compactor: Compactor, model: Model, window: int, room: Room) -> None:
        """Have a summary take the place of old turns, and of the summary before them, where that saves something."""
        from afkcli.core.run.summariser import summary_tokens

        tokens, ratio = summary_tokens(room.limit), self._counted() / max(1, self._estimate())
        history, before = self._history or [], self._compaction_tokens()
        others = replace(room, fixed=room.fixed - before)
        count = max(covered(history, others, self._own(), ratio, tokens), self.transcript.trim.dropped)
        if sum(size.whole for size in history[:count]) + before < 2 * tokens:
            return
        made = await compactor.compact(count, tokens, model, window, ratio)
        if made is not None:
            self._made, self._ratio, self._reported, self._history = made, ratio, 0, None
            self._measure_history()

    def _compaction_tokens(self) -> int:
        compaction = self.transcript.sent_compaction
        return size_of([message_of(compaction)]).whole if compaction is not None else 0

    def _native_tokens(self) -> int:
        return 0 if self.transcript.without_compaction else self._native_size

    def _compaction_id(self) -> str | None:
        compaction = self.transcript.sent_compaction
        return compaction.id if compaction is not None else None

    def native_from(self, model: Model) -> int | None:
        """Return from which size on the server is asked to shorten the next request by itself; None if it is not."""
        if self.spec.agent.context.policy != "native" or not self.native.can(model):
            return None
        window = self._windows.get(model.full_name)
        if not window:  # it is not known yet: the conversation is short
            return None
        room = self._room(model, window)
        return self.native.threshold(model, room.limit, room.keep)

    async def take_answer(self, response: ModelResponse, model: Model) -> None:
        """Take what the server counted for the last request, what it did to it, and its answer.

        The answer is in the transcript by now. What the server left out, or has made a compaction of, is said.
        """
        before, usage = self._counted(), response.usage or Usage()
        compacted = is_compaction(response.message, takes_of(model))
        if compacted:
            self._begin_with(model)
        if response.context_tokens or (usage.input_tokens and not compacted):
            self._reported = response.context_tokens or usage.input_tokens + usage.output_tokens
            self._reported_at = len(self.transcript.answer)
        done = what_was_done(response, compacted=compacted)
        if done and done != self._done:
            self._done = done
            after = self._counted()
            left_out = sum(edit.tokens or 0 for edit in response.edits)
            await self.outlet.emit(
                ContextEvent,
                message=done,
                window=self._windows.get(self._model) or 0,
                tokens_before=max(before, after + left_out),
                tokens_after=after,
                compacted_through=self._compacted_through(),
                by_server=True,
            )

    def at_the_end(self) -> TurnContext | None:
        """Return what is known of the conversation after the last answer, for the next turn; None if nothing is."""
        trim, turns = self.transcript.trim, self.transcript.history
        marked = turns[trim.marked - 1].turn if trim.marked else None
        found = TurnContext(
            tokens=self._reported or None,
            window=self._told.get(self._model),
            dropped_through=turns[trim.dropped - 1].turn if trim.dropped else None,
            marked_through=self.spec.turn if self.transcript.own_marked else marked,
            compaction=self._compaction_id(),
        )
        return None if found == TurnContext() else found

    def cut_further(self, error: ProviderError, model: Model) -> bool:
        """Leave out more if the server finds a request too long all the same, once for each model.

        Returns:
            Whether another request is useful.
        """
        policy = self.spec.agent.context.policy
        if error.kind is not ErrorKind.CONTEXT_LENGTH or policy == "refuse" or model.full_name in self._refused:
            return False
        counted, named = self._counted(), window_said(f"{error.said} {error}")
        window = named or max(SMALLEST_WINDOW, int(counted * REFUSED_PART))
        self._refused.add(model.full_name)
        self._windows[model.full_name] = window
        if named is not None:  # a guess is for this run alone
            self._told[model.full_name] = named
        if counted <= window:  # the server counts more than the estimate says
            self._ratio, self._reported = self._ratio * MORE * window / max(1, counted), 0
        before, size = self._state(), (self._ratio, self._reported)
        try:
            self._cut(self._room(model, window))
        except ProviderError:  # nothing is left to be cut: what the server said is the answer
            return False
        changed = self._state() != before
        if self._compactor() is not None:  # the next request begins with a summary, where one can be made
            self._restore(before)
            self._ratio, self._reported = size
        return changed

    def _state(self) -> tuple[Trim, int, bool]:
        return self.transcript.trim, self.transcript.own_marked, self.transcript.without_compaction

    def _restore(self, state: tuple[Trim, int, bool]) -> None:
        self.transcript.trim, self.transcript.own_marked, self.transcript.without_compaction = state

    def _begin(self, model: Model) -> None:
        """Begin where the last turn ended, if it had the same model: another one counts, and takes, other numbers."""
        self._model = model.full_name
        self._begin_with(model)
        history = self.transcript.history
        last = history[-1] if history else None
        if last is None or last.context is None or last.model != self._model:
            return
        before = last.context
        self._reported = (before.tokens or 0) if before.compaction == self._compaction_id() else 0
        if self.spec.agent.context.policy != "refuse":
            counts = (
                sum(turn.turn <= (through or 0) for turn in history)
                for through in (before.dropped_through, before.marked_through)
            )
            stood_for = self.transcript.stood_for
            dropped, marked = (count if count > stood_for else 0 for count in counts)
            self.transcript.trim = Trim(dropped, max(dropped, marked))

    def _begin_with(self, model: Model) -> None:
        """Begin the requests with the last compaction that the model takes, of which the server has counted nothing."""
        transcript = self.transcript
        transcript.begin_with_compaction(takes_of(model))
        self._restore((NOTHING, 0, False))
        self._ratio, self._reported, self._reported_at, self._history = 1.0, 0, 0, None
        if transcript.begins_here:
            self._said = (NOTHING, 0, transcript.compacted, None)  # the answer that has it says so

    def begin_without(self, turn: int, model: Model) -> None:
        """Begin the requests with an earlier message if they began with a compaction in `turn`, which is left out."""
        transcript = self.transcript
        at = transcript.compacted
        if at is not None and not transcript.begins_here and transcript.history[at].turn == turn:
            self._begin_with(model)

    def _stood_for(self) -> int | None:
        """Return the number of the last turn that a compaction stands for; None if there is none."""
        count = self.transcript.stood_for
        return self.transcript.history[count - 1].turn if count else None

    def _measure(self, tools: Tools) -> None:
        """Measure what is new since the last request."""
        if self._fixed[0] is not tools:
            specs = (f"{tool.spec.name}{tool.spec.description}{dumps(tool.spec.parameters)}" for tool in tools.values())
            self._fixed = (tools, text_tokens(self.spec.agent.instructions) + sum(map(text_tokens, specs)))
        self._measure_history()
        for message in self.transcript.answer[len(self._answer) :]:
            self._answer.append(size_of([message]))

    def _measure_history(self) -> None:
        if self._history is None:
            sent_of = self.transcript.sent_of
            self._history = [size_of(sent_of(number)) for number in range(len(self.transcript.history))]
            native = self.transcript.native_compaction
            self._native_size = size_of([native]).whole if native is not None else 0
            if native is not None:  # it is sent also where its turn is left out
                size = self._history[self.transcript.stood_for]
                self._history[self.transcript.stood_for] = Size(*(tokens - self._native_size for tokens in size))

    def _room(self, model: Model, window: int) -> Room:
        return Room(
            limit=window - self._reserved(model, window),
            keep=self.spec.agent.context.keep,
            fixed=self._fixed[1] + self._compaction_tokens() + self._native_tokens(),
        )

    def _reserved(self, model: Model, window: int) -> int:
        """Return the tokens that are reserved for the answer."""
        wanted = self.spec.agent.options.get("max_output_tokens")
        if not isinstance(wanted, int):
            wanted = min(model.capabilities.max_output_tokens or ANSWER_TOKENS, ANSWER_TOKENS)
        return min(wanted, window // 4)

    def _cut(self, room: Room) -> None:
        """Leave out more of the turns before, then older results of this turn's tools.

        Raises:
            ProviderError: `context_length`; what is left does not fit either, or nothing may be left out.
        """
        if self.spec.agent.context.policy == "refuse":
            raise self._too_long("the conversation", room, "start a new thread, or use the context policy `trim`")
        transcript, before = self.transcript, self._state()
        self._ratio, self._reported = self._counted() / max(1, self._estimate()), 0
        transcript.trim = cut(self._history or (), transcript.trim, room, self._own(), self._ratio)
        if self._counted() > room.limit:
            transcript.mark_own_results()
        if self._counted() > room.limit and (transcript.sent_compaction or transcript.native_compaction) is not None:
            transcript.without_compaction = True
        if self._counted() > room.limit:
            mostly = (
                "the message" if room.fixed <= self._own() else "the agent's instructions and tools with the message"
            )
            error = self._too_long(mostly, room, "shorten it, or use a model with a longer context")
            self._restore(before)  # so the next turn need not leave out as much
            raise error

    def _too_long(self, what: str, room: Room, hint: str) -> ProviderError:
        line = f"{what} has about {self._counted():,} tokens, and {self._model} takes {room.limit:,} before its answer"
        return ProviderError(f"{line}; {hint}", kind=ErrorKind.CONTEXT_LENGTH)

    def _own(self) -> int:
        """Return the estimated tokens of the turn itself as it is sent."""
        if self.transcript.own_marked or self.transcript.begins_here:
            return size_of(self.transcript.turn_messages()).whole
        return size_of(self.transcript.beginning.messages).whole + sum(size.whole for size in self._answer)

    def _estimate(self) -> int:
        """Return the estimated tokens of the next request as it is now."""
        history = kept_size(self._history or (), self.transcript.trim)
        return self._fixed[1] + self._compaction_tokens() + self._native_tokens() + history + self._own()

    def _counted(self) -> int:
        """Return the size of the next request: the larger of the estimate and of what the server reported.

        With the policy `native` that of the server is taken: an estimate that is too large would leave something out
        before the server has made a compaction.
        """
        since = sum(size.whole for size in self._answer[self._reported_at :])
        if not self._reported_at:  # it was counted at the end of the turn before
            since = self._own()
        reported = self._reported + since if self._reported else 0
        if reported and self.spec.agent.context.policy == "native":
            return reported
        return max(int(self._estimate() * self._ratio), reported)

    async def _window(self, model: Model) -> int | None:
        """Return the tokens of the model's window; None if they are not known."""
        name = model.full_name
        if name not in self._windows:
            told = [turn.context.window for turn in self.transcript.history if turn.context and turn.model == name]
            last = next(filter(None, reversed(told)), None)
            window = self.look_up_window.known(model, last)
            if window is None and self._estimate() >= LISTED_FROM_TOKENS:
                last = window = await asyncio.to_thread(self.look_up_window.listed, model) or 0
            if window is None:
                return None  # it is looked up when the conversation is longer
            self._windows[name] = window
            if last:
                self._told[name] = last
        return self._windows[name] or None

    async def _say(self, window: int, before: int) -> None:
        """Emit a `context` event if something is left out, or summarised, that was not at the last one."""
        transcript, made = self.transcript, self._made
        trim, own, without = transcript.trim, transcript.own_marked, transcript.without_compaction
        saying = (trim, own, transcript.compacted, made.id if made is not None else "" if without else None)
        if saying in ((NOTHING, 0, None, None), self._said):
            return
        self._said = saying
        turns = [turn.turn for turn in transcript.history]
        through = self._compacted_through()
        left_out = self._left_out(turns)
        await self.outlet.emit(
            ContextEvent,
            message=self._message(window, left_out),
            window=window,
            tokens_before=before,
            tokens_after=self._counted(),
            dropped_through=turns[trim.dropped - 1] if trim.dropped else self._left_out_through(),
            marked_through=turns[trim.marked - 1] if trim.marked else None,
            own_results=own,
            compacted_through=through,
            compaction_model=made.model if made is not None else None,
            compaction_usage=made.usage if made is not None else None,
            compaction_cost_usd=made.cost_usd if made is not None else None,
        )

    def _message(self, window: int, left_out: Sequence[str]) -> str:
        """Return in words what is left out, and what is sent in its place."""
        said = [f"left out of the request: {', '.join(left_out)}"] if left_out else []
        compaction = self.transcript.sent_compaction
        if compaction is not None:
            where = _span(compaction.covers[0][0], compaction.through)
            said.insert(0, f"sent as a summary of about {text_tokens(compaction.summary):,} tokens: {where}")
        if not said:
            return f"{self._model} gets a compaction that its server made, in place of what came before it"
        return f"{'; '.join(said)}: the conversation does not fit into the {window:,} tokens of {self._model}"

    def _left_out(self, turns: Sequence[int]) -> list[str]:
        """Return in words each thing that is left out; `turns` are the numbers of the turns before."""
        trim, through = self.transcript.trim, self._left_out_through()
        said = [f"the summary of the turns up to {through}"] if through is not None else []
        if trim.dropped:
            first = self.transcript.stood_for if self.transcript.native_compaction is not None else 0
            said.append(_span(turns[min(first, trim.dropped - 1)], turns[trim.dropped - 1]))
        if trim.marked > trim.dropped:
            said.append(f"the tool results of {_span(turns[trim.dropped], turns[trim.marked - 1])}")
        if self.transcript.own_marked:
            said.append("older tool results of this turn")
        return said

    def _left_out_through(self) -> int | None:
        """Return the last turn of a summary that is left out; None if none is."""
        compaction = self.transcript.compaction
        return compaction.through if compaction is not None and self.transcript.without_compaction else None

    def _compacted_through(self) -> int | None:
        """Return the last turn that a summary, or a compaction of the server, stands for; None if there is none."""
        compaction = self.transcript.sent_compaction
        return compaction.through if compaction is not None else self._stood_for()


def _span(first: int, last: int) -> str:
    return f"turn {first}" if first == last else f"turns {first} to {last}"
