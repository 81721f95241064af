"""Reasoning that a server leaves in the text, between `<think>` and `</think>` at the very start of an answer."""

from __future__ import annotations

from collections.abc import Iterator

from afkcli.core.contract.messages import ReasoningDelta, TextDelta

_OPEN = "<think>"
_CLOSE = "</think>"


class ThinkTags:
    """Takes the text of an answer in pieces, cut anywhere, and tells reasoning from the rest.

    `is_open` says that reasoning has begun and not ended.

    Since: 0.2.
    """

    def __init__(self, *, active: bool = True) -> None:
        self.is_open = False
        self._starts = active
        self._ends = False
        self._held = ""

    @property
    def is_idle(self) -> bool:
        """Whether text passes as it is from now on. Since: 0.2."""
        return not (self._starts or self.is_open or self._ends or self._held)

    def take(self, text: str) -> Iterator[TextDelta | ReasoningDelta]:
        """Yield what a piece of text is; what may be a part of a tag is held back."""
        text, self._held = self._held + text, ""
        if not text:
            return
        if self._starts:
            text = self._begin(text)
        if self.is_open:
            thought, text = self._until_close(text)
            if thought:
                yield ReasoningDelta(thought)
        if self._ends:  # the blank lines between reasoning and answer belong to neither
            text = text.lstrip()
            self._ends = not text
        if text:
            yield TextDelta(text)

    def stop(self) -> str:
        """Return the text that was held back: what comes from now on is not looked at."""
        held, self._held = self._held, ""
        self._starts = self._ends = False
        return held

    def _begin(self, text: str) -> str:
        """Return the text after the opening tag, or the whole text if there is no tag."""
        start = text.lstrip()
        if len(start) < len(_OPEN) and _OPEN.startswith(start):
            self._held = text
            return ""
        self._starts = False
        if not start.startswith(_OPEN):
            return text
        self.is_open = True
        return start.removeprefix(_OPEN).lstrip("\n")

    def _until_close(self, text: str) -> tuple[str, str]:
        """Return the reasoning in a text, and the text after its end."""
        thought, close, rest = text.partition(_CLOSE)
        if close:
            self.is_open, self._ends = False, True
            return thought, rest
        length = next((n for n in range(len(_CLOSE) - 1, 0, -1) if text.endswith(_CLOSE[:n])), 0)
        self._held = text[len(text) - length :] if length else ""
        return text[: len(text) - length], ""
