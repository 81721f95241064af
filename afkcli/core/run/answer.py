"""Structured output: the answer must be JSON that fits a schema; if it does not, the model is asked once more."""

from __future__ import annotations

from typing import Any

from afkcli.core.contract.errors import ErrorKind, ProviderError, UsageError
from afkcli.core.contract.jsonform import Json, JsonError, JsonObject, dumps, loads
from afkcli.core.contract.messages import Message, ModelRequest
from afkcli.core.contract.protocols import Capabilities
from afkcli.core.contract.schemas import MAX_PROBLEMS, check, unchecked_in
from afkcli.core.contract.structs import replace
from afkcli.core.contract.structured import MISFIT, correction, told, unfenced, usable_schema
from afkcli.core.contract.text import collapsed
from afkcli.core.run.outlet import Outlet
from afkcli.core.run.transcript import Transcript

_SHOWN_CHARS = 60


class InvalidOutputError(ValueError):
    """An answer does not fit its schema; the message says where."""


class StructuredOutput:
    """The schema of the answer of one run, and the valid answer: `json` is its JSON value, `value` what a caller gets.

    `unchecked` names the parts of the schema that are sent to the model and not checked. After an answer was taken, it
    names the parts that could not be checked in that answer. pydantic checks all of its own types.

    Args:
        output_type: a JSON Schema (a dict), or a type that pydantic supports: a model, a dataclass, `list[int]` ...

    Raises:
        UsageError: it is not a JSON Schema, or has none.
    """

    def __init__(self, output_type: Any) -> None:
        self._adapter = None if isinstance(output_type, dict) else _adapter_of(output_type)
        self.schema = usable_schema(output_type if self._adapter is None else _schema_of(self._adapter, output_type))
        self.unchecked = unchecked_in(self.schema) if self._adapter is None else []
        self._said = set(self.unchecked)
        self.asked_again = False
        self.json: Json = None
        self.value: Any = None

    def take(self, text: str) -> None:
        """Check an answer and keep it.

        Raises:
            InvalidOutputError: it does not fit.
        """
        try:
            answer = loads(unfenced(text))
        except JsonError as error:
            raise InvalidOutputError(_no_json(text, error)) from None
        if self._adapter is None:
            findings = check(answer, self.schema)
            self.unchecked = [line for line in findings.unchecked if line not in self._said]
            self._said.update(self.unchecked)
            if findings.problems:
                raise InvalidOutputError("; ".join(findings.problems))
        self.value = answer if self._adapter is None else _validated(self._adapter, answer)
        self.json = answer


def take_answer(
    output: StructuredOutput | None, answer: Message, model: str, transcript: Transcript, outlet: Outlet
) -> bool:
    """Return whether an answer is what was asked for. If it is not, once, a message that asks again is added.

    The answer that did not fit and the message that says so stay in the turn. What a model has been sent stays as it
    was, so that the next request continues this one.

    Args:
        output: what the answer must be; None if it may be any text.
        answer: the answer.
        model: the full name of the model that gave it.
        transcript: gets the message that asks again.
        outlet: gets a warning about the answer that does not fit.

    Raises:
        ProviderError: `invalid_output`, for the second answer that does not fit.
    """
    if output is None:
        return True
    try:
        output.take(answer.text)
    except InvalidOutputError as error:
        line = f"the answer of {model} {MISFIT}{error}"
        if output.asked_again:
            raise ProviderError(line, kind=ErrorKind.INVALID_OUTPUT) from None
        output.asked_again = True
        outlet.warn("invalid_output", f"{line}; asking once more")
        transcript.add_message(correction(line))
        return False
    finally:
        outlet.pending_warnings += unchecked_warnings(output)
    return True


def unchecked_warnings(output: StructuredOutput) -> list[tuple[str, str]]:
    """Return the code and the line of a warning that names the unchecked parts of the schema; [] if there are none."""
    found = output.unchecked
    if not found:
        return []
    more = f"; and {len(found) - MAX_PROBLEMS} more" if len(found) > MAX_PROBLEMS else ""
    return [("schema_unchecked", f"of the schema of the answer, {'; '.join(found[:MAX_PROBLEMS])}{more}")]


def asked_for(request: ModelRequest, schema: JsonObject, capabilities: Capabilities) -> ModelRequest:
    """Return `request` with the schema of the answer: in the field that the API has for it, in words, or both.

    The words are left out only if the API is known to enforce the schema, the field only if it is known not to.
    """
    native = capabilities.structured_output
    return replace(
        request,
        messages=request.messages if native else told(request.messages, schema),
        output_schema=None if native is False else schema,
    )


def _no_json(text: str, error: JsonError) -> str:
    said = collapsed(text)
    return f"it is not JSON ({error}); it begins with {said[:_SHOWN_CHARS]!r}" if said else "the answer is empty"


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
    """Return `answer` as the output type."""
    from pydantic import ValidationError

    try:
        return adapter.validate_json(dumps(answer))  # as JSON, in which a date is text
    except ValidationError as error:
        found = [f"{'.'.join(map(str, item['loc'])) or 'the value'}: {item['msg']}" for item in error.errors()]
        raise InvalidOutputError("; ".join(found[:MAX_PROBLEMS])) from None
    except Exception as error:  # a validator of the caller may raise anything
        raise InvalidOutputError(f"{type(error).__name__}: {error}") from None
