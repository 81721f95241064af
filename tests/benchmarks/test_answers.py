"""The scripted server's answers, read by the clients that they are for."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator

import pytest
from anthropic import Anthropic
from openai import OpenAI

from benchmarks.answers import APIS, CLAUDE_MODEL, INPUT_TOKENS, MODEL, answer, pieces
from benchmarks.server import BenchmarkServer

TEXT = "word0 word1 word2 "


@pytest.fixture
def server() -> Iterator[BenchmarkServer]:
    with BenchmarkServer() as running:
        running.answer = answer(3)
        yield running


def test_chat_client_reads_every_delta_and_the_usage(server: BenchmarkServer) -> None:
    with OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client:
        chunks = list(
            client.chat.completions.create(
                model=MODEL,
                messages=[{"role": "user", "content": "hi"}],
                stream=True,
                stream_options={"include_usage": True},
            )
        )
    deltas = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert [delta for delta in deltas if delta] == ["word0 ", "word1 ", "word2 "]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (INPUT_TOKENS, 3)


def test_messages_client_reads_every_delta_and_the_usage(server: BenchmarkServer) -> None:
    with (
        Anthropic(base_url=server.origin, api_key="none", max_retries=0) as client,
        client.messages.stream(
            model=CLAUDE_MODEL, max_tokens=10, messages=[{"role": "user", "content": "hi"}]
        ) as stream,
    ):
        assert list(stream.text_stream) == ["word0 ", "word1 ", "word2 "]
        message = stream.get_final_message()
    assert message.stop_reason == "end_turn"
    assert (message.usage.input_tokens, message.usage.output_tokens) == (INPUT_TOKENS, 3)


def test_responses_client_reads_every_delta_and_the_usage(server: BenchmarkServer) -> None:
    with (
        OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as client,
        client.responses.stream(model=MODEL, input="hi") as stream,
    ):
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        response = stream.get_final_response()
    assert deltas == ["word0 ", "word1 ", "word2 "]
    assert (response.status, response.output_text) == ("completed", TEXT)
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (INPUT_TOKENS, 3)


def test_every_request_to_an_api_is_noted_and_no_other(server: BenchmarkServer) -> None:
    with socket.create_connection(server.address) as connection:
        stream = connection.makefile("rb")
        for line in ("HEAD / HTTP/1.1", "GET /v1/models HTTP/1.1", "POST /v1/messages/count_tokens HTTP/1.1"):
            connection.sendall(f"{line}\r\nhost: it\r\n\r\n".encode())
            assert stream.readline().startswith(b"HTTP/1.1 404")
            length = 0 if line.startswith("HEAD") else 2
            while stream.readline() != b"\r\n":
                pass
            assert len(stream.read(length)) == length
        assert server.arrivals() == []
        for path in APIS:
            connection.sendall(f"POST /v1{path}?beta=true HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}".encode())
            expected = server.answer.response(path)
            assert expected is not None
            assert stream.read(len(expected)) == expected
        assert len(server.arrivals()) == len(APIS)


def test_request_whose_body_comes_in_chunks_is_read_to_its_end(server: BenchmarkServer) -> None:
    expected = server.answer.response("/v1/responses")
    assert expected is not None
    with socket.create_connection(server.address) as connection:
        stream = connection.makefile("rb")
        for _ in range(2):
            connection.sendall(b"POST /v1/responses HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")
            for piece in (b"5\r\n{ \r\n}\r\n", b"0", b"\r\n\r", b"\n"):
                connection.sendall(piece)
            assert stream.read(len(expected)) == expected
    assert [arrival.size for arrival in server.arrivals()] == [15, 15]


@pytest.mark.parametrize("api", APIS)
def test_events_share_a_chunk_of_the_body_as_asked_for(api: str) -> None:
    alone, packed = (answer(100, events_per_chunk=number).response(api) or b"" for number in (1, 64))
    whole = pieces([f"word{number} " for number in range(100)]).response(api) or b""
    assert alone.count(b"\r\n\r\n") == packed.count(b"\r\n\r\n") == whole.count(b"\r\n\r\n") == 2
    bodies = [_body(response) for response in (alone, packed, whole)]
    assert bodies[0][0] == bodies[1][0] == bodies[2][0]
    assert bodies[0][1] == bodies[0][0].count(b"\n\n")
    assert bodies[1][1] == -(-bodies[0][1] // 64)
    assert bodies[2][1] == 1
    events = [line for line in bodies[0][0].splitlines() if line.startswith(b"data: {")]
    assert all(json.loads(line[6:]) for line in events)


def _body(response: bytes) -> tuple[bytes, int]:
    """Return the body of a response and how many chunks it has."""
    rest, body, chunks = response.partition(b"\r\n\r\n")[2], b"", 0
    while True:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        if length == 0:
            return body, chunks
        body, rest, chunks = body + rest[:length], rest[length + 2 :], chunks + 1
