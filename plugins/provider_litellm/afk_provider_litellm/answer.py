"""The answer that LiteLLM's chunks make."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from afk_provider_litellm.route import Route
from afkcli.plugin import JsonObject, Message, ModelEvent, ModelResponse, ProviderData, ReasoningPart
from afkcli.providers.chat import ChatAnswer
from afkcli.providers.tool_names import ToolNames


class Answer(ChatAnswer):
    """An answer in the form of Chat Completions, whose model is named as LiteLLM names it.

    Thinking that the server has signed is kept with its signature, for the calls that follow in the same turn.
    """

    def __init__(self, names: ToolNames, route: Route, *, taken: Collection[str], think_tags: bool) -> None:
        super().__init__(names, route.name, route.origin, taken=taken, think_tags=think_tags)
        self._route = route
        self._thinking: list[JsonObject] = []

    def chunk(self, chunk: JsonObject) -> Iterator[ModelEvent]:
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            for piece in (delta or {}).get("thinking_blocks") or ():
                self._block(piece)
        yield from super().chunk(chunk)

    def response(self) -> ModelResponse:
        response = super().response()
        model = response.model and f"{self._route.prefix}{response.model}"
        return dataclasses.replace(response, model=model, message=self._with_thinking(response.message))

    def _block(self, piece: Mapping[str, Any]) -> None:
        """Add a piece of thinking: text goes to the open block, a signature closes it, other blocks come whole."""
        last = self._thinking[-1] if self._thinking else None
        if piece.get("type") != "thinking" or last is None or last.get("type") != "thinking" or last.get("signature"):
            self._thinking.append(dict(piece))
        else:
            last["thinking"] = (last.get("thinking") or "") + (piece.get("thinking") or "")
            last["signature"] = piece.get("signature") or ""

    def _with_thinking(self, message: Message) -> Message:
        blocks = [block for block in self._thinking if block.get("signature") or block.get("type") != "thinking"]
        if not blocks:
            return message
        route = self._route
        data = ProviderData(provider="litellm", api=route.provider, model=route.model, payload=blocks)
        thought = [part for part in message.parts if isinstance(part, ReasoningPart)]
        text = "".join(part.text for part in thought)
        others = tuple(part for part in message.parts if not isinstance(part, ReasoningPart))
        return dataclasses.replace(message, parts=(ReasoningPart(text=text, provider_data=data), *others))
