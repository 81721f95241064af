"""What one read of a stream brought, as few model events: pieces that follow each other are one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afkcli.core.contract.messages import ModelEvent, ReasoningDelta, TextDelta, ToolCallDelta


class EventMerger:
    """Merges the events of one answer, read by read.

    The first piece of text, of reasoning and of a call stays an event of its own each time that one begins: how it is
    shown then does not depend on how much came with it.

    Since: 0.2.
    """

    def __init__(self) -> None:
        self._last: object = None

    def merged(self, events: Iterable[ModelEvent]) -> Iterator[ModelEvent]:
        """Yield events that came together, with neighbouring pieces of one kind, and of one call, as one.

        What came before an error is yielded before it is raised.
        """
        first: ModelEvent | None = None
        texts: list[str] = []
        try:
            for event in events:
                key = _key(event)
                if first is not None and key == self._last:
                    texts.append(_text(event))
                    continue
                if first is not None:
                    yield _joined(first, texts)
                    first = None
                if key is not None and key == self._last:
                    first, texts = event, [_text(event)]
                else:
                    self._last = key
                    yield event
        except Exception:
            if first is not None:
                yield _joined(first, texts)
            raise
        if first is not None:
            yield _joined(first, texts)


def _key(event: ModelEvent) -> object:
    """Return what is equal for two events that can be one; None for an event that stays alone."""
    if isinstance(event, ToolCallDelta):
        return event.id, event.name
    kind = type(event)
    return kind if kind is TextDelta or kind is ReasoningDelta else None


def _text(event: ModelEvent) -> str:
    if isinstance(event, (TextDelta, ReasoningDelta)):
        return event.text
    return event.arguments if isinstance(event, ToolCallDelta) else ""


def _joined(first: ModelEvent, texts: list[str]) -> ModelEvent:
    if len(texts) == 1:
        return first
    text = "".join(texts)
    if isinstance(first, ToolCallDelta):
        return ToolCallDelta(first.id, first.name, text)
    return TextDelta(text) if isinstance(first, TextDelta) else ReasoningDelta(text)
