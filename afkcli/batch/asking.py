"""How a request of a batch is asked: its agent, message, attachments, thread and the messages before it.

Since: 0.2.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from afkcli.batch.attachments import attachment_of
from afkcli.batch.prompt import Defaults
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.messages import Message, Role, text_message
from afkcli.core.contract.protocols import Record, RecordKind, ThreadInfo
from afkcli.core.contract.result import RunState
from afkcli.core.contract.structs import replace
from afkcli.core.thread.attachments import Attachment, ask
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import SealedTurn, after_seal, turn_to_json
from afkcli.wiring.agents import Flags


class Question(NamedTuple):
    """What a run of a prompt needs beside its agent.

    Args:
        message: the text of the user's message.
        attachments: what is attached to it.
        thread: the name of its thread; None if it has none.
        history: the messages before it, as in a request; empty without any.
    """

    message: str
    attachments: list[Attachment]
    thread: str | None
    history: list[JsonObject]


def flags_of_prompt(defaults: Defaults, request: Mapping[str, Any]) -> Flags:
    """Return what a prompt says of its agent, for `agent_for`: its own fields, else those of the command line."""
    return Flags(
        model=request.get("model", defaults.model),
        agent=request.get("agent", defaults.agent),
        instructions=request.get("instructions", defaults.instructions),
        tools=defaults.tools,
        limits={**defaults.limits, **request.get("limits", {})},
        options={**defaults.options, **request.get("options", {})},
        schema=request.get("schema", defaults.schema),
        context=defaults.context,
        context_model=defaults.context_model,
        default_model=request.get("default_model"),
    )


def question_of(request: Mapping[str, Any]) -> Question:
    """Return what a prompt asks; its files are read and its URLs fetched, which may take a while.

    Raises:
        UsageError: something cannot be attached, or a file has changed since the prompt was read.
    """
    return Question(
        message=request["message"],
        attachments=[attachment_of(form) for form in request.get("attachments", ())],
        thread=request.get("thread"),
        history=list(request.get("history", ())),
    )


def remember(store: MemoryStore, history: list[JsonObject], name: str) -> None:
    """Put the messages before a prompt into a store, as the turns of a new thread.

    Args:
        store: the store of the run.
        history: the messages, as in a request: the user's first, in turn with the assistant's.
        name: the name of the thread.

    Raises:
        UsageError: something cannot be attached.
    """
    now = rfc3339(time.time())
    thread = ThreadInfo(key=uuid7(), name=name, created=now, used=now)
    records: list[Record] = []
    contents: dict[str, bytes] = {}
    for number, start in enumerate(range(0, len(history), 2), 1):
        messages = [_message(form, contents) for form in history[start : start + 2]]
        turn = SealedTurn(
            turn=number,
            run_id=uuid7(),
            state=RunState.COMPLETED,
            reason=None,
            error=None,
            error_kind=None,
            agent="",
            model="",
            started=now,
            sealed=now,
            messages=tuple(messages),
            steps=1,
        )
        record = next_record(thread, RecordKind.SEAL, number, turn_to_json(turn))
        records.append(record)
        thread = after_seal(replace(advance(thread, record), turns=number), turn)
    store.put(thread, records, contents)


def _message(form: JsonObject, contents: dict[str, bytes]) -> Message:
    """Return a message of the history, and add the contents that it names to `contents`."""
    if form["role"] == "assistant":
        return text_message(Role.ASSISTANT, form["text"])
    asked = ask(form["text"], [attachment_of(item) for item in form.get("attachments", ())])
    contents |= asked.contents
    return asked.message
