"""The result of a prompt: what an engine keeps of it, and its row in the file of results.

docs/reference/files.md describes the row. Fields are added, never changed or removed. Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from afkcli.core.contract.codecs import usage_to_json
from afkcli.core.contract.engine import PromptState, SettledPrompt
from afkcli.core.contract.errors import ErrorKind, ProviderError, ThreadBusyError, UsageError
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.limits import CUT_BY
from afkcli.core.contract.messages import FinishReason
from afkcli.core.contract.result import AgentResult, RunState

VERSION = 1
PARKED = (
    "the process ended while a request of this prompt may have been on its way, so it may have been paid; "
    "ask it again with --retry-parked"
)
NEVER_ASKED = "the prompt was cancelled before it was asked"
_CARRIED = ("custom_id", "metadata")
"""Fields of a request that its result has too."""

ROW: Mapping[str, Any] = {
    "v": VERSION,
    "id": None,
    "state": None,
    "text": None,
    "output": None,
    "reason": None,
    "finish_reason": None,
    "error": None,
    "model": None,
    "usage": None,
    "cost_usd": None,
    "steps": 0,
    "attempts": 0,
    "run_id": None,
    "thread": None,
    "started": None,
    "ended": None,
}
"""The fields that each row has, in their order, with the values that stand for nothing."""


def result_of(
    request: Mapping[str, Any],
    ended: AgentResult,
    *,
    exception: BaseException | None = None,
    thread: str | None = None,
    started: float,
    sealed: float,
) -> tuple[PromptState, JsonObject]:
    """Return the state of a prompt whose run has ended, and the result that is kept of it.

    A run that a limit has cut is `failed`, with the text that came: the answer is not whole.

    Args:
        request: the request of the prompt.
        ended: the result of its run.
        exception: what ended it, for the HTTP status; `RunHandle.exception`.
        thread: the name of its thread, if that is kept.
        started, sealed: when it was asked and when it had ended, in seconds since the epoch.
    """
    is_structured = ended.output is not None
    result: JsonObject = {
        **_carried(request),
        "text": None if is_structured else ended.final_text,
        "output": ended.output,
        "reason": ended.reason,
        "finish_reason": _finish_reason(ended),
        "error": _error_of(ended, exception),
        "model": ended.model,
        "usage": usage_to_json(ended.usage),
        "cost_usd": ended.total_cost_usd,
        "steps": ended.steps,
        "run_id": ended.run_id,
        "thread": thread,
        "started": rfc3339(started),
        "ended": rfc3339(sealed),
    }
    return _STATES.get(ended.state, PromptState.FAILED), result


_STATES = {RunState.COMPLETED: PromptState.DONE, RunState.CANCELLED: PromptState.CANCELLED}


def refused(request: Mapping[str, Any], error: Exception, *, started: float, ended: float) -> JsonObject:
    """Return the result of a prompt whose run could not be started, which is `failed`; nothing was paid."""
    return {
        **_carried(request),
        "error": {"kind": _kind_of(error), "message": str(error) or type(error).__name__, "status": None},
        "cost_usd": 0.0,
        "started": rfc3339(started),
        "ended": rfc3339(ended),
    }


def tokens_of(result: Mapping[str, Any]) -> int | None:
    """Return the tokens of a result, input and output; None if they are not known."""
    usage = result.get("usage")
    if usage is None or {"input_tokens", "output_tokens"} & set(usage["unknown"]):
        return None
    return int(usage["input_tokens"] + usage["output_tokens"])


def row_of(prompt: SettledPrompt) -> JsonObject:
    """Return the row of a settled prompt in the file of results."""
    row = {
        **ROW,
        **{name: value for name, value in prompt.result.items() if name in ROW},
        "id": prompt.id,
        "state": prompt.state.value,
        "attempts": prompt.attempts,
    }
    if prompt.state is PromptState.PARKED and row["error"] is None:
        row["error"] = {"kind": "parked", "message": PARKED, "status": None}
    elif prompt.state is PromptState.CANCELLED and row["error"] is None:
        row["error"] = {"kind": "cancelled", "message": NEVER_ASKED, "status": None}
    if prompt.result.get("custom_id"):
        row["custom_id"] = prompt.id
    if "metadata" in prompt.result:
        row["metadata"] = prompt.result["metadata"]
    return row


def _carried(request: Mapping[str, Any]) -> JsonObject:
    return {name: request[name] for name in _CARRIED if name in request}


def _finish_reason(ended: AgentResult) -> str | None:
    if ended.state is RunState.COMPLETED:
        return FinishReason.STOP.value
    if ended.reason == FinishReason.LENGTH.value:
        return FinishReason.LENGTH.value
    return FinishReason.CONTENT_FILTER.value if ended.error_kind is ErrorKind.CONTENT_FILTER else None


def _error_of(ended: AgentResult, exception: BaseException | None) -> JsonObject | None:
    if ended.state is RunState.COMPLETED:
        return None
    status = exception.status if isinstance(exception, ProviderError) else None
    if ended.error_kind is not None:
        return {"kind": ended.error_kind.value, "message": ended.error or "", "status": status}
    if ended.state is RunState.CANCELLED:
        return {"kind": "cancelled", "message": "the run was cancelled", "status": None}
    kind = ended.reason or ended.state.value
    message = ended.error or f"the answer was cut by {CUT_BY.get(kind, kind)}"
    return {"kind": kind, "message": message, "status": status}


def _kind_of(error: Exception) -> str:
    if isinstance(error, ProviderError):
        return error.kind.value
    if isinstance(error, ThreadBusyError):
        return "busy"
    if isinstance(error, UsageError):
        return "usage"
    return ErrorKind.INTERNAL.value
