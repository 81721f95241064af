"""The status of the chat: thread, model, tokens of the window that are used, and cost.

Since: 0.2.
"""

from __future__ import annotations

from typing import NamedTuple

from afkcli.core.contract.text import dollars, one_line
from afkcli.screen.text import shortened, width_of

_SEPARATOR = " · "
_HINT = "/help lists the commands"
"""What a person has to know first; it is said until a message was answered."""


class Status(NamedTuple):
    """What is known of the conversation.

    Args:
        thread: the name of the thread; None for one that begins with the next message.
        model: the model, None while it is not known.
        used: the tokens of the last request and its answer, None while they are not known.
        window: the tokens of the window of the model, None if they are not known.
        cost: US dollars so far; None where the price of a turn is not known.
        attached: how many files go with the next message.
        is_begun: whether a message was answered in this chat, or it continues another one.
    """

    thread: str | None = None
    model: str | None = None
    used: int | None = None
    window: int | None = None
    cost: float | None = 0.0
    attached: int = 0
    is_begun: bool = True


def status_line(status: Status, columns: int) -> str:
    """Return the status on one line of at most so many columns; what does not fit is left out from its end.

    The name of the thread is shortened before anything is left out.
    """
    hint = "" if status.is_begun else _HINT
    parts = [part for part in (_attached(status), _model(status), _tokens(status), _cost(status), hint) if part]
    name = one_line(status.thread or "new thread")
    for count in range(len(parts), -1, -1):
        rest = "".join(f"{_SEPARATOR}{part}" for part in parts[:count])
        room = columns - 1 - width_of(rest)
        if room >= min(width_of(name), 8):
            return shortened(name, room) + rest
    return shortened(name, max(columns - 1, 1))


def status_words(status: Status) -> str:
    """Return the status in words, for a terminal on which nothing is drawn again."""
    said = [f"thread {status.thread}" if status.thread else "a new thread"]
    if status.model:
        said.append(f"model {_model(status)}")
    if status.used is not None:
        of = f" of {status.window:,}" if status.window else ""
        said.append(f"{status.used:,}{of} tokens of the window used")
    if status.cost:
        said.append(f"{dollars(status.cost)} so far")
    if status.attached:
        said.append(f"{status.attached} attached")
    return ", ".join(said) + ("" if status.is_begun else f"; {_HINT}")


def _attached(status: Status) -> str:
    return f"{status.attached} attached" if status.attached else ""


def _model(status: Status) -> str:
    return one_line(status.model or "").removesuffix("/")  # `local/` is the model that a plugin has by itself


def _tokens(status: Status) -> str:
    if status.used is None:
        return ""
    if not status.window:
        return f"{_thousands(status.used)} tokens"
    return (
        f"{_thousands(status.used)}/{_thousands(status.window)} tokens ({round(100 * status.used / status.window)} %)"
    )


def _cost(status: Status) -> str:
    return dollars(status.cost) if status.cost else ""


def _thousands(count: int) -> str:
    if count < 1000:
        return str(count)
    return f"{count / 1000:.1f}k" if count < 10_000 else f"{round(count / 1000)}k"
