"""Tool calls that come in pieces, as servers of OpenAI's kind send them.

By the letter a piece has the index of its call, and the first one its id and name. Servers leave out the index, give
every call the same one, repeat the id or the name with each piece, or send the name late; so ids and beginnings decide.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Iterator

from afkcli.core.contract.growing import GrowingText
from afkcli.core.contract.jsonform import Json, JsonObject, clean_text, dumps
from afkcli.core.contract.messages import ProviderData, ToolCallDelta, ToolCallPart
from afkcli.core.contract.structs import Struct, field
from afkcli.providers.origin import Origin
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import TextPieces, index_of, replace_values, tool_call
from afkcli.providers.wire_ids import GENERAL

MAX_ID = 4096
MAX_CALLS = 1000
"""Of one answer."""

_OWN_FIELDS = frozenset({"id", "index", "type", "function", "name", "arguments"})
_NOTHING = frozenset({"null", "None"})
"""What some servers write as text in the later pieces of a call, where the API has null or nothing."""

_MARK = re.compile(r'\\.|\\$|["{}\[\]]', re.DOTALL)
_SIGNATURE = re.compile("signature", re.IGNORECASE)


class _Call(Struct, eq=False):
    """A call while it comes in. `server_id` is what the server calls it, "" until it says."""

    id: str
    index: int | None
    server_id: str = ""
    name: str = ""
    pieces: GrowingText = field(default_factory=GrowingText)
    end: _ObjectEnd = field(default_factory=lambda: _ObjectEnd())
    text: TextPieces = field(default_factory=TextPieces)
    extra: JsonObject = field(default_factory=dict)
    whole: bool | None = None
    """Whether what has come until the end of an object is one; None while that was not looked at."""
    announced: bool = False
    """Whether an event has named it."""

    @property
    def arguments(self) -> str:
        return str(self.pieces)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are a whole JSON object, to which nothing can be added."""
        if not self.end.is_reached:
            return False
        if self.whole is None:
            try:
                self.whole = isinstance(json.loads(self.arguments), dict)
            except (ValueError, RecursionError):
                self.whole = False  # what is wrong in it stays wrong, whatever follows
        return self.whole

    def add(self, arguments: str) -> None:
        """Add a piece of its arguments."""
        self.pieces.append(arguments)
        self.end.take(arguments)


class _ObjectEnd:
    """Finds the end of a JSON object in pieces of text. Each piece is looked at once, however many there are."""

    __slots__ = ("_depth", "_escaped", "_in_string", "is_reached")

    def __init__(self) -> None:
        self.is_reached = False
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def take(self, text: str) -> None:
        start = 1 if self._escaped and text else 0
        self._escaped = self._escaped and not text
        for found in _MARK.finditer(text, start):
            mark = found[0]
            if mark[0] == "\\":
                self._escaped = len(mark) == 1
            elif mark == '"':
                self._in_string = not self._in_string
            elif not self._in_string:
                self._depth += 1 if mark in "{[" else -1
                self.is_reached = self.is_reached or self._depth == 0


