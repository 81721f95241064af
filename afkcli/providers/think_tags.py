"""Reasoning that a server leaves in the text, between tags at the very start of an answer."""

from __future__ import annotations

from collections.abc import Iterator

from afkcli.core.contract.messages import ReasoningDelta, TextDelta

_TAGS = {"<think>": "</think>", "<thought>": "</thought>"}
"""The tags that begin reasoning, and those that end it. The second ones are Google's."""


class ThinkTags:
    """Takes the text of an answer in pieces, cut anywhere, and tells reasoning from the rest.

    A server may also mark a piece as reasoning. Such a piece needs no tags; those that it has are left out.

    Args:
        active: whether tags are looked for in text without a mark.

    Since: 0.2.
    """

    def __init__(self, *, active: bool = True) -> None:
        self._starts = active
        self._is_open = False
        self._is_marked = False
        self._close = ""
        self._ends = False
        self._held = ""

    @property
    def is_unclosed(self) -> bool:
        """Whether reasoning has begun with a tag, in text without a mark, and not ended."""
        return self._is_open and not self._is_marked

    @property
    def is_idle(self) -> bool:
        """Whether text passes as it is from now on. Since: 0.2."""
        return not (self._starts or self._is_open or self._ends or self._held)

    def take(self, text: str, *, marked: bool = False) -> Iterator[TextDelta | ReasoningDelta]:
        """Yield what a piece of text is; what may be a part of a tag is held back."""
        held, self._held = self._held, ""
        text = held + text
        if not text:
            return
        if marked:
            text = self._begin_marked(text)
        elif self._is_open and self._is_marked:
            if self._is_over(text):
                yield from [ReasoningDelta(held)] if held else []
                text = text.removeprefix(held)
        elif self._starts:
            text = self._begin(text)
        if self._is_open:
            thought, text = self._until_close(text)
            if thought:
                yield ReasoningDelta(thought)
        if self._ends:  # the blank lines between reasoning and answer belong to neither
            text = text.lstrip()
            self._ends = not text
        if text:
            yield TextDelta(text)

    def stop(self) -> Iterator[TextDelta | ReasoningDelta]:
        """Yield what was held back: what comes from now on is not looked at."""
        held, self._held = self._held, ""
        self._starts = self._ends = False
        if held:
            yield ReasoningDelta(held) if self._is_open else TextDelta(held)

    def _begin(self, text: str) -> str:
        """Return the text after the opening tag, or the whole text if there is no tag."""
        start = text.lstrip()
        if any(len(start) < len(tag) and tag.startswith(start) for tag in _TAGS):
            self._held = text
            return ""
        self._starts = False
        tag = next((tag for tag in _TAGS if start.startswith(tag)), None)
        if tag is None:
            return text
        self._is_open, self._close = True, _TAGS[tag]
        return start.removeprefix(tag).lstrip("\n")

    def _begin_marked(self, text: str) -> str:
        """Return a marked text after its opening tag, which may be cut in two."""
        if not self._is_open:
            start = text.lstrip()
            if any(len(start) < len(tag) and tag.startswith(start) for tag in _TAGS):
                self._held = text
                return ""
            tag = next((tag for tag in _TAGS if start.startswith(tag)), None)
            self._is_open, self._close = True, _TAGS[tag or "<thought>"]
            text = start.removeprefix(tag).lstrip("\n") if tag is not None else text
        self._starts, self._is_marked = False, True
        return text

    def _is_over(self, text: str) -> bool:
        """Return whether marked reasoning has ended before this text, which has no mark and no closing tag."""
        if text.startswith(self._close) or self._close.startswith(text):
            return False
        self._is_open, self._ends = False, True
        return True

    def _until_close(self, text: str) -> tuple[str, str]:
        """Return the reasoning in a text, and the text after its end."""
        thought, close, rest = text.partition(self._close)
        if close:
            self._is_open, self._ends = False, True
            return thought, rest
        length = next((n for n in range(len(self._close) - 1, 0, -1) if text.endswith(self._close[:n])), 0)
        self._held = text[len(text) - length :] if length else ""
        return text[: len(text) - length], ""
