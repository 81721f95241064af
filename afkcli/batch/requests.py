"""What one prompt asks, as plain JSON, made of the fields of its row.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afkcli.batch.attachments import AttachmentReader
from afkcli.batch.conversation import read_conversation
from afkcli.batch.fields import (
    from_cell,
    limits_of,
    message_text,
    object_of,
    options_of,
    text_of,
    thread_name,
    variables_of,
)
from afkcli.batch.named import NamedThings
from afkcli.batch.provider_lines import as_prompt, is_provider_line
from afkcli.batch.rows import Row, RowError, refuse_results, unknown_field
from afkcli.batch.templates import Template
from afkcli.core.contract.jsonform import JsonObject

FIELDS = (
    "id",
    "message",
    "messages",
    "attachments",
    "variables",
    "instructions",
    "thread",
    "agent",
    "model",
    "options",
    "schema",
    "limits",
    "metadata",
)
"""The fields of a prompt."""
_PROVIDER = "provider"
"""Whose batch file a line is of; only lines of providers have it."""
CUSTOM_ID = "custom_id"
"""`id`, as the providers' batch files name it."""


class RequestMaker:
    """Makes the requests of the prompts of one batch.

    Args:
        named: checks what prompts name.
        attachments: checks what prompts attach.
        template: the prompt file; None without one.
    """

    def __init__(self, named: NamedThings, attachments: AttachmentReader, template: Template | None) -> None:
        self._named = named
        self._attachments = attachments
        self._template = template
        self._simple: Mapping[str, Callable[[Any], Any]] = {
            "instructions": lambda value: text_of("instructions", value),
            "thread": thread_name,
            "agent": lambda value: named.agent(text_of("agent", value)),
            "options": options_of,
            "schema": named.schema,
            "limits": limits_of,
            "metadata": lambda value: object_of("metadata", value),
        }

    def request(self, row: Row) -> JsonObject:
        """Return the request of a row, and in `id` its id, if it says one.

        Raises:
            RowError: a field is unknown or has a value that it cannot have, or there is no message.
        """
        fields = self._known_fields(row)
        request: JsonObject = {}
        if CUSTOM_ID in fields:
            if fields.get("id") is not None:
                raise RowError("'id' and 'custom_id' are two names of one field; leave one out")
            request |= {"id": fields.pop(CUSTOM_ID), CUSTOM_ID: True}
        elif fields.get("id") is not None:
            request["id"] = fields["id"]
        self._add_message(request, fields, row.loose)
        for name, read in self._simple.items():
            value = fields.get(name)
            if value is None:
                continue
            if name == "instructions" and request.get("instructions"):
                raise RowError("'instructions' and a system message exclude each other; leave one out")
            request[name] = read(value)
        if fields.get("model") is not None:
            request["model"] = self._named.model(text_of("model", fields["model"]), fields.get(_PROVIDER))
        if "model" not in request:
            self._named.default_model(request.get("agent"))
        return {name: value for name, value in request.items() if value not in (None, {}, [])}

    def _known_fields(self, row: Row) -> JsonObject:
        """Return the fields of a row by their own names, with variables of the prompt file among `variables`."""
        fields = row.fields
        refuse_results(fields)
        if is_provider_line(fields):
            return as_prompt(fields)
        names = self._template.names if self._template is not None else frozenset()
        found: JsonObject = {}
        variables: JsonObject = {}
        for name, value in fields.items():
            known = name if name in FIELDS or name == CUSTOM_ID else None
            if known is None and row.loose and name.casefold() in (*FIELDS, CUSTOM_ID) and name not in names:
                known = name.casefold()
            if known is not None:
                if known in found:
                    raise RowError(f"the field {known!r} is there twice")
                found[known] = value
            elif name in names:
                variables[name] = value
            else:
                raise unknown_field(name, (*FIELDS, *sorted(names)))
        if variables:
            given = found.get("variables")
            found["variables"] = {**variables, **(object_of("variables", given) if given is not None else {})}
        return found

    def _add_message(self, request: JsonObject, fields: JsonObject, loose: bool) -> None:
        """Add the message of the user, what is attached to it, and the messages before it."""
        attachments = self._attached(fields.get("attachments"), loose)
        if fields.get("messages") is not None:
            if fields.get("message") is not None:
                raise RowError("'message' and 'messages' exclude each other; give one of them")
            if self._template is not None:
                raise RowError("'messages' cannot be used with a prompt file; give a 'message', or leave --prompt out")
            messages = from_cell(fields["messages"]) if loose else fields["messages"]
            found = read_conversation(messages, self._attachments)
            if found.history and fields.get("thread") is not None:
                raise RowError(
                    "'thread' and earlier 'messages' exclude each other: the thread has its own; leave one out"
                )
            request |= {"instructions": found.instructions, "history": found.history}
            text, attachments = message_text(found.message), [*found.attachments, *attachments]
        else:
            text = message_text(fields["message"]) if fields.get("message") is not None else ""
            text = self._filled(request, fields, text)
        if not text.strip():
            given = fields.get("message") is not None or fields.get("messages") is not None
            what = "its message is empty" if given else "it has no message"
            raise RowError(f"{what}; give 'message', or 'messages' whose last one has a text")
        request["message"] = text
        if attachments:
            request["attachments"] = attachments

    def _filled(self, request: JsonObject, fields: JsonObject, text: str) -> str:
        given = fields.get("variables")
        if self._template is None:
            if given:
                raise RowError("'variables' need a prompt file that names them; add --prompt NAME")
            return text
        variables = variables_of(given) if given is not None else {}
        instructions = self._template.instructions(variables)
        if instructions is not None and fields.get("instructions") is None:
            request["instructions"] = instructions
        return self._template.message(text, variables)

    def _attached(self, value: Any, loose: bool) -> list[JsonObject]:
        if value is None:
            return []
        if loose and isinstance(value, str):  # a cell: JSON, or a path a line
            is_json = value.lstrip()[:1] in ("[", "{")
            value = from_cell(value) if is_json else [line.strip() for line in value.splitlines() if line.strip()]
        return self._attachments.read(value)