class ToolCallPieces:
    """The calls of one answer, or of one choice of it.

    Args:
        names: the request's tool names.
        taken: ids that the conversation has already: a server that gives one again has its call renamed.
        origin: where the calls come from; None keeps no data of the server's own with them.

    Since: 0.2.
    """

    def __init__(self, names: ToolNames, taken: Collection[str] = (), origin: Origin | None = None) -> None:
        self._names = names
        self._taken = set(taken)
        self._origin = origin
        self._calls: list[_Call] = []
        self._known_ids: set[str] = set()
        self.unshown = 0
        """How many pieces of arguments came before the name of their call."""
        self.kept = 0
        """The size in bytes of what is kept of calls for their server, about as it will be stored."""

    def __len__(self) -> int:
        return len(self._calls)

    def take(self, pieces: Json) -> Iterator[ToolCallDelta]:
        """Yield the events of the pieces in one delta."""
        if isinstance(pieces, dict):
            pieces = [pieces]
        known = [piece for piece in pieces if isinstance(piece, dict)] if isinstance(pieces, list) else []
        for piece in known:
            yield from self._piece(piece, alone=len(known) == 1)

    def parts(self) -> list[ToolCallPart]:
        """Return the calls in the order in which they began."""
        return [
            tool_call(call.id, self._names.from_wire(call.name), call.arguments, provider_data=self._data(call))
            for call in self._calls
        ]

    def _piece(self, piece: JsonObject, *, alone: bool) -> Iterator[ToolCallDelta]:
        given = piece.get("function")
        function: JsonObject = given if isinstance(given, dict) else {}
        name = self._name_in(function.get("name") or piece.get("name"))
        arguments = _text(function.get("arguments", piece.get("arguments")))
        server_id = piece.get("id")
        server_id = clean_text(str(server_id)[:MAX_ID]) if isinstance(server_id, (str, int)) else ""
        if server_id in _NOTHING:
            server_id = ""
        call = self._call_of(server_id, index_of(piece.get("index")), name, arguments, alone=alone)
        if server_id and not call.server_id:
            self._identify(call, server_id)
        if name and not call.name.endswith(name):
            call.name += name
        arguments = call.text.take(arguments)
        call.add(arguments)
        extra = {key: value for key, value in piece.items() if key not in _OWN_FIELDS and value is not None}
        signed = {key: value for key, value in function.items() if _SIGNATURE.search(key) and value is not None}
        if signed:
            extra["function"] = signed
        if extra and self._origin is not None:
            self.kept += replace_values(call.extra, extra)
        yield from self._announced(call, arguments)

    def _name_in(self, value: Json) -> str:
        """Return the name in a piece, "" where it has none."""
        name = clean_text(value).strip() if isinstance(value, str) else ""
        return "" if name in _NOTHING and not self._names.is_known(name) else name

    def _announced(self, call: _Call, arguments: str) -> Iterator[ToolCallDelta]:
        """Yield the event of a piece; what came before the name comes with it."""
        if not call.name:
            self.unshown += bool(arguments.strip())
            self.kept += len(arguments)
            return
        if not call.announced:
            self.kept -= len(call.arguments) - len(arguments)
            arguments = call.arguments
            call.announced = True
        yield ToolCallDelta(call.id, self._names.from_wire(call.name), arguments)

    def _call_of(self, server_id: str, index: int | None, name: str, arguments: str, *, alone: bool) -> _Call:
        """Return the call that a piece belongs to, a new one where it begins one."""
        found = self._known(server_id, index) if alone or server_id or index is not None or not name else None
        if found is None or self._begins(found, name, arguments):
            again = found is not None and not name
            new = self._new(server_id, index)
            new.name = found.name if again and found is not None else ""
            return new
        return found

    def _known(self, server_id: str, index: int | None) -> _Call | None:
        """Return the call that a piece with this id and index continues, as far as these say."""
        newest = reversed(self._calls)  # a piece nearly always continues one of the last calls
        at_index = (call for call in newest if index is None or call.index in (index, None))
        last = next(at_index, None)
        if not server_id or last is None or last.server_id == server_id:
            return last
        if server_id in self._known_ids:
            same = next((call for call in at_index if call.server_id == server_id), None)
            if same is not None:
                return same
        return last if last is not None and not last.server_id and not last.is_whole else None

    def _begins(self, call: _Call, name: str, arguments: str) -> bool:
        """Return whether a piece begins another call although id and index do not tell it from `call`."""
        if arguments.lstrip().startswith("{") and call.is_whole:
            return True
        if not name or not call.name or call.name.endswith(name):
            return False
        return not self._names.is_known(call.name + name)

    def _new(self, server_id: str, index: int | None) -> _Call:
        if len(self._calls) >= MAX_CALLS:
            raise ValueError(f"more than {MAX_CALLS} tool calls")
        call = _Call(id=f"call_{uuid.uuid4().hex[:32]}", index=index)
        self._identify(call, server_id)
        self._calls.append(call)
        return call

    def _identify(self, call: _Call, server_id: str) -> None:
        call.server_id = server_id
        self._known_ids.add(server_id)
        if server_id and server_id not in self._taken and not call.announced:
            call.id = server_id
        self._taken.add(call.id)

    def _data(self, call: _Call) -> ProviderData | None:
        """Return what of a call only its server understands: extra fields, and that an odd id is its own."""
        odd = call.id == call.server_id and GENERAL.fullmatch(call.id) is None
        if self._origin is None or not (call.extra or odd):
            return None
        return self._origin.data(extra=call.extra)


def _text(arguments: Json) -> str:
    """Return a piece of arguments as text; a server may send the object itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else dumps(arguments)
