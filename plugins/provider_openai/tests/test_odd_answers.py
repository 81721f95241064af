"""Answers that no standard knows, in both APIs: several objects in an event, ends in other forms, tags of reasoning."""

from __future__ import annotations

import json
from typing import Any

import pytest
from afk_provider_openai import Settings
from afk_provider_openai.responses import ResponsesReader
from afk_provider_openai.settings import server_from

from afkcli.plugin import (
    FinishReason,
    ModelEvent,
    ModelResponse,
    ModelWarning,
    ProviderError,
    ReasoningDelta,
    ReasoningPart,
    TextDelta,
)
from afkcli.providers import answer_stream
from afkcli.providers.tool_names import ToolNames
from afkcli.testing.model_server import ModelServer, Step
from tests.chat_chunks import REQUEST, URL, A, ask, calls_of, delta, piece, pieces, read
from tests.provider_faults.raw import Peer, raw_server

FIRST, LAST = json.dumps(delta(content="o")), json.dumps(delta("stop", content="k"))


def texts(events: list[ModelEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def codes(events: list[ModelEvent]) -> list[str]:
    return [event.code for event in events if isinstance(event, ModelWarning)]


@pytest.mark.parametrize(
    "body",
    [
        f"data: {FIRST}{LAST}\n\ndata: [DONE]\n\n",
        f"data: {FIRST}\ndata: {LAST}\n\ndata: [DONE]\n\n",
        f"data: data: {FIRST}\n\ndata: data: {LAST}\n\n",
        f"data: [{FIRST}]\n\ndata: [{LAST}]\n\n",
        f"data: {FIRST}\n\ndata: {LAST}\n[DONE]\n\n",
        f"[{FIRST},\n{LAST}]",
        f"{FIRST}{LAST}",
    ],
)
def test_several_objects_in_an_event_or_a_body_are_the_answer(model_server: ModelServer, body: str) -> None:
    kind = "text/event-stream" if body.startswith("data") else "application/json"
    model_server.script(Step(body=body, headers={"Content-Type": kind}))
    events = ask(model_server)

    assert isinstance(events[-1], ModelResponse)
    assert (texts(events), events[-1].message.text) == ("ok", "ok")


def test_a_whole_answer_in_an_array_is_the_answer(model_server: ModelServer) -> None:
    answer = {"choices": [{"message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]}
    model_server.script(Step(body=json.dumps([answer]), headers={"Content-Type": "application/json"}))

    assert texts(ask(model_server)) == "ok"


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ({"type": "stop"}, FinishReason.STOP),
        ({"reason": "length"}, FinishReason.LENGTH),
        (["stop"], FinishReason.STOP),
        ({"finish_reason": {"name": "max_tokens"}}, FinishReason.LENGTH),
    ],
)
def test_a_finish_reason_may_be_in_an_object(reason: Any, finish: FinishReason) -> None:
    _, response = read(delta(content="a"), {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})

    assert response.finish_reason is finish


@pytest.mark.parametrize("reason", [{"type": "made_up"}, {"x": "y"}, 7])
def test_a_finish_reason_that_is_no_known_success_is_named(reason: Any) -> None:
    with pytest.raises(ProviderError, match="finish reason"):
        read(delta(content="a"), {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]})


@pytest.mark.parametrize("reason", [None, "", False, {}, [], {"type": None}])
def test_a_blank_finish_reason_is_no_end(reason: Any) -> None:
    blank = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": reason}]}
    _, response = read(blank, blank, delta("stop"))

    assert response.message.text == "aa"


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def events_of(*chunks: dict[str, object]) -> bytes:
    return b"".join(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks)


GOES_ON = {
    "stop with each piece": [delta("stop", content="o"), delta("stop", content="k"), delta("stop", content=".")],
    "stop behind reasoning": [
        delta("stop", reasoning_content="I think"),
        delta(content="ok"),
        delta("stop", content="."),
    ],
    "stop with the role": [
        delta("stop", role="assistant", content=""),
        delta(content="ok"),
        delta("stop", content="."),
    ],
    "another choice": [delta("stop", content="o"), delta(index=1, content="k"), delta("stop", index=1, content=".")],
    "a reason that is the text null": [
        delta("null", content="o"),
        delta("null", content="k"),
        delta("stop", content="."),
    ],
    "a reason that is the text None": [
        delta("None", content="o"),
        delta("None", content="k"),
        delta("stop", content="."),
    ],
}


@pytest.mark.parametrize("form", GOES_ON)
def test_an_answer_that_goes_on_behind_a_finish_reason_is_read_to_its_end(
    monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr(answer_stream, "AFTER_FINISH_SECONDS", 0.05)
    *early, last = GOES_ON[form]

    def talk(peer: Peer) -> None:
        peer.send(HEAD + events_of(*early))
        peer.pause(0.5)
        peer.send(events_of(last) + b"data: [DONE]\n\n")

    with raw_server(talk) as server:
        events = ask(server)

    assert isinstance(events[-1], ModelResponse)
    assert (
        texts(events).split()
        == events[-1].message.text.split()
        == (["o", "k."] if form == "another choice" else ["ok."])
    )
    assert not codes(events)


def test_a_call_behind_a_finish_reason_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_stream, "AFTER_FINISH_SECONDS", 0.05)

    def talk(peer: Peer) -> None:
        peer.send(HEAD + events_of(delta("stop", content="ok"), pieces(piece(A[:3], id="x", index=0, name="look"))))
        peer.pause(0.5)
        peer.send(events_of(pieces(piece(A[3:], index=0)), delta("tool_calls")) + b"data: [DONE]\n\n")

    with raw_server(talk) as server:
        *_, response = ask(server)

    assert isinstance(response, ModelResponse)
    assert calls_of(response) == [("look", {"a": 1})]


def test_an_answer_that_went_on_behind_its_finish_reason_and_stalls_is_kept_with_a_warning() -> None:
    def talk(peer: Peer) -> None:
        peer.send(HEAD + events_of(delta("stop", content="o"), delta("stop", content="k")))
        peer.hang()

    with raw_server(talk) as server:
        events = ask(server, idle_timeout=0.2)

    assert texts(events) == "ok"
    assert codes(events) == ["after_answer"]
    (warning,) = (event.message for event in events if isinstance(event, ModelWarning))
    assert "may be cut" in warning
    assert "stalled for 0.2 s" in warning


@pytest.mark.parametrize(
    "chunks",
    [[delta("stop")], [delta(content=""), delta("stop")], [delta(content=None, role="assistant"), delta("stop")]],
)
def test_an_end_without_any_content_is_an_empty_answer(chunks: list[dict[str, object]]) -> None:
    events, response = read(*chunks)

    assert (texts(events), response.message.parts, response.finish_reason) == ("", (), FinishReason.STOP)


@pytest.mark.parametrize(
    "said",
    [
        "<THINK>I think</THINK>\nanswer",
        "<Think>I think</think>answer",
        "<thinking>I think</thinking>\n\nanswer",
        "<reasoning>I think</reasoning>answer",
        "[THINK]I think[/THINK]answer",
        "<think>I think</THINK>answer",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_tags_of_reasoning_in_other_spellings_are_tags(said: str, size: int) -> None:
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    events, response = read(*[delta(content=piece) for piece in pieces], delta("stop"))

    assert texts(events) == response.message.text == "answer"
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "I think"
    assert response.message.parts[0] == ReasoningPart(text="I think")


@pytest.mark.parametrize("said", ["</think>\n\nanswer", "\n</think>answer", "</thinking>\nanswer", "</THINK>answer"])
@pytest.mark.parametrize("size", [1, 4, 1000])
def test_the_end_of_reasoning_at_the_very_start_is_left_out(said: str, size: int) -> None:
    pieces = [said[start : start + size] for start in range(0, len(said), size)]
    events, response = read(*[delta(content=piece) for piece in pieces], delta("stop"))

    assert texts(events) == response.message.text == "answer"
    assert not codes(events)


@pytest.mark.parametrize(
    "said", ["I think\n</think>\n\nanswer", "I think</thinking>\nanswer", "I think\n[/THINK]\nanswer"]
)
def test_an_end_of_reasoning_without_its_beginning_is_a_warning_and_the_text_stays(said: str) -> None:
    events, response = read(*[delta(content=piece) for piece in said], delta("stop"))

    assert texts(events) == response.message.text == said
    assert codes(events) == ["reasoning_in_text"]
    _, response = read(delta(content=said), delta("stop"), think_tags=False)
    assert response.message.text == said


@pytest.mark.parametrize(
    "said", ["<thinkers> are", "</thin", "</", "[think", "the tag </think> ends it", "<b>bold</b>"]
)
def test_what_is_no_tag_stays_text_without_a_warning(said: str) -> None:
    events, response = read(*[delta(content=piece) for piece in said], delta("stop"))

    assert texts(events) == response.message.text == said
    assert not codes(events)


@pytest.mark.parametrize(
    "usage", [{"prompt_tokens": "3.0", "completion_tokens": "2"}, {"input_tokens": " 3 ", "output_tokens": 2.0}]
)
def test_counts_that_are_texts_are_counts(usage: dict[str, Any]) -> None:
    _, response = read(delta("stop", content="a"), {"choices": [], "usage": usage})

    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.unknown) == (3, 2, ())


# the Responses API


def read_responses(*events: str) -> tuple[list[ModelEvent], ModelResponse]:
    reader = ResponsesReader(server_from(Settings(base_url=URL, api="responses")), REQUEST, ToolNames([]))
    found = list(reader.feed(list(events)))
    assert reader.finished
    return found, reader.response()


SAID = json.dumps({"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "delta": "ok"})
OUTPUT = [{"type": "message", "id": "m", "content": [{"type": "output_text", "text": "ok"}]}]


def completed(**fields: Any) -> str:
    return json.dumps({"type": "response.completed", "response": {"output": OUTPUT, **fields}})


@pytest.mark.parametrize("events", [[SAID + completed()], [f"{SAID}\n{completed()}"], [f"[{SAID}, {completed()}]"]])
def test_several_events_of_a_response_in_one_are_the_answer(events: list[str]) -> None:
    found, response = read_responses(*events)

    assert (texts(found), response.message.text) == ("ok", "ok")


@pytest.mark.parametrize(
    "details", ["max_output_tokens", {"reason": "max_output_tokens"}, {"type": "max_output_tokens"}]
)
def test_why_a_response_is_incomplete_is_read_in_any_form(details: Any) -> None:
    event = {"type": "response.incomplete", "response": {"output": OUTPUT, "incomplete_details": details}}
    events, response = read_responses(json.dumps(event))

    assert (response.finish_reason, codes(events)) == (FinishReason.LENGTH, [])


@pytest.mark.parametrize("status", ["in_progress", "queued", "cancelled", {"x": 1}])
def test_a_whole_response_of_another_status_is_no_success(status: Any) -> None:
    with pytest.raises(ValueError, match="status"):
        read_responses(json.dumps({"object": "response", "status": status, "output": OUTPUT}))


@pytest.mark.parametrize("status", ["completed", {"type": "completed"}, None])
def test_a_whole_response_in_an_array_is_the_answer(status: Any) -> None:
    _, response = read_responses(json.dumps([{"object": "response", "status": status, "output": OUTPUT}]))

    assert response.message.text == "ok"
