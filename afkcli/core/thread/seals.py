"""Reads the body of a seal: all at once, or without its messages."""

from __future__ import annotations

from typing import Any, get_type_hints

from afkcli.core.contract.jsonform import MAX_DEPTH, MAX_LINE_BYTES, JsonError, loads_object
from afkcli.core.contract.messages import message_from_json
from afkcli.core.contract.result import usage_from_json
from afkcli.core.contract.structs import msgspec, replace
from afkcli.core.thread.turns import SealedTurn, turn_from_json

_READ_LATER = {"messages": list[Any], "usage": Any}
"""The types of the fields that have readers of their own."""


def _seal_struct() -> type[msgspec.Struct]:
    """Return a struct of the fields of a sealed turn as they are in its JSON, checked but for those read later."""
    hints = get_type_hints(SealedTurn)
    declared: list[tuple[str, Any] | tuple[str, Any, Any]] = []
    for item in msgspec.structs.fields(SealedTurn):
        kind, default = _READ_LATER.get(item.name, hints[item.name]), item.default
        optional = (item.name, kind, None if default is msgspec.NODEFAULT else default)
        declared.append((item.name, kind) if item.required else optional)
    return msgspec.defstruct("_Seal", declared)


_Seal = _seal_struct()
_NAMES = tuple(name for name in SealedTurn.__struct_fields__ if name not in _READ_LATER)
_decode = msgspec.json.Decoder(_Seal).decode


class Seal:
    """A seal whose messages are still JSON: `turn` has none of them. To make messages is most of the work.

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
        if not self._messages:
            return self.turn
        try:
            return replace(self.turn, messages=tuple(map(message_from_json, self._messages)))
        except JsonError:
            return turn_from_json(loads_object(self._body))  # the error says where in the turn it is

    def _read_all_but_messages(self) -> SealedTurn:
        body = self._body
        shallow = body.count("[") + body.count("{") <= MAX_DEPTH and len(body) <= MAX_LINE_BYTES
        try:
            seal: Any = _decode(body) if shallow else msgspec.convert(loads_object(body), _Seal)
        except ValueError:  # the other reader takes it or says what is wrong
            return turn_from_json(loads_object(body))
        self._messages = seal.messages
        fields = {name: getattr(seal, name) for name in _NAMES}
        return SealedTurn(**fields, messages=(), usage=usage_from_json(seal.usage))


def read_seal(body: str) -> SealedTurn:
    """Return the turn in the body of a seal, as `turn_from_json` does; `JsonError` if it is none."""
    return Seal(body).read()
