"""Chat Completions as other servers speak it: calls, reasoning, ends and errors in other forms than the API's own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from afk_provider_openai import Settings, afk_provider

from afkcli.plugin import (
    ErrorKind,
    FinishReason,
    Message,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    ProviderError,
    Role,
    TextDelta,
    ToolCallPart,
    Usage,
)
from afkcli.testing.model_server import ModelServer, Step
from tests.chat_chunks import (
    CHAT_ANSWER,
    END,
    QUESTION,
    REQUEST,
    STREAM,
    TOOLS,
    A,
    B,
    ask,
    calls_of,
    delta,
    piece,
    pieces,
    read,
    shown_calls,
)

ASSEMBLED = {
    "by the letter": [
        pieces(piece(index=0, id="x", name="look")),
        pieces(piece('{"a"', index=0)),
        pieces(piece(": 1}", index=0)),
        pieces(piece(index=1, id="y", name="find")),
        pieces(piece(B, index=1)),
    ],
    "one index for all": [
        pieces(piece(index=0, id="x", name="look")),
        pieces(piece(A, index=0)),
        pieces(piece(index=0, id="y", name="find")),
        pieces(piece(B, index=0)),
    ],
    "one index for all, whole": [
        pieces(piece(A, index=0, id="x", name="look"), piece(B, index=0, id="y", name="find"))
    ],
    "one index, no ids": [pieces(piece(A, index=0, name="look")), pieces(piece(B, index=0, name="find"))],
    "no index, in fragments": [
        pieces(piece(id="x", name="look")),
        pieces(piece('{"a"')),
        pieces(piece(": 1}")),
        pieces(piece(id="y", name="find")),
        pieces(piece(B)),
    ],
    "no index and no id, in fragments": [
        pieces(piece(name="look")),
        pieces(piece('{"a"')),
        pieces(piece(": 1}")),
        pieces(piece(name="find")),
        pieces(piece(B)),
    ],
    "no index and no id, whole": [pieces(piece(A, name="look"), piece(B, name="find"))],
    "an index that is a text": [pieces(piece(A, index="0", name="look")), pieces(piece(B, index="1", name="find"))],
    "id and name with each piece": [
        pieces(piece('{"a"', index=0, id="x", name="look")),
        pieces(piece(": 1}", index=0, id="x", name="look")),
        pieces(piece('{"b"', index=0, id="y", name="find")),
        pieces(piece(": 2}", index=0, id="y", name="find")),
    ],
    "empty ids with later pieces": [
        pieces(piece('{"a"', index=0, id="x", name="look")),
        pieces(piece(": 1}", index=0, id="", name="")),
        pieces(piece(B, index=1, id="y", name="find")),
        pieces(piece("", index=1, id=None, name=None)),
    ],
    "an empty name that is text": [
        pieces(piece('{"a"', index=0, id="x", name="look")),
        pieces(piece(": 1}", index=0, id="", name="null")),
        pieces(piece('{"b"', index=1, id="y", name="find")),
        pieces(piece(": 2}", index=1, id="null", name="None")),
    ],
    "a name that comes late": [
        pieces(piece('{"a"', index=0, id="x")),
        pieces(piece(": 1}", index=0, name="look")),
        pieces(piece(B, index=1, id="y")),
        pieces(piece("", index=1, name="find")),
    ],
    "an id that comes late": [
        pieces(piece(index=0, name="look")),
        pieces(piece(A, index=0, id="x")),
        pieces(piece(B, index=1, id="y", name="find")),
    ],
    "the same id for both": [
        pieces(piece(A, index=0, id="x", name="look")),
        pieces(piece(B, index=1, id="x", name="find")),
    ],
    "the same id and index": [
        pieces(piece(A, index=0, id="x", name="look")),
        pieces(piece(B, index=0, id="x", name="find")),
    ],
    "indexes from one": [
        pieces(piece(A, index=1, id="x", name="look")),
        pieces(piece(B, index=2, id="y", name="find")),
    ],
    "objects as arguments": [
        pieces(piece({"a": 1}, index=0, id="x", name="look"), piece({"b": 2}, index=1, id="y", name="find"))
    ],
    "names beside the function": [
        pieces({"index": 0, "id": "x", "name": "look", "arguments": A}),
        pieces({"index": 1, "id": "y", "name": "find", "arguments": B}),
    ],
    "two choices": [
        {"choices": [{"index": 0, "delta": {"tool_calls": [piece(A, index=0, id="x", name="look")]}}]},
        {"choices": [{"index": 1, "delta": {"tool_calls": [piece(B, index=0, id="y", name="find")]}}]},
    ],
    "a second choice without its index": [
        {
            "choices": [
                {"delta": {"tool_calls": [piece(A, index=0, id="x", name="look")]}},
                {"delta": {"tool_calls": [piece(B, index=0, id="y", name="find")]}},
            ]
        },
    ],
    "a whole message": [
        {
            "choices": [
                {
                    "index": 0,
                    "message": {
                        "content": None,
                        "tool_calls": [piece(A, id="x", name="look"), piece(B, id="y", name="find")],
                    },
                    "finish_reason": "tool_calls",
                }
            ]
        },
    ],
}


@pytest.mark.parametrize("form", ASSEMBLED)
def test_two_calls_are_two_calls_however_they_are_told_apart(form: str) -> None:
    events, response = read(*ASSEMBLED[form], END)
    assert calls_of(response) == [("look", {"a": 1}), ("find", {"b": 2})]
    assert [name for name, _ in shown_calls(events)] == ["look", "find"]
    assert [json.loads(arguments) for _, arguments in shown_calls(events)] == [{"a": 1}, {"b": 2}]
    assert len({call.id for call in response.message.tool_calls}) == 2
    assert response.finish_reason is FinishReason.TOOL_CALLS


def test_two_calls_of_one_tool_that_nothing_tells_apart_are_two() -> None:
    _, response = read(pieces(piece(A, index=0, name="look")), pieces(piece('{"a": 3}', index=0)), END)
    assert calls_of(response) == [("look", {"a": 1}), ("look", {"a": 3})]


def test_the_older_form_of_one_call_is_read() -> None:
    _, response = read(
        delta(function_call={"name": "look", "arguments": '{"a"'}),
        delta(function_call={"arguments": ": 1}"}),
        delta("function_call"),
    )
    assert calls_of(response) == [("look", {"a": 1})]


def test_a_name_in_two_pieces_is_joined() -> None:
    _, response = read(pieces(piece(index=0, id="x", name="get_")), pieces(piece(A, index=0, name="weather")), END)
    assert calls_of(response) == [("get_weather", {"a": 1})]


@pytest.mark.parametrize("arguments", [None, ..., "", "  ", "null", " null\n", "{}", {}])
def test_no_arguments_in_any_form_are_none(arguments: Any) -> None:
    _, response = read(pieces(piece(arguments, index=0, id="x", name="look")), END)
    assert calls_of(response) == [("look", {})]


@pytest.mark.parametrize("arguments", ["[1]", "1", '"text"', '{"a": 1', "{'a': 1}", [1], '{"a": 1}}'])
def test_arguments_that_are_no_object_are_kept_as_they_came(arguments: Any) -> None:
    _, response = read(pieces(piece(arguments, index=0, id="x", name="look")), END)
    (call,) = response.message.tool_calls
    assert call.arguments == {}
    assert call.invalid_arguments == (arguments if isinstance(arguments, str) else json.dumps(arguments))


def test_an_id_that_the_conversation_has_already_is_not_given_again() -> None:
    before = Message(role=Role.ASSISTANT, parts=(ToolCallPart(id="call_0", name="look", arguments={}),))
    request = ModelRequest(model="m", messages=[QUESTION, before], tools=TOOLS)
    _, response = read(pieces(piece(A, index=0, id="call_0", name="look")), END, request=request)
    assert response.message.tool_calls[0].id not in ("", "call_0")


# ends


def test_text_in_one_choice_and_a_call_in_another_are_one_answer() -> None:
    chunks = [
        delta(content="I look"),
        {
            "choices": [
                {"index": 1, "delta": {"tool_calls": [piece(A, index=0, id="x", name="look")]}, "finish_reason": None}
            ]
        },
        delta("stop"),
        delta("tool_calls", index=1),
    ]
    _, response = read(*chunks)
    assert (response.message.text, calls_of(response)) == ("I look", [("look", {"a": 1})])
    assert response.finish_reason is FinishReason.TOOL_CALLS


def test_two_texts_come_one_after_the_other() -> None:
    events, response = read(
        delta(content="a"), delta(content="x", index=1), delta("stop", content="b"), delta("stop", index=1, content="y")
    )
    assert (
        response.message.text == "ab\n\nxy" == "".join(event.text for event in events if isinstance(event, TextDelta))
    )


@pytest.mark.parametrize("reason", ["network_error", "insufficient_system_resource", "error", "abort"])
def test_a_server_s_own_failure_before_any_output_may_be_tried_again(reason: str) -> None:
    with pytest.raises(ProviderError, match=reason) as caught:
        read(delta(reason))
    assert caught.value.kind is ErrorKind.OVERLOADED


@pytest.mark.parametrize("reason", ["tool_calls", "function_call", "something new"])
def test_an_end_that_says_more_than_there_is_fails_once(reason: str) -> None:
    for chunks in ([delta(reason)], [delta(content="a"), delta(reason)]):
        with pytest.raises(ProviderError, match=reason) as caught:
            read(*chunks)
        assert caught.value.kind is ErrorKind.TRUNCATED


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("MAX_TOKENS", FinishReason.LENGTH),
        ("model_length", FinishReason.LENGTH),
        ("SAFETY", FinishReason.CONTENT_FILTER),
        ("sensitive", FinishReason.CONTENT_FILTER),
        ("end_turn", FinishReason.STOP),
    ],
)
def test_the_words_of_other_apis_are_known(word: str, reason: FinishReason) -> None:
    assert read(delta(content="a"), delta(word))[1].finish_reason is reason


# bodies and streams

WHOLE = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1},
}
OK = f"data: {json.dumps(delta(content='ok'))}\n\n"
STOP = f"data: {json.dumps(delta('stop'))}\n\n"

ANSWERS = {
    "one JSON object": (json.dumps(WHOLE), {"Content-Type": "application/json"}),
    "one JSON object, on many lines": (json.dumps(WHOLE, indent=2), {"Content-Type": "application/json"}),
    "one JSON object, called a stream": (json.dumps(WHOLE), STREAM),
    "one JSON object in an event": (f"data: {json.dumps(WHOLE)}\n\ndata: [DONE]\n\n", STREAM),
    "a stream that is called JSON": (OK + STOP, {"Content-Type": "application/json"}),
    "a stream that is called a page": (OK + STOP, {"Content-Type": "text/html"}),
    "lines of JSON": (
        f"{json.dumps(delta(content='ok'))}\n{json.dumps(delta('stop'))}\n",
        {"Content-Type": "application/x-ndjson"},
    ),
    "empty data before the first token": ("data:\n\n" + OK + STOP, STREAM),
    "empty data in the middle": (OK + "data: \n\ndata\n\n: ping\n\n" + STOP, STREAM),
    "a byte order mark": ("\ufeff" + OK + STOP, STREAM),
    "no blank line at the end": (OK + STOP.rstrip("\n"), STREAM),
    "a ping of its own type": ("event: ping\ndata: {}\n\n" + OK + STOP, STREAM),
    "CR alone": ((OK + STOP).replace("\n", "\r"), STREAM),
}


@pytest.mark.parametrize("form", ANSWERS)
def test_an_answer_in_another_form_is_read(model_server: ModelServer, form: str) -> None:
    body, headers = ANSWERS[form]
    model_server.script(Step(body=body, headers=headers))
    *events, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.message.text == "ok" == "".join(event.text for event in events if isinstance(event, TextDelta))
    assert not [event for event in events if isinstance(event, ModelWarning)]


@pytest.mark.parametrize(
    ("behind", "says"),
    [
        ("data: END\n\n", "END"),
        ("data: done\n\n", "malformed"),
        ('data: {"cut\n\n', "malformed"),
        ('data: {"error": {"message": "too late"}}\n\n', "too late"),
        ("event: error\ndata: too late\n\n", "too late"),
    ],
)
def test_what_is_whole_stays_whole_and_a_warning_tells_the_rest(
    model_server: ModelServer, behind: str, says: str
) -> None:
    model_server.script(Step(body=OK + STOP + behind, headers=STREAM))
    *events, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.message.text == "ok"
    (warning,) = [event for event in events if isinstance(event, ModelWarning)]
    assert warning.code == "after_answer"
    assert says in warning.message or says == "END"


ERRORS = {
    "vLLM's": 'data: {"object": "error", "message": "mark-why", "type": "BadRequestError", "code": 400}\n\n',
    "an event of its type": 'event: error\ndata: {"message": "mark-why", "code": 400}\n\n',
    "an event of its type, in words": "event: error\ndata: invalid_request: mark-why\n\n",
    "a field": 'error: {"code": 400, "message": "mark-why", "type": "invalid_request_error"}\n\n',
    "a bare body": '{"error": {"code": 400, "message": "mark-why"}}',
    "a bare body, on many lines": '{\n  "error": {\n    "code": 400,\n    "message": "mark-why"\n  }\n}\n',
    "a bare array": '[{"error": {"code": 400, "message": "mark-why", "status": "INVALID_ARGUMENT"}}]',
    "FastAPI's": '{"detail": [{"loc": ["body"], "msg": "mark-why", "type": "validation_error"}]}',
    "after the role": f"data: {json.dumps(delta(role='assistant'))}\n\n"
    'data: {"error": {"message": "mark-why", "code": 400}}\n\n',
}


@pytest.mark.parametrize("form", ERRORS)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_an_error_in_a_stream_is_read_in_any_shape(model_server: ModelServer, form: str, kind: str) -> None:
    model_server.script(Step(body=ERRORS[form], headers={"Content-Type": kind}))
    with pytest.raises(ProviderError, match="mark-why") as caught:
        ask(model_server)
    if "words" not in form:
        assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_a_last_message_that_differs_is_noticed_and_what_was_shown_is_kept() -> None:
    whole = {"choices": [{"index": 0, "delta": {}, "message": {"content": "b"}, "finish_reason": "stop"}]}
    events, response = read(delta(content="a"), whole)
    assert response.message.text == "a"
    assert [event.code for event in events if isinstance(event, ModelWarning)] == ["answer_differs"]


def test_a_last_message_that_says_more_is_added() -> None:
    whole = {"choices": [{"index": 0, "delta": {}, "message": {"content": "ab"}, "finish_reason": "stop"}]}
    events, response = read(delta(content="a"), whole)
    assert response.message.text == "ab" == "".join(event.text for event in events if isinstance(event, TextDelta))


# URLs


@pytest.mark.parametrize(
    ("suffix", "path"),
    [
        ("?api-version=2024-10-21", "/v1/chat/completions?api-version=2024-10-21"),
        ("/openai/deployments/d?api-version=1", "/v1/openai/deployments/d/chat/completions?api-version=1"),
        ("/?a=1&b=2", "/v1/chat/completions?a=1&b=2"),
        ("/chat/completions", "/v1/chat/completions"),
    ],
)
def test_the_query_of_a_base_url_goes_with_every_request(model_server: ModelServer, suffix: str, path: str) -> None:
    model_server.script(Step(body=CHAT_ANSWER, headers=STREAM))

    async def run() -> None:
        provider = afk_provider(Settings(base_url=model_server.base_url + suffix, api_key="mark-key", api="chat"))
        assert [event async for event in provider.stream(REQUEST)]
        await provider.aclose()

    asyncio.run(run())
    (request,) = model_server.requests
    assert request.path == path
    assert request.headers.get("api-key") == ("mark-key" if "deployments" in suffix else None)
    assert request.headers["accept-encoding"] == "identity"


def test_usage_of_a_negative_count_is_unknown(model_server: ModelServer) -> None:
    usage = {"prompt_tokens": -3, "completion_tokens": 1.0}
    model_server.script(Step(body=f"{OK}{STOP}data: {json.dumps({'choices': [], 'usage': usage})}\n\n", headers=STREAM))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.usage == Usage(output_tokens=1, unknown=("input_tokens", "total_tokens"))


@pytest.mark.parametrize("name", [" look", "look\n", "functions.look", "default_api.look"])
def test_a_name_with_blanks_or_the_namespace_of_a_template_is_the_tool_s(name: str) -> None:
    events, response = read(pieces(piece(A, index=0, id="x", name=name)), END)
    assert calls_of(response) == [("look", {"a": 1})]
    assert shown_calls(events) == [("look", A)]


def test_a_namespace_of_another_tool_stays_in_the_name() -> None:
    _, response = read(pieces(piece(A, index=0, id="x", name="functions.other")), END)
    assert calls_of(response) == [("functions.other", {"a": 1})]


@pytest.mark.parametrize(
    "data",
    ["null", "ping", " heartbeat ", "keep-alive", ":", ": keepalive", "  : ping - 2026-11-28 04:50:00.123456+00:00"],
)
@pytest.mark.parametrize("place", [0, 1])
def test_a_keep_alive_with_a_word_is_no_fault(model_server: ModelServer, data: str, place: int) -> None:
    events = [OK, STOP]
    events.insert(place, f"data: {data}\n\n")
    model_server.script(Step(body="".join(events), headers=STREAM))
    *_, response = ask(model_server)
    assert isinstance(response, ModelResponse)
    assert response.message.text == "ok"
    assert len(model_server.requests) == 1


@pytest.mark.parametrize(
    ("code", "kind"), [(502, ErrorKind.OVERLOADED), (429, ErrorKind.RATE_LIMIT), (400, ErrorKind.BAD_REQUEST)]
)
@pytest.mark.parametrize("form", ["delta", "message"])
def test_an_error_in_a_choice_is_the_server_s(model_server: ModelServer, code: int, kind: ErrorKind, form: str) -> None:
    choice = {"index": 0, form: {}, "finish_reason": None, "error": {"code": code, "message": "mark-why"}}
    model_server.script(Step(body=f"data: {json.dumps({'choices': [choice]})}\n\n", headers=STREAM))
    with pytest.raises(ProviderError, match="mark-why") as caught:
        ask(model_server)
    assert caught.value.kind is kind
