"""The answer that llama.cpp streams, in the form of Chat Completions."""

from __future__ import annotations

from afkcli.plugin import ErrorKind, ModelRequest, ModelResponse, ProviderError, replace
from afkcli.providers.chat_answer import ChatAnswer
from afkcli.providers.tool_names import ToolNames


class Answer(ChatAnswer):
    """One answer while it is generated; `model` is how afk calls the model."""

    def __init__(self, model: str, request: ModelRequest) -> None:
        taken = [call.id for message in request.messages for call in message.tool_calls]
        super().__init__(ToolNames.of(request), "llama.cpp", taken=taken)
        self._model = model

    def response(self) -> ModelResponse:
        """Return the finished answer.

        Raises:
            ProviderError: the stream ended without a finish reason, so the answer may be cut.
        """
        if not self.finished:
            raise ProviderError("llama.cpp ended its answer without an end marker", kind=ErrorKind.TRUNCATED)
        return replace(super().response(), model=self._model)
