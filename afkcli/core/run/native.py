"""The context policy `native`: the server of a model shortens long conversations by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from afkcli.core.contract.messages import ContextEdit, Message, ModelResponse, ProviderData, ReasoningPart, Role
from afkcli.core.contract.structs import Struct, field, replace
from afkcli.core.contract.tasks import contained
from afkcli.core.run.models import Model
from afkcli.core.run.outlet import Outlet

Takes = Callable[[ProviderData], bool]
"""Says whether a compaction goes back to the model that is asked."""


def takes_nothing(data: ProviderData) -> bool:
    """Take no compaction: no model is asked yet."""
    return False


def takes_any(data: ProviderData) -> bool:
    """Take any compaction, to find out whether there is one."""
    return True


def takes_of(model: Model) -> Takes:
    """Return what says which compactions go back to a model: its provider, else all of this provider and model do."""
    ask = getattr(model.provider, "takes_compaction", None)

    def takes(data: ProviderData) -> bool:
        if (data.provider, data.model) != (model.provider.name, model.name):
            return False
        if ask is None:
            return True
        with contained(f"the provider {model.provider.name!r}"):
            return bool(ask(model.name, data))

    return takes


def is_compaction(message: Message, takes: Takes) -> bool:
    """Return whether a message has a compaction that the model takes."""
    if message.role is not Role.ASSISTANT or message.is_text:
        return False
    return any(
        isinstance(part, ReasoningPart)
        and part.compacts is True
        and part.provider_data is not None
        and takes(part.provider_data)
        for part in message.parts
    )


def compaction_at(messages: Sequence[Message], takes: Takes) -> int | None:
    """Return the index of the last message with a compaction that the model takes; None if there is none.

    The whole message is sent, because a call in it may come before the compaction, and its result follows.
    """
    for at in range(len(messages) - 1, -1, -1):
        if not messages[at].is_text and is_compaction(messages[at], takes):  # nearly every message is text
            return at
    return None


def compaction_alone(message: Message) -> Message:
    """Return a message with its compaction and nothing else."""
    parts = tuple(part for part in message.parts if isinstance(part, ReasoningPart) and part.compacts is True)
    return replace(message, parts=parts)


class Native(Struct, kw_only=True):
    """Says from which size on a server is asked to shorten a conversation, and what it did.

    Args:
        outlet: where it is said, once for each model, that a server cannot be asked.
    """

    outlet: Outlet
    _warned: set[str] = field(default_factory=set)

    def can(self, model: Model) -> bool:
        """Return whether the server of a model can be asked; the first time a warning says if not."""
        if model.capabilities.native_context_from is None:
            self._warn(model, f"the server of {model.full_name} cannot shorten a conversation by itself")
            return False
        return True

    def threshold(self, model: Model, limit: int, keep: float) -> int | None:
        """Return the size from which the server is asked to shorten the conversation; None if it cannot be.

        It is halfway between what trimming leaves and what the request has room for: a long message then still fits,
        and nothing has to be left out before the server sees it.

        Args:
            model: the model.
            limit: the tokens that a request has room for.
            keep: the part of them that trimming leaves.
        """
        least = model.capabilities.native_context_from
        if least is None:
            return None
        tokens = int(limit * (1 + keep) / 2)
        if tokens >= least:
            return tokens
        line = f"the server of {model.full_name} shortens conversations from {least:,} tokens on, and the window has "
        self._warn(model, f"{line}room for {limit:,}")
        return None

    def _warn(self, model: Model, line: str) -> None:
        if model.full_name not in self._warned:
            self._warned.add(model.full_name)
            self.outlet.warn("native_unavailable", f"{line}; afk does it where it does not fit")


def what_was_done(response: ModelResponse, *, compacted: bool) -> str:
    """Return in words what a server did to the conversation of its answer, "" for nothing."""
    said = [_left_out(edit) for edit in response.edits]
    if compacted:
        said.append("made a compaction, which is sent from now on in place of what came before this answer")
    return f"the server {' and '.join(said)}" if said else ""


def _left_out(edit: ContextEdit) -> str:
    tokens = "" if edit.tokens is None else f" ({edit.tokens:,} tokens)"
    return f"left out {edit.what}{tokens}"
