"""Tool names: afk's `server.tool` against what the APIs allow, `[a-zA-Z0-9_-]{1,64}`, there and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from afkcli.core.contract.messages import ModelRequest

MAX_LENGTH = 64

_LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ILLEGAL = re.compile(r"[^a-zA-Z0-9_-]")
_NAMESPACES = ("functions.", "default_api.")
"""The namespaces of the templates of gpt-oss and Kimi, and of Gemini."""


class ToolNames:
    """The names of one request. A legal name stays as it is; `server.tool` becomes `server__tool`.

    A name keeps its form from request to request, which prompt caching needs. Only where two names would meet does one
    of them end in a digest.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._wire: dict[str, str] = {}
        self._name: dict[str, str] = {}
        for name in sorted(set(names), key=lambda name: (_LEGAL.fullmatch(name) is None, name)):
            wire = _wire_name(name)
            if wire in self._name:
                digest = hashlib.sha256(name.encode()).hexdigest()[:8]
                wire = f"{wire[: MAX_LENGTH - 9]}_{digest}"
            self._wire[name] = wire
            self._name[wire] = name

    @classmethod
    def of(cls, request: ModelRequest) -> ToolNames:
        """Return the names of the tools that a request offers and of those that its messages have called."""
        called = (call.name for message in request.messages for call in message.tool_calls)
        return cls([*(tool.name for tool in request.tools), *called])

    def is_known(self, wire: str) -> bool:
        """Return whether `wire` is the name of one of these tools on the wire. Since: 0.2."""
        return wire in self._name

    def to_wire(self, name: str) -> str:
        return self._wire.get(name) or _wire_name(name)

    def from_wire(self, wire: str) -> str:
        """Return afk's name; a name that was not offered comes back as it is, for the core to refuse.

        Some models put the namespace of their template before a name.
        """
        if wire not in self._name:
            wire = next((bare for bare in _without_namespace(wire) if bare in self._name), wire)
        return self._name.get(wire, wire)


def _without_namespace(wire: str) -> Iterable[str]:
    return [wire.removeprefix(prefix) for prefix in _NAMESPACES if wire.startswith(prefix)]


def _wire_name(name: str) -> str:
    if _LEGAL.fullmatch(name):
        return name
    wire = _ILLEGAL.sub("_", name.replace(".", "__")) or "_"
    if len(wire) <= MAX_LENGTH:
        return wire
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{wire[: MAX_LENGTH - 9]}_{digest}"
