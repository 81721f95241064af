"""What Anthropic's servers do to a long conversation by themselves: compaction, and clearing results of tools.

https://platform.claude.com/docs/en/build-with-claude/compaction and
https://platform.claude.com/docs/en/build-with-claude/context-editing
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from afk_provider_anthropic.blocks import COMPACTION
from afk_provider_anthropic.models import Claude
from afkcli.plugin import ContextEdit, Json, JsonObject, ModelRequest, Usage
from afkcli.providers.wire import TokenCounts

COMPACT = "compact_20260112"
CLEAR_TOOL_USES = "clear_tool_uses_20250919"
COMPACT_BETA = "compact-2026-01-12"
EDITING_BETA = "context-management-2025-06-27"
WORDS = ("context_management", "anthropic-beta", "compact", "clear_tool_uses")
"""What a refusal of these features names."""

MIN_TRIGGER = 50_000
"""The least trigger of a compaction that Anthropic's own server takes."""
_CLEARED_PART = 10
"""What is cleared at once is at least one part of so many of the trigger: clearing less costs more in the cache."""

_COUNTED = {"cleared_tool_uses": "tool result", "cleared_thinking_turns": "answer's thinking"}


def context_edits(request: ModelRequest, model: Claude | None) -> list[JsonObject]:
    """Return what the server is asked to do to the conversation of a request when it is long.

    Results of tools are cleared earlier than a compaction is made, as far as the model takes both.
    """
    threshold = request.native_context_from or 0
    compacts = model is None or model.compacts
    edits: list[JsonObject] = []
    if request.tools or not compacts:
        clears_from = threshold * 3 // 4 if compacts else threshold
        edits.append(
            {
                "type": CLEAR_TOOL_USES,
                "trigger": _tokens(clears_from),
                "clear_at_least": _tokens(max(1, clears_from // _CLEARED_PART)),
            }
        )
    if compacts:
        edits.append({"type": COMPACT, "trigger": _tokens(threshold)})
    return edits


def _tokens(value: int) -> JsonObject:
    return {"type": "input_tokens", "value": value}


def betas(body: JsonObject) -> list[str]:
    """Return the beta versions that a request needs: for what it asks, and for a compaction that it has."""
    asked = body.get("context_management")
    edits = asked.get("edits") if isinstance(asked, dict) else None
    kinds = {edit.get("type") for edit in edits or () if isinstance(edit, dict)}
    found = []
    if kinds - {COMPACT}:
        found.append(EDITING_BETA)
    if COMPACT in kinds or _begins_with_compaction(body.get("messages")):
        found.append(COMPACT_BETA)
    return found


def _begins_with_compaction(messages: Json) -> bool:
    first = messages[0] if isinstance(messages, list) and messages else None
    content = first.get("content") if isinstance(first, dict) else None
    blocks = content if isinstance(content, list) else ()
    return any(isinstance(block, dict) and block.get("type") == COMPACTION for block in blocks)


def applied_edits(told: Json) -> Iterator[ContextEdit]:
    """Yield what the server says that it cleared (`context_management` of an answer)."""
    applied = told.get("applied_edits") if isinstance(told, dict) else None
    for edit in applied if isinstance(applied, list) else ():
        if not isinstance(edit, dict):
            continue
        counts = TokenCounts(edit)
        tokens = counts.read("tokens", "cleared_input_tokens")
        said = [(counts.read(name, name), what) for name, what in _COUNTED.items()]
        words = [f"{number} {what}{'s' if number > 1 else ''}" for number, what in said if number]
        if words or tokens:
            yield ContextEdit(what=" and ".join(words) or "a part of the conversation", tokens=tokens)


def iterations(usage: Mapping[str, Json], kind: str) -> Sequence[JsonObject]:
    """Return the counts of the calls of one kind (`message`, `compaction`) that an answer took."""
    told = usage.get("iterations")
    listed = told if isinstance(told, list) else ()
    return [each for each in listed if isinstance(each, dict) and each.get("type") == kind]


def context_size(usage: Usage) -> int:
    """Return the size of the conversation after a call that took `usage`."""
    return usage.input_tokens + usage.output_tokens
