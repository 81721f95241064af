"""Chat Completions: what is sent, and how the streamed chunks become model events.

https://developers.openai.com/api/reference/resources/chat/subresources/completions/methods/create
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from afk_provider_openai.models import is_mistral_model
from afk_provider_openai.settings import Server
from afk_provider_openai.structured import schema_format
from afkcli.plugin import JsonObject, ModelEvent, ModelRequest, ModelResponse, TextDelta
from afkcli.providers.answer_stream import after_answer, event_objects
from afkcli.providers.base_url import split_base_url
from afkcli.providers.chat import OPTIONS, chat_message_at, chat_messages, chat_tool, wire_ids
from afkcli.providers.chat_answer import ChatAnswer, error_in
from afkcli.providers.named_message import NamedMessage
from afkcli.providers.origin import Origin
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire_ids import SHORT, WireIds

PATH = "/chat/completions"


def request_body(server: Server, request: ModelRequest, names: ToolNames) -> JsonObject:
    """Return the body of the request, `extra` last."""
    origin = origin_of(server, request.model)
    is_mistral = is_mistral_model(server, request.model)
    ids = WireIds(SHORT) if is_mistral else wire_ids(origin)
    body: JsonObject = {
        "model": request.model,
        "messages": list(chat_messages(request, names, origin, ids, strict_roles=is_mistral)),
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
        self._request = request
        self._names = names
        self._model = request.model
        taken = [call.id for message in request.messages for call in message.tool_calls]
        think_tags = server.settings.think_tags or request.output_schema is not None
        self._answer = ChatAnswer(
            names, server.name, origin_of(server, request.model), taken=taken, think_tags=think_tags
        )

    @property
    def unshown(self) -> int:
        return self._answer.unshown

    @property
    def finished(self) -> bool:
        return self._answer.finished

    @property
    def goes_on(self) -> bool:
        return self._answer.goes_on

    def feed(self, events: Iterable[str]) -> Iterator[ModelEvent]:
        """Yield the model events of some events' data.

        Raises:
            ProviderError: the server reported an error.
            ValueError: the data of an event is not JSON.
        """
        for chunk in event_objects(self, events):
            plain = self._answer.plain_text(chunk)
            if plain is not None:  # most chunks: nothing else is looked for in them
                yield TextDelta(plain)
                continue
            yield from self._answer.chunk(chunk)
            if (told := error_in(chunk)) is not None:
                error = self._server.errors.event(self._model, told)
                if not self._answer.is_whole:
                    raise error
                yield after_answer(str(error))

    def close(self) -> Iterator[ModelEvent]:
        """Yield what was held back; raises as `ChatAnswer.close`."""
        return self._answer.close()

    def response(self) -> ModelResponse:
        """Return the whole answer; to be called once `finished`."""
        return self._answer.response()

    def message_at(self, named: NamedMessage) -> int | None:
        """Return which message of the request the server named, None where that is unsure."""
        strict_roles = is_mistral_model(self._server, self._model)
        origin = origin_of(self._server, self._model)
        return chat_message_at(self._request, self._names, origin, named, strict_roles=strict_roles)


def origin_of(server: Server, model: str) -> Origin:
    """Return what tells where opaque data of an answer came from."""
    return Origin(provider="openai", api="chat", model=model, server=split_base_url(server.url)[0])
