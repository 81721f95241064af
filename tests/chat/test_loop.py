"""What the prompt of a chat holds after a text that could not be sent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from afkcli.chat.loop import Reply, converse
from afkcli.chat.reading import Left
from afkcli.chat.slash import Typed
from afkcli.core.contract.errors import EXIT_OK
from afkcli.host.invocation import Invocation, Stream
from afkcli.screen.messages import Messages


class Typing:
    """A person who types these texts, one after the other; `seen` is what the prompt held each time."""

    is_attended = True

    def __init__(self, *texts: str) -> None:
        self.seen: list[str] = []
        self._texts = list(texts)

    async def read(self, text: str = "") -> str:
        self.seen.append(text)
        if not self._texts:
            raise Left
        return self._texts.pop(0)


class Silent:
    """Answers nothing."""

    async def ask(self, message: str) -> Reply:
        return Reply()

    def carry_out(self, command: Typed) -> Coroutine[Any, Any, Reply] | Reply:
        return Reply()


@pytest.mark.parametrize(
    ("text", "held"),
    [("/hlp", ""), ("/modle gpt-5", "/modle gpt-5"), ("/helpme with a long sentence", "/helpme with a long sentence")],
)
def test_a_mistyped_name_alone_is_not_put_back_and_what_follows_one_is(text: str, held: str) -> None:
    closed = Stream(2, None)
    messages = Messages(Invocation(environment={}, folder=None, stdin=closed, stdout=closed, stderr=closed))
    person: Any = Typing(text)
    with asyncio.Runner() as loops:
        ending = converse(loops, person, Silent(), messages)
    assert ending.code == EXIT_OK
    assert person.seen == ["", held]
