"""Reasoning that a server leaves in the text, between tags at the very start of an answer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.messages import ReasoningDelta, TextDelta

_TAGS = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "<reasoning>": "</reasoning>",
    "[think]": "[/think]",
}
"""The tags that begin reasoning, and those that end it, in small letters. Google has `<thought>`, Mistral `[THINK]`."""

_ENDS = tuple(form for end in _TAGS.values() for form in (end, end.upper()))
_LONE_END = LazyPattern("(?:</(?:think|thinking|thought|reasoning)>|\\[/think\\])[ \t]*$", re.IGNORECASE | re.MULTILINE)


def has_lone_end(text: str) -> bool:
    """Return whether a line of a text ends with the tag that ends reasoning, once, without one that begins it.

    So it is if the chat template of a server puts the first tag into the prompt. Since: 0.2.
    """
    if not any(end in text for end in _ENDS):  # which is quick, and true of nearly all texts
        return False
    found = list(_LONE_END.compiled.finditer(text))
    small = text.lower()
    return len(found) == 1 and bool(text[found[0].end() :].strip()) and not any(tag in small for tag in _TAGS)


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
        if _may_begin(start, (*_TAGS, *_TAGS.values())):
            self._held = text
            return ""
        self._starts = False
        tag = _first(start, (*_TAGS, *_TAGS.values()))
        if tag is None:
            return text
        rest = start[len(tag) :]
        if tag not in _TAGS:  # the end of reasoning that there was none of, or that began in the prompt
            self._ends = True
            return rest
        self._is_open, self._close = True, _TAGS[tag]
        return rest.lstrip("\n")

    def _begin_marked(self, text: str) -> str:
        """Return a marked text after its opening tag, which may be cut in two."""
        if not self._is_open:
            start = text.lstrip()
            if _may_begin(start, _TAGS):
                self._held = text
                return ""
            tag = _first(start, _TAGS)
            self._is_open, self._close = True, _TAGS[tag or "<thought>"]
            text = start[len(tag) :].lstrip("\n") if tag is not None else text
        self._starts, self._is_marked = False, True
        return text

    def _is_over(self, text: str) -> bool:
        """Return whether marked reasoning has ended before this text, which has no mark and no closing tag."""
        small = text[: len(self._close)].lower()
        if small == self._close or self._close.startswith(text.lower()):
            return False
        self._is_open, self._ends = False, True
        return True

    def _until_close(self, text: str) -> tuple[str, str]:
        """Return the reasoning in a text, and the text after its end."""
        found = re.search(re.escape(self._close), text, re.IGNORECASE)
        if found is not None:
            self._is_open, self._ends = False, True
            return text[: found.start()], text[found.end() :]
        end = text[-len(self._close) :].lower()
        length = next((n for n in range(len(self._close) - 1, 0, -1) if end.endswith(self._close[:n])), 0)
        self._held = text[len(text) - length :] if length else ""
        return text[: len(text) - length], ""


def _may_begin(text: str, tags: Iterable[str]) -> bool:
    """Return whether a text may be the beginning of a tag that is not whole yet."""
    return any(len(text) < len(tag) and tag.startswith(text.lower()) for tag in tags)


def _first(text: str, tags: Iterable[str]) -> str | None:
    """Return the tag that a text begins with, however its letters are written."""
    return next((tag for tag in tags if text[: len(tag)].lower() == tag), None)
