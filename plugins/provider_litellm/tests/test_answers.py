"""What LiteLLM makes of an answer, and what this plugin makes of that."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from afk_provider_litellm import Settings, afk_provider

from afkcli.plugin import (
    ErrorKind,
    FinishReason,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ProviderError,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolResultPart,
    ToolSpec,
    text_message,
)
from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, Step
from afkcli.testing.provider_contract import said

KEY = "sk-canary-0123456789"
QUESTION = text_message(Role.USER, "q")
ROUTES = ["openai", "deepseek", "hosted_vllm", "groq", "anthropic"]
"""The SDK; LiteLLM's own client in two forms; a provider with a stream reader of its own; the Messages API."""


def ask(server: ModelServer, request: ModelRequest, **settings: Any) -> list[ModelEvent]:
    async def run() -> list[ModelEvent]:
        url = server.base_url.removesuffix("/v1") if request.model.startswith("anthropic/") else server.base_url
        provider = afk_provider(Settings(**{"api_key": KEY, "base_url": url, **settings}))
        try:
            return [event async for event in provider.stream(request)]
        finally:
            await provider.aclose()

    return asyncio.run(run())


def request(model: str, *messages: Message, **fields: Any) -> ModelRequest:
    return ModelRequest(model=model, messages=messages or [QUESTION], **fields)


def fails(server: ModelServer, asked: ModelRequest, **settings: Any) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        ask(server, asked, **settings)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("route", ROUTES)
def test_an_end_without_a_finish_reason_is_no_end_though_litellm_makes_one_up(
    model_server: ModelServer, route: str
) -> None:
    model_server.script(Step(text=["one", " two", " three"], fault=Fault.END, fault_after=2))
    assert fails(model_server, request(f"{route}/m")).kind is ErrorKind.TRUNCATED


@pytest.mark.parametrize("route", ROUTES)
def test_an_answer_may_speak_of_the_protocol(model_server: ModelServer, route: str) -> None:
    text = ["It ends with data: [DONE]", "\n\ndata: [DONE]\n\n", " and ", "{", "}\u2028\x85 event: done"]
    model_server.script(Step(text=text))
    events = ask(model_server, request(f"{route}/m"))
    assert said(events) == "".join(text)
    assert isinstance(events[-1], ModelResponse)


def test_equal_deltas_are_no_error(model_server: ModelServer) -> None:
    model_server.script(Step(text=["again "], repeat=300))
    assert said(ask(model_server, request("openai/m"))) == "again " * 300


@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_a_connection_that_fails_is_tried_once(model_server: ModelServer, route: str) -> None:
    model_server.script(Step(fault=Fault.NO_RESPONSE), Step())
    assert fails(model_server, request(f"{route}/m")).kind is ErrorKind.NETWORK
    assert len(model_server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "kind", "settings"),
    [
        (Fault.HANG_BEFORE_HEADERS, ErrorKind.TIMEOUT, {"first_byte_timeout": 0.3}),
        (Fault.HANG, ErrorKind.TRUNCATED, {"idle_timeout": 0.3}),
    ],
)
@pytest.mark.parametrize("route", ["openai", "anthropic"])
def test_silence_is_ended_by_its_own_timeout(
    model_server: ModelServer, route: str, fault: Fault, kind: ErrorKind, settings: dict[str, float]
) -> None:
    ask(model_server, request(f"{route}/m"))  # what LiteLLM imports for its first call takes its time, too
    model_server.script(Step(text=["a", "b"], fault=fault, fault_after=1))
    error = fails(model_server, request(f"{route}/m"), **settings)
    assert error.kind is kind
    assert "0.3 s" in str(error)


def test_a_server_that_cannot_be_reached_in_time_is_a_timeout() -> None:
    async def run() -> ProviderError:
        provider = afk_provider(Settings(api_key=KEY, base_url="http://192.0.2.1/v1", connect_timeout=0.2))
        try:
            with pytest.raises(ProviderError) as caught:
                await anext(provider.stream(request("openai/m")))
            return caught.value
        finally:
            await provider.aclose()

    assert asyncio.run(run()).kind in (ErrorKind.TIMEOUT, ErrorKind.NETWORK)  # a machine without a network refuses


def test_signed_thinking_goes_back_with_its_calls_to_its_own_server_and_model(model_server: ModelServer) -> None:
    tool = ToolSpec(name="files.read", description="d", parameters={"type": "object"})
    model = "anthropic/claude-x"
    call = ScriptedCall(name="files__read", arguments={"path": "a"})
    model_server.script(Step(reasoning=["think ", "hard"], tool_calls=[call]), Step(text="done"), Step())
    first = ask(model_server, request(model, tools=[tool]))[-1]
    assert isinstance(first, ModelResponse)
    [thought] = [part for part in first.message.parts if isinstance(part, ReasoningPart)]
    assert thought.text == "think hard"
    [asked] = first.message.tool_calls
    result = ToolResultPart(id=asked.id, name=asked.name, parts=(TextPart(text="it says b"),))
    turn = (QUESTION, first.message, Message(role=Role.TOOL, parts=(result,)))

    ask(model_server, request(model, *turn, tools=[tool]))
    sent = model_server.bodies[1]["messages"][1]["content"]
    assert sent[0] == {"type": "thinking", "thinking": "think hard", "signature": "signature-1"}
    assert [part["type"] for part in sent] == ["thinking", "tool_use"]

    ask(model_server, request(model, *turn, QUESTION, tools=[tool]))
    assert model_server.bodies[2]["messages"][1]["content"] == sent

    ask(model_server, request(f"{model}-other", *turn, tools=[tool]))
    with ModelServer() as other:
        ask(other, request(model, *turn, tools=[tool]))
        assert "signature-1" not in str([model_server.bodies[3], *other.bodies])


