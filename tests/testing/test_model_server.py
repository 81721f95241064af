"""The scripted model server, asked by the official SDKs and by a bare socket."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import anthropic
import openai
import pytest

from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, ScriptedUsage, Step, steps_from_json

BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi there"}]}
STEPS = [
    Step(),
    Step(
        text=["a", "b"],
        reasoning=["r", "s"],
        tool_calls=[ScriptedCall(name="f", arguments={"x": 1}), ScriptedCall(name="g", id="c2")],
    ),
    Step(text="日本", bytes_per_write=1, crlf=True, comments=True),
]


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer() as server:
        yield server


def post(server: ModelServer, path: str = "/v1/chat/completions", body: object = BODY) -> tuple[int, bytes]:
    """Return the status and the body of an answer, also of a cut one."""
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc)
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    read = b""
    try:
        while part := response.read1():
            read += part
    except (http.client.IncompleteRead, ConnectionResetError):
        read += b"<broken>"
    finally:
        connection.close()
    return response.status, read


def client(server: ModelServer) -> openai.OpenAI:
    return openai.OpenAI(base_url=server.base_url, api_key="x", max_retries=0)


@pytest.mark.parametrize("step", STEPS, ids=["echo", "everything", "cut"])
def test_the_official_sdk_reads_the_same_from_both_apis_streamed_or_not(server: ModelServer, step: Step) -> None:
    server.script(step)
    messages = [{"role": "user", "content": "hi"}]
    with client(server) as sdk:
        plain = sdk.chat.completions.create(model="m", messages=messages).choices[0].message
        chunks = list(sdk.chat.completions.create(model="m", messages=messages, stream=True))
        with sdk.responses.stream(model="m", input=messages) as stream:
            items = stream.get_final_response().output
        response = sdk.responses.create(model="m", input=messages)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    said = [plain.content, text, response.output_text]
    assert said == (["reply 1: hi", "reply 2: hi", "reply 4: hi"] if step == Step() else ["".join(step.text)] * 3)
    calls = [(item.name, json.loads(item.arguments)) for item in items if item.type == "function_call"]
    assert calls == [(call.name, call.arguments) for call in step.tool_calls]
    assert [call.function.name for call in plain.tool_calls or ()] == [name for name, _ in calls]


@pytest.mark.parametrize("step", STEPS, ids=["echo", "everything", "cut"])
def test_the_official_sdk_reads_the_messages_api_streamed_or_not(server: ModelServer, step: Step) -> None:
    server.script(step)
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
    url = server.base_url.removesuffix("/v1")
    with anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as sdk:
        plain = sdk.messages.create(**asked)
        with sdk.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()
        counted = sdk.messages.count_tokens(model="m", messages=asked["messages"])
    said = "".join(step.text)
    for n, message in enumerate((plain, streamed), 1):
        texts = [block.text for block in message.content if block.type == "text"]
        uses = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
        thoughts = [(block.thinking, block.signature) for block in message.content if block.type == "thinking"]
        assert texts == [said or f"reply {n}: hi"]
        assert uses == [(call.name, call.arguments) for call in step.tool_calls]
        assert thoughts == ([("rs", f"signature-{n}")] if step.reasoning else [])
        assert message.stop_reason == ("tool_use" if step.tool_calls else "end_turn")
        assert (message.usage.input_tokens, message.usage.output_tokens) == (12, 7)
    assert counted.input_tokens > 0
    assert len(server.requests) == 2


def test_cached_tokens_are_reported_in_the_form_of_each_api(server: ModelServer) -> None:
    server.script(Step(text="a", usage=ScriptedUsage(input_tokens=41, cached_tokens=30)))
    said = post(server, "/v1/messages")[1]
    assert b'"input_tokens":11,' in said
    assert b'"cache_read_input_tokens":30,' in said


def test_usage_is_sent_only_on_request(server: ModelServer) -> None:
    server.script(Step(text="a", usage=ScriptedUsage(input_tokens=41)))
    assert b"41" not in post(server)[1]
    assert b'"prompt_tokens":41' in post(server, body={**BODY, "stream_options": {"include_usage": True}})[1]


def test_steps_are_answered_in_order_and_the_last_is_repeated(server: ModelServer) -> None:
    server.script(Step(text="one"), Step(text="two"))
    assert [b"one" in (said := post(server)[1]) or (b"two" in said and 2) for _ in range(3)] == [True, 2, 2]


def test_every_request_is_recorded(server: ModelServer) -> None:
    before = time.time()
    post(server)
    post(server, "/v1/responses", {"model": "m", "stream": True, "input": "hi"})
    first, second = server.requests
    assert (first.n, first.path, first.body) == (1, "/v1/chat/completions", BODY)
    assert (second.n, second.path) == (2, "/v1/responses")
    assert before <= first.at <= second.at
    assert first.headers["host"] == urlsplit(server.base_url).netloc


def test_a_connection_is_kept_for_the_next_request(server: ModelServer) -> None:
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc)
    for _ in range(3):
        connection.request("POST", "/v1/chat/completions", json.dumps(BODY))
        assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
    connection.close()
    assert len({request.connection for request in server.requests}) == 1


def test_a_status_comes_with_its_headers_and_body(server: ModelServer) -> None:
    server.script(Step(status=429, headers={"Retry-After": "3"}, body={"error": {"message": "slow down"}}))
    with client(server) as sdk, pytest.raises(openai.RateLimitError, match="slow down") as caught:
        sdk.chat.completions.create(model="m", messages=[])
    assert caught.value.response.headers["retry-after"] == "3"


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        (Fault.CUT, b"\n\n<broken>"),
        (Fault.END, b"\n\n"),
        (Fault.NO_DONE, b'"finish_reason":"stop"}]}\n\n'),
        (Fault.ERROR_EVENT, b'"code":"server_error","param":null}}\n\n'),
        (Fault.MALFORMED, b"data: [DONE]\n\n"),
    ],
)
def test_a_fault_happens_after_so_many_deltas(server: ModelServer, fault: Fault, ends: bytes) -> None:
    server.script(Step(text=["one", "two", "three"], fault=fault, fault_after=2))
    status, said = post(server)
    assert status == 200
    assert said.endswith(ends)
    assert b'"two"' in said
    assert (b'"three"' in said) == (fault in (Fault.NO_DONE, Fault.MALFORMED))


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        (Fault.CUT, b"\n\n<broken>"),
        (Fault.END, b'"text":"two"}}\n\n'),
        (Fault.NO_DONE, b'"output_tokens_details":{"thinking_tokens":0}}}\n\n'),
        (Fault.ERROR_EVENT, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'),
        (Fault.MALFORMED, b'event: message_stop\ndata: {"type":"message_stop"}\n\n'),
    ],
)
def test_the_messages_api_has_the_same_faults(server: ModelServer, fault: Fault, ends: bytes) -> None:
    server.script(Step(text=["one", "two", "three"], fault=fault, fault_after=2))
    status, said = post(server, "/v1/messages")
    assert status == 200
    assert said.endswith(ends)
    assert b'"two"' in said
    assert (b'"three"' in said) == (fault in (Fault.NO_DONE, Fault.MALFORMED))


def test_the_result_of_a_tool_is_not_what_the_user_said(server: ModelServer) -> None:
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "r"}]}
    said = [{"role": "user", "content": [{"type": "text", "text": "asked"}]}, result]
    assert b'" asked"' in post(server, "/v1/messages", {**BODY, "messages": said})[1]


def test_a_line_can_be_cut_in_the_middle(server: ModelServer) -> None:
    server.script(Step(text=["one", "two"], fault=Fault.CUT_MID_LINE, fault_after=1))
    said = post(server)[1]
    assert said.endswith(b"<broken>")
    assert not said.removesuffix(b"<broken>").endswith(b"\n")


def test_a_hang_ends_at_release(server: ModelServer) -> None:
    server.script(Step(text=["one", "two"], fault=Fault.HANG, fault_after=1))
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc)
    connection.request("POST", "/v1/chat/completions", json.dumps(BODY))
    response = connection.getresponse()
    first = response.read1()
    assert b'"one"' in first
    server.release()
    assert response.read().endswith(b"data: [DONE]\n\n")
    connection.close()


def test_it_notices_a_client_that_disconnects(server: ModelServer) -> None:
    server.script(Step(fault=Fault.HANG_BEFORE_HEADERS))
    connection = socket.create_connection(urlsplit(server.base_url).netloc.split(":"))
    body = json.dumps(BODY).encode()
    connection.sendall(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )
    [request] = server.wait_for_requests(1)
    connection.close()
    assert request.client_left.wait(20)


def test_an_unknown_path_and_a_body_that_is_not_json_are_errors(server: ModelServer) -> None:
    assert post(server, "/v1/nonsense")[0] == 404
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc)
    connection.request("POST", "/v1/chat/completions", "{not json")
    assert connection.getresponse().status == 400
    connection.close()


def test_a_script_is_read_from_json() -> None:
    text = """[{"text": ["a"], "repeat": 2, "fault": "cut", "fault_after": 1, "usage": {"input_tokens": 3},
                "tool_calls": [{"name": "f", "arguments": {"x": 1}}]}, {"status": 500}]"""
    first, second = steps_from_json(text)
    call = ScriptedCall(name="f", arguments={"x": 1})
    usage = ScriptedUsage(input_tokens=3)
    assert first == Step(text=["a"], repeat=2, fault=Fault.CUT, fault_after=1, usage=usage, tool_calls=[call])
    assert second.status == 500


@pytest.mark.parametrize("text", ["{}", "[]", '[{"txt": "a"}]', "[1]"])
def test_an_invalid_script_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"script|step"):
        steps_from_json(text)


def test_it_runs_as_a_process_and_logs_every_request(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    command = [sys.executable, "-m", "afkcli.testing.model_server", "--reply", "ok {n}", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base_url = process.stdout.readline().strip()
        with openai.OpenAI(base_url=base_url, api_key="x") as sdk:
            models = [model.id for model in sdk.models.list()]
            said = sdk.chat.completions.create(model=models[0], messages=[{"role": "user", "content": "hi"}])
        process.terminate()
    assert said.choices[0].message.content == "ok 1"
    listed, asked = [json.loads(line) for line in log.read_text().splitlines()]
    assert listed["path"] == "/v1/models"
    assert asked["body"]["messages"] == [{"role": "user", "content": "hi"}]
    assert asked["headers"]["authorization"] == "Bearer x"
