"""One prompt as its file has it, before it is checked.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from afkcli.core.contract.jsonform import JsonObject


class RowError(Exception):
    """A prompt cannot be used; the message says why, without its place."""


class Row(NamedTuple):
    """One prompt as its file has it.

    Args:
        where: its place for a person, as `prompts.jsonl, line 3`.
        fields: its fields, as an object of a JSON Lines file has them.
        id: the id that its place gives it; None where the content has to.
        loose: whether `fields` may hold variables of the prompt file beside the known fields, in any case of letters,
            and text in the place of a list or an object: the columns of a table.
    """

    where: str
    fields: JsonObject
    id: str | None = None
    loose: bool = False


def refuse_results(fields: Mapping[str, object]) -> None:
    """Refuse a row of results, of afk or of a provider, where a prompt is wanted."""
    if {"state", "attempts"} <= fields.keys() or {"custom_id", "response"} <= fields.keys():
        raise RowError("it is a row of results, not a prompt; name the file of prompts")
    if "custom_id" in fields and "result" in fields:
        raise RowError("it is a row of results, not a prompt; name the file of prompts")


def unknown_field(name: str, known: Iterable[str], what: str = "field") -> RowError:
    """Return the error for a field that does not exist, with the one that may be meant."""
    from afkcli.core.contract.suggestions import near_names
    from afkcli.core.contract.text import collapsed

    known = list(known)
    meant = MEANT.get(name.casefold()) if what == "field" else None
    near = [meant] if meant in known else near_names(name, known)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
    return RowError(f"unknown {what} {collapsed(name, 60)!r}; {hint}{CARRIED if what == 'field' else ''}")


CARRIED = "; what only has to come back with the result goes into 'metadata'"

MEANT = {
    **dict.fromkeys(("prompt", "text", "input", "question", "query", "content", "instruction", "user"), "message"),
    **dict.fromkeys(("conversation", "conversations", "history", "chat", "turns"), "messages"),
    **dict.fromkeys(("system", "system_prompt", "developer"), "instructions"),
    **dict.fromkeys(("vars", "var", "arguments", "args", "params"), "variables"),
    **dict.fromkeys(("attachment", "attach", "files", "file", "images", "image", "image_url"), "attachments"),
    **dict.fromkeys(("json_schema", "response_format", "output_schema", "response_schema"), "schema"),
    **dict.fromkeys(("thread_id", "session", "session_id", "conversation_id"), "thread"),
    **dict.fromkeys(("key", "uid", "uuid", "request_id", "custom-id", "customid", "index"), "id"),
    **dict.fromkeys(("meta", "label", "labels", "expected", "gold", "ideal", "target", "tags"), "metadata"),
    **dict.fromkeys(("temperature", "top_p", "seed", "stop", "reasoning_effort"), "options"),
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "max_output_tokens"), "options"),
    **dict.fromkeys(("timeout", "max_cost", "max_steps", "limit"), "limits"),
    "model_name": "model",
    "engine": "model",
}
"""What other programs call these fields, or where they belong."""
