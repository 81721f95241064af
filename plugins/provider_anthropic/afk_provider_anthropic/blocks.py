"""The content blocks of an answer while they come in, in the order in which they were shown.

By the letter each block has an index, a start and an end. Servers give several blocks the same index, leave out the
start or the index, or write a number as text. So starts, and what kind a piece is of, decide which block it belongs to.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator

from afkcli.plugin import (
    Json,
    JsonError,
    JsonObject,
    ModelEvent,
    ModelWarning,
    OpaqueDelta,
    ReasoningDelta,
    Struct,
    TextDelta,
    ToolCallDelta,
    clean_text,
    dumps,
    field,
    loads_object,
)
from afkcli.providers.tool_names import ToolNames
from afkcli.providers.wire import TextPieces, index_of, json_size

MAX_ID = 4096
MAX_BLOCKS = 10_000
"""Of one answer."""

COMPACTION = "compaction"
COMPACTION_DELTA = "compaction_delta"

_KIND_OF_DELTA = {
    "text_delta": "text",
    "input_json_delta": "tool_use",
    "thinking_delta": "thinking",
    "signature_delta": "thinking",
}
_KIND_OF_FIELD = {"text": "text_delta", "partial_json": "input_json_delta", "thinking": "thinking_delta"}
_NEUTRAL = frozenset({"text", "tool_use", "thinking"})


class Block(Struct, eq=False):
    """A content block while it comes in. `id` and `name` are those of a call."""

    kind: str
    start: JsonObject = field(default_factory=dict)
    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    signature: list[str] = field(default_factory=list)
    cut: TextPieces = field(default_factory=TextPieces)

    @property
    def text(self) -> str:
        """The text, the thinking, or the arguments as JSON text."""
        return "".join(self.pieces)

    @property
    def arguments(self) -> str:
        """The arguments of a call as JSON text; some servers send them whole with the block's start."""
        given = self.start.get("input")
        return self.text if self.text.strip() else dumps(given) if given else ""

    @property
    def compaction(self) -> JsonObject:
        """The block of a compaction, whose content may come in pieces; an empty content is none."""
        kept = {name: value for name, value in self.start.items() if value is not None}
        return {**kept, "content": self.text or self.start.get("content") or None}

    @property
    def lacks_name(self) -> bool:
        """Whether this is a call whose name has not come yet."""
        return self.kind == "tool_use" and not self.name

    @property
    def whole(self) -> JsonObject:
        """The block as the server made it, its streamed input put together; for one that has no neutral form."""
        if not self.pieces:
            return self.start
        try:
            return {**self.start, "input": loads_object(self.text)}
        except JsonError:
            return {**self.start, "input": {}}


