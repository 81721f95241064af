"""Structured output: an answer that has to be JSON of a schema: checked, and asked for once more if it does not fit."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, dumps, loads
from afkcli.core.contract.messages import Message, ModelRequest, Role, TextPart, text_message
from afkcli.core.contract.schemas import MAX_PROBLEMS, problems, unusable

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Capabilities
    from afkcli.core.run.run import Run

MAX_SCHEMA_BYTES = 256 * 1024
"""The longest schema: about 65,000 tokens where a model is told it in words."""

_WORDS = (
    "Your answer is read by a program. It must be one JSON value that fits the JSON Schema below, and nothing else: no"
    " words before or after it, no code fence."
)
_SHOWN_CHARS = 60
_MISFIT = "does not fit the schema: "
_FENCE = re.compile(r"\A```[\w-]*[ \t]*\r?\n(.*?)\r?\n?[ \t]*```\Z", re.DOTALL)


class InvalidOutputError(ValueError):
    """An answer is not what was asked for; the message says what of it does not fit."""


class StructuredOutput:
    """What the answer of one run has to be; once it is that, `json` is its JSON value and `value` what a caller gets.

    Args:
        output_type: a JSON Schema (a dict), or a type that pydantic knows: a model, a dataclass, `list[int]` ...

    Raises:
        UsageError: it is no JSON Schema, or has none.
    """

    def __init__(self, output_type: Any) -> None:
        self._adapter = None if isinstance(output_type, dict) else _adapter_of(output_type)
        self.schema = usable_schema(output_type if self._adapter is None else _schema_of(self._adapter, output_type))
        self.asked_again = False
        self.json: Json = None
        self.value: Any = None

    def take(self, text: str) -> None:
        """Take an answer.

        Raises:
            InvalidOutputError: it does not fit.
        """
        try:
            answer = loads(unfenced(text))
        except JsonError as error:
            raise InvalidOutputError(_no_json(text, error)) from None
        found = problems(answer, self.schema) if self._adapter is None else []
        if found:
            raise InvalidOutputError("; ".join(found))
        self.value = answer if self._adapter is None else _validated(self._adapter, answer)
        self.json = answer


def take_answer(run: Run, answer: Message) -> bool:
    """Return whether the run's answer is what was asked for; if not, the model is told so, once, and asked again.

    The answer that did not fit and the message that says so stay in the turn: what a model has been sent stays as it
    was, so that the next request is a continuation of this one.

    Raises:
        ProviderError: `invalid_output`, for the second answer that does not fit.
    """
    output = run.structured
    if output is None:
        return True
    try:
        output.take(answer.text)
    except InvalidOutputError as error:
        line = f"the answer of {run.model.full_name} {_MISFIT}{error}"
        if output.asked_again:
            raise ProviderError(line, kind=ErrorKind.INVALID_OUTPUT) from None
        output.asked_again = True
        run.warn("invalid_output", f"{line}; asking once more")
        run.add_message(correction(line))
        return False
    return True


def correction(line: str) -> Message:
    """Return the message that tells a model what of its answer does not fit, by the line that tells the user."""
    problem = line.partition(_MISFIT)[2] or line
    return text_message(
        Role.USER,
        f"[That answer does not fit the JSON Schema: {problem}. Answer again, with one JSON value that fits it and"
        " nothing else.]",
    )


def asked_for(request: ModelRequest, schema: JsonObject, capabilities: Capabilities) -> ModelRequest:
    """Return `request` with the schema that its answer has to fit: by the provider's own means, in words, or both.

    What does not surely hold the model to the schema needs the words; what surely does not is not asked to.
    """
    native = capabilities.structured_output
    return replace(
        request,
        messages=request.messages if native else told(request.messages, schema),
        output_schema=None if native is False else schema,
    )


def told(messages: Sequence[Message], schema: JsonObject) -> list[Message]:
    """Return `messages` with instructions that tell the model in words which schema its answer has to fit."""
    words = f"{_WORDS}\n\n{dumps(schema)}"
    if messages and messages[0].role is Role.SYSTEM:
        first = messages[0]
        return [replace(first, parts=(*first.parts, TextPart(text=f"\n\n{words}"))), *messages[1:]]
    return [text_message(Role.SYSTEM, words), *messages]


def unfenced(text: str) -> str:
    """Return `text` without the white space and the one code fence around all of it: many models write one anyway."""
    text = text.strip()
    found = _FENCE.match(text)
    return found[1] if found else text


def usable_schema(schema: Json, name: str = "the output type") -> JsonObject:
    """Return a copy of `schema` in plain JSON.

    Raises:
        UsageError: it is too long, or no JSON Schema that can be applied; `name` says what it is.
    """
    try:
        text = dumps(schema)
    except JsonError as error:
        raise UsageError(f"{name} is no JSON: {error}") from None
    if len(text.encode()) > MAX_SCHEMA_BYTES:
        raise UsageError(f"{name} is longer than {MAX_SCHEMA_BYTES // 1024} KiB; use a smaller schema")
    plain: JsonObject = loads(text)
    problem = unusable(plain)
    if problem:
        raise UsageError(f"{name} is no usable JSON Schema: {problem}")
    return plain


def _no_json(text: str, error: JsonError) -> str:
    said = " ".join(text.split())
    return f"it is no JSON ({error}); it begins with {said[:_SHOWN_CHARS]!r}" if said else "the answer is empty"


def _adapter_of(output_type: Any) -> Any:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(output_type)
    except (PydanticUserError, NameError, TypeError) as error:
        raise _no_schema(output_type, error) from error


def _schema_of(adapter: Any, output_type: Any) -> Json:
    from pydantic.errors import PydanticUserError

    try:
        return adapter.json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise _no_schema(output_type, error) from error


def _no_schema(output_type: Any, error: Exception) -> UsageError:
    name = getattr(output_type, "__name__", None) or repr(output_type)
    return UsageError(f"the output type {name} has no JSON Schema: {str(error).splitlines()[0]}")


def _validated(adapter: Any, answer: Json) -> Any:
    """Return `answer` as the type asked for."""
    from pydantic import ValidationError

    try:
        return adapter.validate_json(dumps(answer))  # as JSON: a date is text there
    except ValidationError as error:
        found = [f"{'.'.join(map(str, item['loc'])) or 'the value'}: {item['msg']}" for item in error.errors()]
        raise InvalidOutputError("; ".join(found[:MAX_PROBLEMS])) from None
    except Exception as error:  # a validator of the caller's own may raise what it likes
        raise InvalidOutputError(f"{type(error).__name__}: {error}") from None
