"""What the older and the newer tables of `llm` have in common: attachments, fragments, system prompts, usage."""

from __future__ import annotations

from afkcli.core.contract.jsonform import JsonError, loads_object
from afkcli.core.contract.messages import Part
from afkcli.core.contract.result import Usage, whole_count
from afkcli.foreign.conversation import ForeignError, Notes, Parts
from afkcli.foreign.fields import text_in, usage_of
from afkcli.foreign.llm_database import LlmDatabase, Row

_BY_PATH = "attachments that llm keeps by their path or address alone"


def attachment(database: LlmDatabase, id_: object, parts: Parts) -> Part:
    """Return the part of an attachment; one without its content is named, and neither opened nor fetched."""
    found = database.rows("attachments", ("id", "type", "path", "url", "content"), "id", id_)
    row = found[0] if found else {}
    path, url, content = text_in(row, "path"), text_in(row, "url"), row.get("content")
    name = path.rpartition("/")[2] or url.rpartition("/")[2] or text_in(row, "type") or "attachment"
    if isinstance(content, str):
        content = content.encode(errors="replace")
    if content is not None and not isinstance(content, bytes):
        raise ForeignError(f"the content of the attachment {str(id_)[:80]!r} is not a blob")
    if not content:
        return parts.missing(_BY_PATH, name)
    return parts.attachment(content, name)


def fragment(database: LlmDatabase, id_: object) -> str:
    """Return the text of a fragment, "" where it is gone."""
    found = database.rows("fragments", ("content",), "id", id_)
    return text_in(found[0], "content") if found else ""


def usage_in(row: Row) -> Usage | None:
    """Return the usage of a response; None where none was reported."""
    counts: dict[str, object] = {"input_tokens": row.get("input_tokens"), "output_tokens": row.get("output_tokens")}
    if all(count is None for count in counts.values()):
        return None
    try:
        details = loads_object(text_in(row, "token_details") or "{}")
    except (JsonError, ForeignError):
        details = {}
    for kind, key, name in (
        ("prompt_tokens_details", "cached_tokens", "cache_read_input_tokens"),
        ("completion_tokens_details", "reasoning_tokens", "reasoning_output_tokens"),
    ):
        of_kind = details.get(kind)
        count = whole_count(of_kind.get(key)) if isinstance(of_kind, dict) else None
        if count is not None:
            counts[name] = count
    return usage_of(counts)


def count_settings(row: Row, notes: Notes) -> None:
    """Count what a response was asked with that a turn of afk does not keep."""
    if row.get("options_json") not in (None, "", "{}"):
        notes.add("sets of model options")
    if row.get("schema_id") is not None:
        notes.add("schemas of answers")
