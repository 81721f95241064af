"""The JSON Schema of a row in the file of results.

Since: 0.2.
"""

from __future__ import annotations

from afkcli.batch.results import ROW, VERSION
from afkcli.core.contract.engine import SETTLED_STATES
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import FinishReason
from afkcli.core.contract.result import Usage

_TEXT: JsonObject = {"type": ["string", "null"]}
_COUNT: JsonObject = {"type": "integer", "minimum": 0}


def results_schema() -> JsonObject:
    """Return the JSON Schema (draft 2020-12) of one line of a file of results."""
    usage = {name: {"type": "array", "items": {"type": "string"}} if name == "unknown" else _COUNT for name in _USAGE}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Result",
        "description": f"One line of the results of `afk batch`, version {VERSION}; ignore unknown fields.",
        "type": "object",
        "required": [*ROW],
        "properties": {
            "v": {"const": VERSION},
            "id": {"type": "string", "description": "The id of the prompt."},
            "custom_id": {"type": "string", "description": "The same, where the prompt called it so."},
            "state": {"enum": sorted(state.value for state in SETTLED_STATES)},
            "text": {**_TEXT, "description": "The answer; of a failed prompt, as much of it as came."},
            "output": {"description": "The answer as JSON that fits the schema of the prompt."},
            "reason": {**_TEXT, "description": "Why the run ended without a whole answer, as in its events."},
            "finish_reason": {"enum": [*(reason.value for reason in FinishReason), None]},
            "error": {
                "type": ["object", "null"],
                "required": ["kind", "message", "status"],
                "properties": {
                    "kind": {"type": "string"},
                    "message": {"type": "string"},
                    "status": {"type": ["integer", "null"], "description": "The HTTP status of the server."},
                },
            },
            "model": {**_TEXT, "description": "The model, as provider/model."},
            "usage": {"type": ["object", "null"], "properties": usage},
            "cost_usd": {"type": ["number", "null"], "description": "US dollars; null if it is unknown."},
            "steps": {**_COUNT, "description": "The calls of the model."},
            "attempts": {**_COUNT, "description": "How often the prompt was asked."},
            "run_id": _TEXT,
            "thread": {**_TEXT, "description": "The name of its thread, if it has one that is kept."},
            "started": {**_TEXT, "description": "When it was asked, in RFC 3339."},
            "ended": {**_TEXT, "description": "When it had ended, in RFC 3339."},
            "metadata": {"type": "object", "description": "As the prompt has it."},
        },
    }


_USAGE = Usage.__struct_fields__