class Blocks:
    """The blocks of one answer.

    `unshown` counts the pieces that no event shows: signatures, and what belongs to tools that run at the server.

    Args:
        names: the tool names of the request.
        taken: the ids that the conversation has already; a call that comes with one of them gets another.
    """

    def __init__(self, names: ToolNames, taken: Collection[str]) -> None:
        self.all: list[Block] = []
        self.unshown = 0
        self._names = names
        self._taken = set(taken)
        self._at: dict[int | None, Block] = {}
        self._newest: dict[str, Block] = {}
        self._cut: Block | None = None

    def begin(self, index: Json, start: Json) -> Iterator[ModelEvent]:
        """Yield what the start of a block shows: the call, and text that comes with it."""
        if not isinstance(start, dict):  # its first piece tells what it is
            self._at.pop(index_of(index), None)
            return
        last = self._at.get(index_of(index))
        if last is not None and start.get("id") and last.start == start and not last.pieces:
            return  # the same start once more
        if last is not None and last.lacks_name and _continues(last, start):
            yield from self._name(last, start)
            return
        kind = start.get("type")
        block = self._new(index, kind if isinstance(kind, str) else _kind_of(start), start)
        self.unshown += block.kind not in _NEUTRAL
        if block.name and block.kind == "tool_use":
            yield ToolCallDelta(block.id, block.name, "")
        for name in ("text", "thinking"):
            if block.kind == name:
                yield from self._show(block, _text(start.get(name)))
        if block.kind == "thinking" and isinstance(start.get("signature"), str):
            block.signature.append(start["signature"])
        if block.kind not in _NEUTRAL:  # it is kept as it is
            yield OpaqueDelta(json_size(start))
        elif start.get("input"):
            yield OpaqueDelta(json_size(start["input"]))

    def piece(self, index: Json, delta: Json) -> Iterator[ModelEvent]:
        """Yield what a piece of a block shows."""
        if not isinstance(delta, dict):
            return
        told = delta.get("type")
        kind = told if isinstance(told, str) else next((k for n, k in _KIND_OF_FIELD.items() if n in delta), "")
        if kind == COMPACTION_DELTA:
            yield from self._compact(self._block_of_compaction(index), delta)
            return
        if kind not in _KIND_OF_DELTA:
            yield from self._name(self._at.get(index_of(index)), delta)
            return
        block = self._signed(index) if kind == "signature_delta" else self._block_for(index, kind)
        if block.kind == "thinking" and isinstance(delta.get("signature"), str):  # also with a piece of the thinking
            block.signature.append(delta["signature"])
            self.unshown += bool(delta["signature"].strip())
            yield OpaqueDelta(len(delta["signature"]))
        if kind == "signature_delta":
            return
        yield from self._name(block, delta)
        name = next(field for field, delta_kind in _KIND_OF_FIELD.items() if delta_kind == kind)
        yield from self._show(block, _text(delta.get(name)))

    def end(self, index: Json, whole: Json) -> Iterator[ModelEvent]:
        """Yield what the end of a block shows: what a server sends whole there alone."""
        block = self._at.get(index_of(index))
        if block is None:
            if isinstance(whole, dict):
                yield from self.begin(index, whole)
            return
        if not isinstance(whole, dict):
            return
        if block.kind == "tool_use":
            yield from self._name(block, whole)
            if not block.arguments and whole.get("input"):
                block.start = {**block.start, "input": whole["input"]}
                yield OpaqueDelta(json_size(whole["input"]))
        told = _text(whole.get(block.kind)) if block.kind in ("text", "thinking") else ""
        if told:
            yield from self._rest(block)
        if told and not block.pieces:
            yield from self._show(block, told)
        elif told and clean_text(told) != block.text:
            yield ModelWarning(
                "answer_differs", "a block of the answer differs from what was streamed of it, which is kept"
            )

    def close(self) -> Iterator[ModelEvent]:
        """Yield what was held back: halves of characters."""
        for block in self.all:
            yield from self._rest(block)

    # -- one block -----------------------------------------------------------------------------------------------------

    def _block_for(self, index: Json, delta: str) -> Block:
        """Return the block that a piece belongs to: the one at its index, if it is of its kind, else a new one."""
        number = index_of(index)
        block = self._at.get(number) if number is not None else self.all[-1] if self.all else None
        kind = _KIND_OF_DELTA[delta]
        fits = block is not None and (block.kind == kind or (kind == "tool_use" and block.kind not in _NEUTRAL))
        if block is None or not fits:
            return self._new(index, kind, {})
        if kind == "text" and block is not self._newest.get(
            "text"
        ):  # text is remembered in the order in which it was shown
            return self._new(index, kind, {})
        return block

    def _block_of_compaction(self, index: Json) -> Block:
        block = self._at.get(index_of(index))
        return (
            block
            if block is not None and block.kind == COMPACTION
            else self._new(index, COMPACTION, {"type": COMPACTION})
        )

    def _compact(self, block: Block, delta: JsonObject) -> Iterator[ModelEvent]:
        """Take a piece of a compaction: of its text, and whatever else has to go back with it."""
        told = _text(delta.get("content"))
        block.pieces.append(clean_text(told))
        rest = {name: value for name, value in delta.items() if name not in ("type", "content") and value is not None}
        block.start = {**block.start, **rest}
        self.unshown += 1
        yield OpaqueDelta(json_size(rest) + len(told))

    def _signed(self, index: Json) -> Block:
        """Return the block that a signature belongs to: some servers count the blocks of thinking in another way."""
        block = self._at.get(index_of(index))
        if block is not None and block.kind == "thinking":
            return block
        return self._newest.get("thinking") or self._new(index, "thinking", {})

    def _new(self, index: Json, kind: str, start: JsonObject) -> Block:
        if len(self.all) >= MAX_BLOCKS:
            raise ValueError(f"more than {MAX_BLOCKS} blocks")
        given = start.get("name")
        block = Block(kind, start, name=self._names.from_wire(clean_text(given) if isinstance(given, str) else ""))
        if kind == "tool_use":
            block.id = self._id(start.get("id"))
        self.all.append(block)
        self._at[index_of(index)] = self._newest[kind] = block
        return block

    def _id(self, given: Json) -> str:
        """Return the id of a call; a server may send none, or the same one in every step."""
        told = clean_text(str(given)[:MAX_ID]) if isinstance(given, (str, int)) and given != "" else ""
        if not told or told in self._taken:
            told = f"toolu_{uuid.uuid4().hex}"
        self._taken.add(told)
        return told

    def _name(self, block: Block | None, told: JsonObject) -> Iterator[ModelEvent]:
        """Yield a call once its name has come, with the arguments that came before it."""
        name = told.get("name")
        if block is None or not block.lacks_name or not isinstance(name, str) or not name.strip():
            return
        block.name = self._names.from_wire(clean_text(name))
        if not block.start.get("id") and told.get("id"):
            block.id = self._id(told["id"])
        yield ToolCallDelta(block.id, block.name, block.text)

    def _show(self, block: Block, text: str) -> Iterator[ModelEvent]:
        """Yield a piece of a block. A character may be cut in two between blocks, too."""
        cut = self._cut
        if cut is not None and cut is not block:
            if cut.kind == block.kind:
                text = cut.cut.half + text
                cut.cut.half = ""
            else:
                yield from self._rest(cut)
        yield from self._keep(block, block.cut.take(text))
        self._cut = block if block.cut.half and block.kind in ("text", "thinking") else None

    def _rest(self, block: Block) -> Iterator[ModelEvent]:
        yield from self._keep(block, block.cut.rest())

    def _keep(self, block: Block, text: str) -> Iterator[ModelEvent]:
        if not text:
            return
        block.pieces.append(text)
        if block.kind == "text":
            yield TextDelta(text)
        elif block.kind == "thinking":
            yield ReasoningDelta(text)
        elif block.kind == "tool_use" and block.name:
            yield ToolCallDelta(block.id, block.name, text)
        else:
            self.unshown += bool(text.strip())
            yield OpaqueDelta(len(text))


def _continues(block: Block, start: JsonObject) -> bool:
    """Return whether a second start at the index of a call is the same call's, with the name that it lacks."""
    same_id = block.start.get("id") in (None, "", start.get("id")) or not start.get("id")
    return same_id and bool(start.get("name")) and start.get("type") in (None, block.kind)


def _kind_of(start: JsonObject) -> str:
    return "tool_use" if "input" in start or "name" in start else "thinking" if "thinking" in start else "text"


def _text(value: Json) -> str:
    """Return a piece as text; `null` is nothing, and a server may send arguments as the object itself."""
    if value is None:
        return ""
    return value if isinstance(value, str) else dumps(value)
