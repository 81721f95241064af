"""Chat Completions: what is sent, and how the streamed chunks become model events.

https://developers.openai.com/api/reference/resources/chat/subresources/completions/methods/create
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from afk_provider_openai.settings import Server
from afk_provider_openai.structured import schema_format
from afkcli.plugin import JsonObject, ModelEvent, ModelRequest, ModelResponse
from afkcli.providers.chat import OPTIONS, ChatAnswer, chat_messages, chat_tool
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import decode_event

PATH = "/chat/completions"
DONE = "[DONE]"


def request_body(server: Server, request: ModelRequest, names: ToolNames) -> JsonObject:
    """Return the body of the request, `extra` last."""
    body: JsonObject = {
        "model": request.model,
        "messages": list(chat_messages(request, names)),
        "stream": True,
    }
    if server.settings.stream_usage:
        body["stream_options"] = {"include_usage": True}
    if server.is_openai:
        body["store"] = False  # an account may store by default
    if request.tools:
        body["tools"] = [chat_tool(tool, names) for tool in request.tools]
    for option, field in OPTIONS.items():
        if option in request.options:
            body[field] = request.options[option]
    if "max_output_tokens" in request.options:
        # OpenAI's reasoning models refuse the old name; many other servers know no other.
        field = "max_completion_tokens" if server.has_openai_models else "max_tokens"
        body[field] = request.options["max_output_tokens"]
    if request.output_schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": schema_format(request.output_schema)}
    return {**body, **request.extra, "stream": True}


class ChatReader:
    """Reads the events of one answer.

    `finished` says that the model's finish reason was seen, which is the end of the answer: some servers omit
    `data: [DONE]`. `ended` says that nothing more comes.
    """

    def __init__(self, server: Server, request: ModelRequest, names: ToolNames) -> None:
        self.ended = False
        self._server = server
        self._model = request.model
        self._answer = ChatAnswer(names, server.name)

    @property
    def finished(self) -> bool:
        return self._answer.finished

    def feed(self, events: Sequence[str]) -> Iterator[ModelEvent]:
        """Yield the model events of some events' data.

        Raises:
            ProviderError: the server reported an error.
            ValueError: the data of an event is not JSON.
        """
        for data in events:
            if data.startswith(DONE):
                self.ended = True
                return
            chunk = decode_event(data)
            yield from self._answer.chunk(chunk)
            if chunk.get("error"):
                raise self._server.errors.event(self._model, chunk)

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`."""
        return self._answer.response()
