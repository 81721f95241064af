"""Messages in llama.cpp's Chat Completions form, cut to the model's context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from afkcli.plugin import (
    ErrorKind,
    JsonObject,
    Message,
    Part,
    ProviderError,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    dumps,
)
from afkcli.providers.chat import in_turns
from afkcli.providers.parts import EMPTY_ANSWER, arguments_text, result_text

# The known templates add fewer tokens than this around a message, and before the first one.
_TEMPLATE_TOKENS_A_MESSAGE = 32
_TEMPLATE_TOKENS = 256


def chat_messages(messages: Sequence[Message]) -> list[JsonObject]:
    """Return `messages` in Chat Completions form; reasoning is left out.

    Raises:
        ProviderError: a message has an image or a file.
    """
    return list(in_turns(form for message in messages for form in _chat_forms(message)))


def chat_tools(tools: Sequence[ToolSpec]) -> list[JsonObject]:
    """Return `tools` in Chat Completions form."""
    return [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in tools
    ]


def _chat_forms(message: Message) -> list[JsonObject]:
    if message.role is Role.TOOL:
        results = [part for part in message.parts if isinstance(part, ToolResultPart)]
        return [{"role": "tool", "tool_call_id": part.id, "content": result_text(part)} for part in results]
    form: JsonObject = {"role": str(message.role), "content": _text(message.parts)}
    if message.tool_calls:
        form["tool_calls"] = [_chat_tool_call(call) for call in message.tool_calls]
    elif message.role is Role.ASSISTANT and not form["content"].strip():
        form["content"] = EMPTY_ANSWER
    return [form]


def _chat_tool_call(call: ToolCallPart) -> JsonObject:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments_text(call)}}


def _text(parts: Sequence[Part]) -> str:
    refused = [part.type for part in parts if not isinstance(part, (TextPart, ReasoningPart, ToolCallPart))]
    if refused:
        message = f"the local model reads text only, and a message has a part of type {refused[0]}"
        raise ProviderError(message, kind=ErrorKind.BAD_REQUEST)
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def surely_fits(messages: Sequence[Message], tools: Sequence[ToolSpec], budget: int) -> bool:
    """Return whether `messages` are within `budget` tokens without counting them: no token is shorter than a byte."""
    texts = [text for form in chat_messages(messages) for text in (form["content"], dumps(form.get("tool_calls")))]
    size = sum(len(text.encode()) for text in texts) + len(texts) * _TEMPLATE_TOKENS_A_MESSAGE
    return not tools and size + _TEMPLATE_TOKENS <= budget


def fit(
    messages: Sequence[Message], budget: int, count: Callable[[Sequence[Message]], int]
) -> tuple[Sequence[Message], int]:
    """Leave out the oldest turns until `count` is within `budget`.

    A turn is a user message and all messages after it, so that questions and answers, calls and results stay together.
    System messages and the newest turn are never left out.

    Returns:
        The messages that are kept, and their number of tokens: more than `budget` if nothing else can be left out.
    """
    starts = [index for index, message in enumerate(messages) if message.role is Role.USER]
    cuts = sorted({0, *starts})
    fewest, most = 0, len(cuts) - 1  # the number of turns to leave out is between these
    kept, tokens = messages, count(messages)
    if tokens <= budget:
        return kept, tokens
    while fewest < most:
        middle = (fewest + most) // 2
        if count(_without(messages, cuts[middle])) <= budget:
            most = middle
        else:
            fewest = middle + 1
    kept = _without(messages, cuts[most])
    return kept, count(kept)


def _without(messages: Sequence[Message], cut: int) -> list[Message]:
    return [message for message in messages[:cut] if message.role is Role.SYSTEM] + list(messages[cut:])