def test_extra_is_litellm_s_own_arguments_and_cannot_make_a_call_two(model_server: ModelServer) -> None:
    model_server.script(Step(status=500))
    extra = {"num_retries": 3, "max_retries": 3, "stream": False, "reasoning_effort": "low", "x_extra": 1}
    fails(model_server, request("openai/m", extra=extra))
    [body] = model_server.bodies
    assert (body["stream"], body["x_extra"]) == (True, 1)


def test_headers_are_sent_and_never_shown(model_server: ModelServer) -> None:
    model_server.script(Step(status=400, body={"error": {"message": "bad token hunter2-hunter2"}}))
    error = fails(model_server, request("openai/m"), headers={"X-Gateway-Token": "hunter2-hunter2"})
    assert model_server.requests[0].headers["x-gateway-token"] == "hunter2-hunter2"
    assert "hunter2" not in str(error)


def test_a_key_of_the_environment_is_not_shown(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-canary-9876543210")
    model_server.script(Step(status=401, body={"error": {"message": "no such key: gsk-canary-9876543210"}}))
    error = fails(model_server, request("groq/m"), api_key="")
    assert model_server.requests[0].headers["authorization"] == "Bearer gsk-canary-9876543210"
    assert error.kind is ErrorKind.AUTH
    assert "gsk-canary" not in str(error)


def test_a_missing_key_is_named_with_its_variable(model_server: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GROQ_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    model_server.script(Step(status=401))  # LiteLLM itself refuses some calls without a key, and sends others
    for route, variable in (("groq", "GROQ_API_KEY"), ("anthropic", "ANTHROPIC_API_KEY"), ("openai", "OPENAI_API_KEY")):
        error = fails(model_server, request(f"{route}/m"), api_key="")
        assert error.kind is ErrorKind.AUTH
        assert f"set {variable}, or run `afk keys set litellm`, or set api_key" in str(error)


@pytest.mark.parametrize("model", ["nobody", "no-such-provider/model"])
def test_a_model_of_no_provider_is_told_how_to_be_named(model_server: ModelServer, model: str) -> None:
    error = fails(model_server, request(model), base_url="")
    assert error.kind is ErrorKind.NOT_FOUND
    assert "PROVIDER/MODEL" in str(error)


def test_an_option_that_the_model_does_not_take_is_refused_before_a_request(model_server: ModelServer) -> None:
    error = fails(model_server, request("anthropic/m", options={"seed": 1}))
    assert error.kind is ErrorKind.BAD_REQUEST
    assert "seed" in str(error)
    assert not model_server.requests


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"error": {"message": "quota", "code": "insufficient_quota"}}, 429, ErrorKind.AUTH),
        ({"error": {"message": "prompt is too long: 9 tokens > 8 maximum"}}, 400, ErrorKind.CONTEXT_LENGTH),
        ([{"error": {"message": "x", "status": "RESOURCE_EXHAUSTED", "code": 429}}], 429, ErrorKind.RATE_LIMIT),
        ({"error": {"message": "no", "code": "content_filter"}}, 400, ErrorKind.CONTENT_FILTER),
    ],
)
def test_what_a_server_says_tells_the_kind(model_server: ModelServer, body: Any, status: int, kind: ErrorKind) -> None:
    text = body if isinstance(body, dict) else json.dumps(body)
    model_server.script(Step(status=status, body=text))
    assert fails(model_server, request("openai/m")).kind is kind


def test_calls_of_two_providers_at_once_do_not_mix(model_server: ModelServer) -> None:
    async def run() -> Sequence[str]:
        async def one(route: str) -> str:
            url = model_server.base_url.removesuffix("/v1") if route == "anthropic" else model_server.base_url
            provider = afk_provider(Settings(api_key=f"key-of-{route}", base_url=url))
            events = [event async for event in provider.stream(request(f"{route}/m"))]
            await provider.aclose()
            return said(events)

        return await asyncio.gather(*(one(route) for route in ("openai", "anthropic", "deepseek")))

    model_server.script(Step(text=["a"] * 20, delay_between=0.005))
    assert asyncio.run(run()) == ["a" * 20] * 3
    keys = {r.headers.get("authorization", r.headers.get("x-api-key")) for r in model_server.requests}
    assert keys == {"Bearer key-of-openai", "key-of-anthropic", "Bearer key-of-deepseek"}


def test_a_user_s_own_use_of_litellm_still_works_beside(model_server: ModelServer) -> None:
    ask(model_server, request("openai/m"))

    async def run() -> Any:
        import litellm

        answer = await litellm.acompletion(
            model="openai/m",
            api_key="own",
            api_base=model_server.base_url,
            messages=[{"role": "user", "content": "hi"}],
        )
        await litellm.close_litellm_async_clients()
        return answer

    assert asyncio.run(run()).choices[0].message.content == "reply 2: hi"


def test_a_finish_reason_of_the_length_is_told(model_server: ModelServer) -> None:
    model_server.script(Step(text=["half"], finish_reason="length"))
    *deltas, response = ask(model_server, request("anthropic/m"))
    assert deltas == [TextDelta("half")]
    assert isinstance(response, ModelResponse)
    assert response.finish_reason is FinishReason.LENGTH
