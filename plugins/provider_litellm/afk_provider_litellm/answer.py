"""The answer that LiteLLM's chunks make."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

from afk_provider_litellm.route import Route
from afkcli.plugin import ModelResponse
from afkcli.providers.chat_answer import ChatAnswer
from afkcli.providers.tool_names import ToolNames


class Answer(ChatAnswer):
    """An answer in the form of Chat Completions, whose model is named as LiteLLM names it."""

    def __init__(self, names: ToolNames, route: Route, *, taken: Collection[str], think_tags: bool) -> None:
        super().__init__(names, route.name, route.origin, taken=taken, think_tags=think_tags)
        self._route = route

    def response(self) -> ModelResponse:
        response = super().response()
        model = response.model and f"{self._route.prefix}{response.model}"
        return dataclasses.replace(response, model=model)
