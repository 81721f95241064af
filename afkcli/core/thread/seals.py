"""Reads the body of a seal: all at once, or without its messages."""

from __future__ import annotations

from typing import Any, get_type_hints

from afkcli.core.contract.jsonform import MAX_DEPTH, MAX_LINE_BYTES, loads_object
from afkcli.core.contract.messages import message_from_json
from afkcli.core.contract.result import usage_from_json
from afkcli.core.contract.structs import msgspec
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


def read_seal(body: str) -> SealedTurn:
    """Return the turn in the body of a seal, as `turn_from_json` does.

    Raises:
        JsonError: it is not JSON, or a field is missing or of a wrong type.
    """
    if body.count("[") + body.count("{") <= MAX_DEPTH and len(body) <= MAX_LINE_BYTES:
        try:
            return _turn(_decode(body))
        except ValueError:
            pass  # the other reader says what is wrong
    form = loads_object(body)
    try:
        return _turn(msgspec.convert(form, _Seal))
    except ValueError:
        return turn_from_json(form)


def _turn(seal: Any) -> SealedTurn:
    return SealedTurn(
        messages=tuple(map(message_from_json, seal.messages)),
        usage=usage_from_json(seal.usage),
        **{name: getattr(seal, name) for name in _NAMES},
    )
