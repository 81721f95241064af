"""What the scripted server sends of a compaction and of cleared results: in the forms that the SDKs' types have."""

from __future__ import annotations

import json
from typing import Any

from anthropic.types.beta import (
    BetaCompactionBlock,
    BetaMessage,
    BetaRawContentBlockDeltaEvent,
    BetaRawContentBlockStartEvent,
    BetaRawMessageDeltaEvent,
)
from openai.types.responses import (
    CompactedResponse,
    Response,
    ResponseCompactionCompactingEvent,
    ResponseCompactionItem,
    ResponseInputMessageItem,
    ResponseOutputItemDoneEvent,
)

from afkcli.testing import model_wire as wire
from afkcli.testing.model_server import ScriptedUsage, Step

USED = ScriptedUsage(input_tokens=30, output_tokens=4, written_tokens=10, written_1h_tokens=6)
STEP = Step(text="a", compaction="state", compaction_usage=USED, usage=USED, cleared_tool_uses=2, cleared_tokens=50)
BODY: dict[str, Any] = {"model": "m", "input": [{"role": "user", "content": "q"}]}


def events_of(answer: wire.WireAnswer) -> dict[str, dict[str, Any]]:
    """Return the first event of each type."""
    found: dict[str, dict[str, Any]] = {}
    for event in [*answer.events, *answer.tail]:
        form = json.loads(event.partition(b"data: ")[2])
        found.setdefault(form["type"], form)
    return found


def test_the_responses_api_sends_an_item() -> None:
    events = events_of(wire.responses_answer(STEP, BODY, 1))
    ResponseCompactionCompactingEvent.model_validate(events["response.compaction.compacting"], strict=True)
    done = ResponseOutputItemDoneEvent.model_validate(events["response.output_item.done"])
    assert isinstance(done.item, ResponseCompactionItem)
    assert done.item.encrypted_content == "state"
    whole = events["response.completed"]["response"]
    assert ResponseCompactionItem.model_validate(whole["output"][0]) == done.item
    assert Response.model_construct(**whole).output


def test_its_endpoint_returns_the_messages_of_users_and_the_item() -> None:
    form = wire.compacted_object(STEP, BODY, 1)
    user, made = form["output"]
    ResponseInputMessageItem.model_validate(user)  # which `output` has, although its type does not name it
    CompactedResponse.model_validate({**form, "output": [made]})
    ResponseCompactionItem.model_validate(made)


def test_the_messages_api_sends_a_block_and_what_it_took() -> None:
    events = events_of(wire.messages_answer(STEP, BODY, 1))
    start = BetaRawContentBlockStartEvent.model_validate(events["content_block_start"])
    assert isinstance(start.content_block, BetaCompactionBlock)
    piece = BetaRawContentBlockDeltaEvent.model_validate(events["content_block_delta"])
    assert piece.delta.type == "compaction_delta"
    assert piece.delta.content == "state"
    end = BetaRawMessageDeltaEvent.model_validate(events["message_delta"])
    assert end.usage.iterations is not None
    assert [item.type for item in end.usage.iterations] == ["compaction", "message"]
    assert end.context_management is not None
    assert [edit.cleared_input_tokens for edit in end.context_management.applied_edits] == [50]
    message = BetaMessage.model_validate(wire.messages_object(STEP, BODY, 1))
    assert [block.type for block in message.content] == ["compaction", "text"]
    assert message.usage.cache_creation is not None
    assert message.usage.cache_creation.ephemeral_1h_input_tokens == 6
