"""The table of the codes of `warning` events. Codes are added, never changed or removed.

To add a warning, add its row here, raise it, and add the row to docs/reference/events.md;
`tests/core/contract/test_warnings_table.py` compares the three. Plugins outside this repository choose their own codes.
"""

from __future__ import annotations

from typing import NamedTuple


class WarningRow(NamedTuple):
    """One code: `when` it is raised, in the words of the reference, and `since` which version."""

    code: str
    when: str
    since: str = "0.1"


WARNINGS: tuple[WarningRow, ...] = (
    WarningRow("fallback", "a model failed and a fallback model took over"),
    WarningRow("empty_answer", "the model answered with no text, and called no tool"),
    WarningRow(
        "reasoning_in_text",
        "the answer begins with reasoning that only its last tag (`</think>`) tells, so that it was shown as text",
        "0.2",
    ),
    WarningRow("not_retried", "a model call failed and was not retried, because `max_llm_calls` was reached"),
    WarningRow("not_saved", "the turn is not in the thread; the message names the rescue file"),
    WarningRow(
        "store_locked",
        "another process locks the store, and the turn waits for it; the message says how long at most",
        "0.2",
    ),
    WarningRow("journal", "a piece of the answer could not be journaled; it is tried again"),
    WarningRow("damaged_record", "a record of the thread is damaged or missing and was left out"),
    WarningRow("question_left_out", "the model's API refused the last question, so it is not sent again"),
    WarningRow(
        "attachment_left_out",
        "an attachment of an earlier message, or an image that a tool returned, is not sent, because this model or its "
        "server does not take it; the model gets a note",
    ),
    WarningRow(
        "attachment_lost",
        "the content of an attachment of an earlier message, or of an image that a tool returned, is missing or "
        "damaged; the model gets a note",
    ),
    WarningRow("price_unknown", "the cost limit cannot be enforced, because the price of the model is unknown"),
    WarningRow(
        "cost_unknown",
        "the cost of the run could not be computed, because a plugin reported a usage or a price of a wrong form",
    ),
    WarningRow("recording", "the recording of the run could not be written, and ends there", "0.2"),
    WarningRow("sink_left_out", "a sink failed or did not keep up"),
    WarningRow(
        "tool_not_repeated",
        "a tool call did not finish in the turn that is resumed, and the tool is not marked idempotent",
    ),
    WarningRow("invalid_output", "the answer does not fit the schema, and the model is asked once more"),
    WarningRow(
        "schema_unchecked",
        "a pattern, a format or a dialect of the schema is not checked; the model is given it",
        "0.2",
    ),
    WarningRow(
        "native_unavailable",
        "the context policy is `native`, and the model's server cannot shorten a conversation by itself; afk does it",
        "0.2",
    ),
    WarningRow(
        "native_refused",
        "the server refused to shorten the conversation by itself; it was asked once more without it, and afk trims",
        "0.2",
    ),
    WarningRow("tool_left_out", "a tool that the agent names is not available; the run continues without it"),
    WarningRow(
        "tools_left_out", "the model cannot use tools, so that those of the agent are left out of the request", "0.2"
    ),
    WarningRow(
        "mcp_server",
        "an MCP server describes a tool wrongly, or does not have a tool that `read_only` names",
        "0.2",
    ),
    WarningRow("progress_cut", "a tool reports progress too often, and a part of it is not shown", "0.2"),
    WarningRow("stderr_unread", "nobody reads stderr, so that lines for a person are left out", "0.2"),
    WarningRow("approval_denied", "a tool call was denied, because no one could be asked"),
    WarningRow("approval_not_kept", "an `always` could not be written to the store"),
    WarningRow(
        "unknown_approval", "a decision came for an approval that is not waiting; at most 100 of these warnings per run"
    ),
    WarningRow(
        "context_refused",
        "a server found the request too long all the same; more was left out, and it was asked once more",
        "0.2",
    ),
    WarningRow("compaction_failed", "old turns could not be summarised; they are left out instead", "0.2"),
    WarningRow("compaction_not_saved", "the store could not keep a summary; it is used by this run alone", "0.2"),
    WarningRow("context_trimmed", "the local model's context is full, so the oldest messages were left out"),
    WarningRow("finish_reason", "the server stopped for an unknown or unusual reason"),
    WarningRow(
        "after_answer",
        "the answer is whole, but the server sent an error or something unreadable behind it; or it went on behind its "
        "finish reason, and then broke off",
        "0.2",
    ),
    WarningRow(
        "answer_differs", "a server's last message differs from what it streamed; what was streamed is kept", "0.2"
    ),
    WarningRow(
        "turn_left_out",
        "the model's API refused an earlier turn of the thread; the request was made once more without it",
        "0.2",
    ),
    WarningRow(
        "field_refused",
        "a server refused a field that it had sent itself; the request was sent again without it",
        "0.2",
    ),
)
