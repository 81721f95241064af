"""Large answers of the Messages API: what no event shows is counted as it comes, and no piece costs a copy of all."""

from __future__ import annotations

import json
from typing import Any

import pytest
from afk_provider_anthropic import Settings
from afk_provider_anthropic.answer import AnswerReader
from afk_provider_anthropic.request import request_prefix
from afk_provider_anthropic.settings import server_from

from afkcli.plugin import ModelRequest, OpaqueDelta, Role, text_message
from afkcli.providers.progress import Progress
from afkcli.providers.tool_names import ToolNames
from tests.allocation import allocated

SIZE, COUNT = 1000, 3000
LONG = "x" * SIZE


def reader() -> AnswerReader:
    request = ModelRequest(model="m", messages=[text_message(Role.USER, "q")])
    names = ToolNames.of(request)
    return AnswerReader(server_from(Settings(api_key="k")), request, names, request_prefix(request, names))


def start(**block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": 0, "content_block": block}


def piece(kind: str, **fields: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": 0, "delta": {"type": kind, **fields}}


SEARCH = start(type="server_tool_use", id="s", name="web_search", input={})
OPAQUE = {
    "a signature": [start(type="thinking", thinking=""), piece("signature_delta", signature=LONG)],
    "redacted thinking": [start(type="redacted_thinking", data=LONG)],
    "the results of a tool of the server": [
        start(type="web_search_tool_result", tool_use_id="s", content=[{"type": "web_search_result", "title": LONG}])
    ],
    "pieces of the input of such a tool": [SEARCH, piece("input_json_delta", partial_json=f'{{"query": "{LONG}"}}')],
    "the input of a call in its start": [start(type="tool_use", id="t", name="work", input={"query": LONG})],
}


@pytest.mark.parametrize("what", OPAQUE)
def test_what_no_event_shows_is_counted_as_it_comes(what: str) -> None:
    events = list(reader().feed([json.dumps(event) for event in OPAQUE[what]]))
    counted = [event.size for event in events if isinstance(event, OpaqueDelta)]

    assert SIZE <= sum(counted) < SIZE + 200


PIECES = {
    "text": [start(type="text", text=""), piece("text_delta", text=LONG)],
    "thinking": [start(type="thinking", thinking=""), piece("thinking_delta", thinking=LONG)],
    "arguments": [
        start(type="tool_use", id="t", name="work", input={}),
        piece("input_json_delta", partial_json=LONG),
    ],
    "signatures": [start(type="thinking", thinking=""), piece("signature_delta", signature=LONG)],
}


@pytest.mark.parametrize("what", PIECES)
def test_no_piece_of_an_answer_costs_a_copy_of_all_earlier_ones(what: str) -> None:
    answer, (begin, more) = reader(), PIECES[what]
    list(answer.feed([json.dumps(begin)]))
    work = allocated(lambda event: list(answer.feed([event])), [json.dumps(more)] * COUNT)

    assert work < 20 * SIZE * COUNT, "the square of the size is 1500 times the size"


@pytest.mark.parametrize(("size", "is_progress"), [(0, False), (3, True)])
def test_an_empty_signature_is_not_progress(size: int, is_progress: bool) -> None:
    progress = Progress(first=60, idle=60)
    progress.saw(OpaqueDelta(3))
    progress.received(1000)
    progress.saw(OpaqueDelta(size))

    assert ("1000 bytes" in progress.stall(unfinished=True)) is not is_progress
