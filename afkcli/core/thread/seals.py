"""Reads the body of a seal: all at once, or without its messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_type_hints

from afkcli.core.contract.jsonform import MAX_DEPTH, MAX_LINE_BYTES, JsonError, loads_object
from afkcli.core.contract.messages import Message, Role, TextPart, message_from_json
from afkcli.core.contract.result import Usage, usage_from_json
from afkcli.core.contract.structs import FrozenStruct, Struct, msgspec, replace
from afkcli.core.thread.turns import SealedTurn, turn_from_json


class _Text(Struct, forbid_unknown_fields=True):
    text: str
    type: Literal["text"]


class _Said(Struct, forbid_unknown_fields=True):
    """A message of text alone, as nearly every one of a long thread is."""

    role: Role
    parts: tuple[_Text, ...]


def _form_of(record: type[FrozenStruct], kinds: Mapping[str, Any], *, exactly: bool = False) -> type[Struct]:
    """Return a struct of the fields of `record` as they are in its JSON, their types checked.

    Args:
        record: the record.
        kinds: types in place of those of the record, and of fields that it has not.
        exactly: whether there may be no other fields. Then nothing in it is nested deeper than its types are.
    """
    hints = {**get_type_hints(record), **kinds}
    declared: list[tuple[str, Any] | tuple[str, Any, Any]]
    declared = [(name, kind, None) for name, kind in kinds.items() if name not in record.__struct_fields__]
    for item in msgspec.structs.fields(record):
        default = None if item.default is msgspec.NODEFAULT else item.default
        declared.append((item.name, hints[item.name]) if item.required else (item.name, hints[item.name], default))
    return msgspec.defstruct("_Form", declared, forbid_unknown_fields=exactly, kw_only=True)


_Counts = _form_of(Usage, {}, exactly=True)
_TextSeal = _form_of(SealedTurn, {"v": int | None, "messages": list[_Said], "usage": _Counts}, exactly=True)
"""A seal of text alone."""
_Seal = _form_of(SealedTurn, {"messages": list[Any], "usage": Any})
"""Any seal; the fields that are `Any` have readers of their own."""

_decode_text = msgspec.json.Decoder(_TextSeal).decode
_decode = msgspec.json.Decoder(_Seal).decode


class Seal:
    """A seal whose messages are not made yet: `turn` has none of them. To make messages is most of the work.

    Raises:
        JsonError: the body is not JSON, or a field is missing or of a wrong type.
    """

    def __init__(self, body: str) -> None:
        self._body = body
        self._messages: list[Any] = []
        self.turn = self._read_all_but_messages()

    def read(self) -> SealedTurn:
        """Return the turn with its messages.

        Raises:
            JsonError: they are not messages that this afk knows.
        """
        found = self._messages
        if not found:
            return self.turn
        if type(found[0]) is _Said:
            return replace(self.turn, messages=tuple(map(message_of_text, found)))
        try:
            return replace(self.turn, messages=tuple(map(message_from_json, found)))
        except JsonError:
            return turn_from_json(loads_object(self._body))  # the error says where in the turn it is

    def _read_all_but_messages(self) -> SealedTurn:
        body = self._body
        try:
            seal = _decoded(body)
        except ValueError:  # the other reader takes it or says what is wrong
            return turn_from_json(loads_object(body))
        self._messages = seal.messages
        fields = msgspec.structs.asdict(seal)
        fields.pop("v", None)
        fields["messages"], fields["usage"] = (), _usage(seal.usage)
        return SealedTurn(**fields)


def _decoded(body: str) -> Any:
    """Return what is in the body of a seal, in one of the two forms; `ValueError` if it has neither."""
    if len(body) <= MAX_LINE_BYTES:
        try:
            return _decode_text(body)
        except (ValueError, RecursionError):  # it has tool calls, attachments and the like, or is no seal
            pass
        if body.count("[") + body.count("{") <= MAX_DEPTH:
            return _decode(body)
    return msgspec.convert(loads_object(body), _Seal)


def _usage(read: Any) -> Usage:
    return Usage(**msgspec.structs.asdict(read)) if type(read) is _Counts else usage_from_json(read)


def message_of_text(said: _Said) -> Message:
    """Return the message that was read."""
    return Message(role=said.role, parts=tuple([TextPart(text=part.text) for part in said.parts]))


def read_seal(body: str) -> SealedTurn:
    """Return the turn in the body of a seal, as `turn_from_json` does; `JsonError` if it is none."""
    return Seal(body).read()
