"""The tests that every model provider passes.

Any provider, with a model that answers as it likes:

    class TestMine(ProviderContract):
        model = "my-model"

        def make_provider(self):
            return MyProvider(Settings())

A provider that speaks HTTP, against the scripted server (`self.server`):

    class TestMine(ScriptedProviderContract):
        def make_provider(self):
            return MyProvider(Settings(base_url=self.server.base_url, api_key=self.api_key))

For readable failures put `pytest.register_assert_rewrite("afkcli.testing.provider_contract")` into `conftest.py`.
"""

from __future__ import annotations

import asyncio
import base64
import email.utils
import hashlib
import json
import re
import time
import traceback
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from typing import Any, ClassVar, TypeVar, cast

import pytest

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.messages import (
    FilePart,
    FinishReason,
    ImagePart,
    Message,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    ProviderData,
    ReasoningDelta,
    ReasoningPart,
    Role,
    TextDelta,
    TextPart,
    ToolCallDelta,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    text_message,
)
from afkcli.core.contract.protocols import Capabilities, Provider, SentRequest
from afkcli.core.contract.result import Usage
from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, ScriptedUsage, Step

Result = TypeVar("Result")
Use = Callable[[Provider], Coroutine[Any, Any, Result]]

TOOL = ToolSpec(
    name="files.read",
    description="Read a file",
    parameters={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
OPTIONS = {
    "temperature": 0.25,
    "top_p": 0.75,
    "max_output_tokens": 321,
    "stop": ["mark-stop"],
    "seed": 7,
    "reasoning_effort": "low",
}
_ATTACHED: dict[type[ImagePart | FilePart], tuple[bytes, str]] = {
    ImagePart: (b"\x89PNG\r\n\x1a\n\x00 not much of a picture", "image/png"),
    FilePart: (b"%PDF-1.4\n not much of a document", "application/pdf"),
}
LEGAL_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
WAIT_SECONDS = 20.0
"""How long a test waits for what has to happen; no test passes sooner or later by it."""


class ProviderContract:
    """What `afkcli.core.contract.protocols.Provider` promises of any provider. Subclass it and give `make_provider`."""

    model: ClassVar[str] = "scripted-small"

    def make_provider(self) -> Provider:
        """Return a new provider that answers `self.model`."""
        raise NotImplementedError

    def request(self, *messages: Message, **fields: Any) -> ModelRequest:
        """Return a request of `messages`, by default a greeting; answers are kept short for real models."""
        fields.setdefault("options", {"max_output_tokens": 24})
        said = messages or (text_message(Role.USER, "Say hello to the reader."),)
        return ModelRequest(model=self.model, messages=said, **fields)

    def use(self, use: Use[Result]) -> Result:
        """Return what `use` returns for a new provider, which is closed after it."""

        async def run() -> Result:
            provider = self.make_provider()
            try:
                return await use(provider)
            finally:
                await provider.aclose()

        return asyncio.run(run())

    def ask(self, request: ModelRequest) -> list[ModelEvent]:
        """Return the events of one call."""
        return self.use(lambda provider: _events(provider, request))

    def test_is_named_as_in_model_names(self) -> None:
        async def use(provider: Provider) -> None:
            assert provider.name
            assert "/" not in provider.name
            assert provider.default_model is None or provider.default_model

        self.use(use)

    def test_the_response_comes_last_and_holds_what_was_streamed(self) -> None:
        events = self.ask(self.request())
        response = _response(events)
        assert response.message.role is Role.ASSISTANT
        assert response.message.text == said(events)
        assert said(events)

    def test_usage_adds_up(self) -> None:
        usage = _response(self.ask(self.request())).usage
        assert usage is None or usage.total_tokens == usage.input_tokens + usage.output_tokens
        assert usage is None or usage.cache_read_input_tokens <= usage.input_tokens
        assert usage is None or usage.reasoning_output_tokens <= usage.output_tokens

    def test_can_be_prepared_more_than_once_and_before_any_call(self) -> None:
        async def use(provider: Provider) -> list[ModelEvent]:
            await provider.prepare()
            await provider.prepare()
            return await _events(provider, self.request())

        assert said(self.use(use))

    def test_two_calls_at_once_do_not_mix(self) -> None:
        async def use(provider: Provider) -> list[list[ModelEvent]]:
            requests = [self.request(), self.request()]
            return list(await asyncio.gather(*(_events(provider, request) for request in requests)))

        for events in self.use(use):
            assert _response(events).message.text == said(events)

    def test_a_call_that_is_closed_early_leaves_the_provider_usable(self) -> None:
        async def use(provider: Provider) -> list[ModelEvent]:
            stream = _stream(provider, self.request())
            await anext(stream)
            await stream.aclose()
            return await _events(provider, self.request())

        assert said(self.use(use))

    def test_cancelling_a_call_leaves_the_provider_usable(self) -> None:
        async def use(provider: Provider) -> list[ModelEvent]:
            begun = asyncio.Event()

            async def call() -> None:
                async for _ in provider.stream(self.request()):
                    begun.set()
                    await asyncio.sleep(0)

            task = asyncio.create_task(call())
            await begun.wait()
            task.cancel()
            await asyncio.wait([task])
            return await _events(provider, self.request())

        assert said(self.use(use))

    def test_takes_the_portable_options(self) -> None:
        options = {"temperature": 0.25, "top_p": 0.75, "max_output_tokens": 8}
        assert _response(self.ask(self.request(options=options)))

    def test_takes_the_schema_of_an_answer(self) -> None:
        """Holding the answer to it is the provider's part only where it says so: afk validates it."""
        schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
        for tools in ((), (TOOL,)):
            assert _response(self.ask(self.request(output_schema=schema, tools=tools))).message.parts

    def test_counts_tokens_more_for_more_text(self) -> None:
        async def use(provider: Provider) -> tuple[int, int]:
            long = self.request(text_message(Role.USER, "word " * 200))
            return await provider.count_tokens(self.request()), await provider.count_tokens(long)

        few, many = self.use(use)
        assert 0 < few < many

    def test_says_what_it_knows_of_a_model_that_it_does_not_know(self) -> None:
        async def use(provider: Provider) -> None:
            assert isinstance(provider.capabilities("no-such-model-of-anybody"), Capabilities)

        self.use(use)

    def test_lists_models_by_their_names_without_the_provider(self) -> None:
        async def use(provider: Provider) -> None:
            models = await provider.list_models()
            assert all(model.id and not model.id.startswith(f"{provider.name}/") for model in models)
            assert len({model.id for model in models}) == len(models)
            assert all(model.context_tokens is None or model.context_tokens > 0 for model in models)

        self.use(use)

    def test_closing_twice_is_harmless(self) -> None:
        async def use(provider: Provider) -> None:
            await provider.aclose()
            await provider.aclose()

        self.use(use)


class ScriptedProviderContract(ProviderContract):
    """What is promised of a provider that speaks HTTP, against the scripted server (`self.server`).

    `api_key` is the key to give to the provider, `context_length_error` the body of the status 400 by which its API
    says that the conversation is too long.
    """

    server: ModelServer
    api_key: ClassVar[str] = "sk-test-0123456789abcdef"
    context_length_error: ClassVar[dict[str, Any]] = {
        "error": {
            "message": "This model's maximum context length is 8 tokens",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
        }
    }
    key_error: ClassVar[dict[str, Any]] = {
        "error": {"message": f"Incorrect API key provided: {api_key}\nsee Bearer {api_key}", "code": "invalid_api_key"}
    }

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with ModelServer() as self.server:
            yield

    def say(self, *steps: Step) -> None:
        """Make the server say `steps`, one a request."""
        self.server.script(*steps)

    def body(self, request: ModelRequest) -> Any:
        """Return the body that the server gets for a request."""
        self.ask(request)
        return self.server.bodies[-1]

    def fails(self, request: ModelRequest | None = None) -> tuple[list[ModelEvent], ProviderError]:
        """Return the events before the error of a call, and the error."""

        async def use(provider: Provider) -> tuple[list[ModelEvent], ProviderError]:
            events: list[ModelEvent] = []
            try:
                async for event in provider.stream(request or self.request()):
                    events.append(event)  # noqa: PERF401  (what came before the error counts)
            except ProviderError as error:
                return events, error
            pytest.fail("the call did not fail")

        events, error = self.use(use)
        assert not any(isinstance(event, ModelResponse) for event in events)
        assert "\n" not in str(error)
        assert self.api_key not in "".join(traceback.format_exception(error))
        return events, error

    # What is sent

    def test_a_preview_is_what_is_sent_then_and_sends_nothing(self) -> None:
        """A provider need not have `preview`; then there is nothing to compare."""
        request = self.request(text_message(Role.USER, "Grüße “x” 🎈\u2028"), tools=[TOOL])

        async def use(provider: Provider) -> None:
            preview = getattr(provider, "preview", None)
            if preview is None:
                return
            shown: SentRequest = await preview(request)
            assert self.server.requests == []
            await _events(provider, request)
            (sent,) = self.server.requests
            assert shown.method == sent.method
            assert shown.url is not None
            assert shown.url.endswith(sent.path)
            assert json.loads(shown.body) == sent.body
            length = sent.headers.get("content-length")
            assert length is None or len(shown.body.encode()) == int(length)
            assert shown.headers is not None
            own = {"connection", "content-length", "transfer-encoding"}
            assert {name: shown.headers.get(name) for name in sent.headers if name not in own} == {
                name: value for name, value in sent.headers.items() if name not in own
            }

        self.use(use)

    def test_the_whole_conversation_is_sent_in_order(self) -> None:
        roles = (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER)
        body = json.dumps(self.body(self.request(*(text_message(role, f"mark-{i}") for i, role in enumerate(roles)))))
        places = [body.index(f"mark-{i}") for i in range(len(roles))]
        assert "mark-0" in body
        assert places[1:] == sorted(places[1:])

    def test_options_and_extra_reach_the_server(self) -> None:
        options = {"temperature": 0.25, "top_p": 0.75, "max_output_tokens": 321}
        body = self.body(self.request(options=options, extra={"x_extra": {"a": [1]}}))
        assert body["temperature"] == 0.25
        assert body["top_p"] == 0.75
        assert 321 in body.values()
        assert body["x_extra"] == {"a": [1]}

    @pytest.mark.parametrize("option", sorted(OPTIONS))
    def test_an_option_reaches_the_server_or_is_refused(self, option: str) -> None:
        taken = self.use(_capabilities(self.model)).options
        request = self.request(options={option: OPTIONS[option]})
        if taken is not None and option not in taken:
            return  # a run with it is refused before it begins
        refusal = self.use(_error_of(request))
        if refusal is None:
            assert self.server.bodies[-1] != self.body(self.request(options={}))
        else:
            assert (taken, refusal.kind, option in str(refusal)) == (None, ErrorKind.BAD_REQUEST, True)

    def test_what_another_provider_left_in_a_message_is_not_sent(self) -> None:
        data = ProviderData(provider="another", api="its", model="m", payload={"signature": "mark-foreign"})
        parts = (
            ReasoningPart(text="mark-thought", provider_data=data),
            TextPart(text="mark-answer", provider_data=data),
        )
        question, answer = text_message(Role.USER, "q"), Message(role=Role.ASSISTANT, parts=parts)
        body = json.dumps(self.body(self.request(question, answer, question)))
        assert "mark-answer" in body
        assert "mark-foreign" not in body

    def test_an_answer_goes_back_as_it_came(self) -> None:
        self.say(Step(text=["mark-", "answer"], reasoning=["thought"]))
        question = text_message(Role.USER, "q")
        answer = _response(self.ask(self.request(question))).message
        assert json.dumps(self.body(self.request(question, answer, question))).count("mark-answer") == 1

    @pytest.mark.parametrize("kind", [ImagePart, FilePart])
    def test_what_is_attached_reaches_the_server_or_is_refused(self, kind: type[ImagePart | FilePart]) -> None:
        data, media_type = _ATTACHED[kind]
        sha256 = hashlib.sha256(data).hexdigest()
        part = kind(sha256=sha256, media_type=media_type, size=len(data), name="mark-name")
        question = Message(role=Role.USER, parts=(part, TextPart(text="mark-question")))
        request = self.request(question, content={sha256: data}.__getitem__)
        refusal: ProviderError | None = None
        try:
            self.ask(request)
        except ProviderError as error:
            refusal = error
        if refusal is not None:
            assert refusal.kind is ErrorKind.BAD_REQUEST
            assert "mark-name" in str(refusal)
            assert self.server.bodies == []
            return
        body = json.dumps(self.server.bodies[-1])
        assert base64.b64encode(data).decode() in body
        assert body.index(media_type) < body.index("mark-question")
        assert sha256 not in body

    def test_an_image_that_a_tool_returned_reaches_the_server_or_a_text_takes_its_place(self) -> None:
        data, media_type = _ATTACHED[ImagePart]
        sha256 = hashlib.sha256(data).hexdigest()
        image = ImagePart(sha256=sha256, media_type=media_type, size=len(data))
        call = ToolCallPart(id="call_1", name="files.read", arguments={"path": "a"})
        result = ToolResultPart(id="call_1", name="files.read", parts=(TextPart(text="mark-result"), image))
        messages = (
            text_message(Role.USER, "q"),
            Message(role=Role.ASSISTANT, parts=(call,)),
            Message(role=Role.TOOL, parts=(result,)),
        )
        request = self.request(*messages, tools=[TOOL], content={sha256: data}.__getitem__)
        refusal: ProviderError | None = None
        try:
            self.ask(request)
        except ProviderError as error:
            refusal = error
        if refusal is not None:  # afk makes the request once more without the image
            assert refusal.kind is ErrorKind.BAD_REQUEST
            assert self.server.bodies == []
            return
        body = json.dumps(self.server.bodies[-1])
        assert body.index("mark-result") < body.index("image", body.index("mark-result"))
        assert sha256 not in body

    # Tools

    def wire_name(self) -> str:
        """Return the name under which the server is offered `TOOL`."""
        tools = self.body(self.request(tools=[TOOL]))["tools"]
        return str(tools[0].get("function", tools[0])["name"])

    def test_tools_are_offered_under_a_name_that_the_api_allows(self) -> None:
        assert LEGAL_TOOL_NAME.fullmatch(self.wire_name())

    def test_a_tool_call_comes_back_under_its_own_name(self) -> None:
        call = ScriptedCall(name=self.wire_name(), arguments={"path": "a ü.txt"}, pieces=5)
        self.say(Step(tool_calls=[call]))
        events = self.ask(self.request(tools=[TOOL]))
        response = _response(events)
        deltas = [event for event in events if isinstance(event, ToolCallDelta)]
        [part] = response.message.tool_calls
        assert {delta.name for delta in deltas} == {"files.read"}
        assert {delta.id for delta in deltas} == {part.id}
        assert json.loads("".join(delta.arguments for delta in deltas)) == {"path": "a ü.txt"}
        assert (part.name, part.arguments, part.invalid_arguments) == ("files.read", {"path": "a ü.txt"}, None)
        assert response.finish_reason is FinishReason.TOOL_CALLS

    def test_parallel_calls_are_kept_apart_and_in_order(self) -> None:
        name = self.wire_name()
        self.say(Step(text="Both.", tool_calls=[ScriptedCall(name=name, arguments={"path": path}) for path in "ab"]))
        message = _response(self.ask(self.request(tools=[TOOL]))).message
        assert [call.arguments["path"] for call in message.tool_calls] == ["a", "b"]
        assert len({call.id for call in message.tool_calls}) == 2
        assert message.text == "Both."

    def test_calls_and_results_are_sent_as_pairs(self) -> None:
        messages = _tool_turn(ToolCallPart(id="call-77", name=TOOL.name, arguments={"path": "a"}))
        body = self.body(self.request(*messages, tools=[TOOL]))
        assert json.dumps(body).count("call-77") == 2
        assert "mark-result" in json.dumps(body)

    @pytest.mark.parametrize("arguments", ['{"path": ', "[1]", "path", '{"path": NaN}'])
    def test_arguments_that_are_no_json_object_are_kept_as_text_and_can_be_sent_again(self, arguments: str) -> None:
        self.say(Step(tool_calls=[ScriptedCall(name=self.wire_name(), arguments=arguments)]), Step())
        [call] = _response(self.ask(self.request(tools=[TOOL]))).message.tool_calls
        assert (call.arguments, call.invalid_arguments) == ({}, arguments)
        assert self.ask(self.request(*_tool_turn(call), tools=[TOOL]))

    def test_a_call_without_arguments_has_an_empty_object(self) -> None:
        self.say(Step(tool_calls=[ScriptedCall(name=self.wire_name(), arguments="")]))
        [call] = _response(self.ask(self.request(tools=[TOOL]))).message.tool_calls
        assert (call.arguments, call.invalid_arguments) == ({}, None)

    # What comes back

    @pytest.mark.parametrize(
        "step",
        [
            Step(text=["日本", "é", "🙂"], bytes_per_write=1),
            Step(text=["日本", "é", "🙂"], crlf=True, bytes_per_write=1),
            Step(text=["日本", "é", "🙂"], comments=True),
            Step(text=["日本", "é", "🙂"], events_per_write=1),
            Step(text=["日本", "é", "🙂"], delay_between=0.01),
        ],
        ids=["bytes", "crlf", "comments", "events", "slow"],
    )
    def test_text_arrives_whole_however_it_is_cut(self, step: Step) -> None:
        self.say(step)
        assert said(self.ask(self.request())) == "日本é🙂"

    def test_unusual_characters_arrive_as_they_are(self) -> None:
        text = "a\u2028b\u2029c\x85d\x0be\x1ef\ng\r\nh\tdata: i\n\ndata: [DONE]\n\n"
        self.say(Step(text=[text, "end"]))
        assert said(self.ask(self.request())) == f"{text}end"

    def test_no_lone_surrogate_gets_through(self) -> None:
        self.say(Step(text=["a\ud83d", "b"]))
        said(self.ask(self.request())).encode()

    def test_an_empty_answer_is_an_answer(self) -> None:
        self.say(Step(echo=""))
        response = _response(self.ask(self.request()))
        assert response.message.text == ""
        assert response.finish_reason is FinishReason.STOP

    def test_reasoning_is_told_from_the_answer(self) -> None:
        self.say(Step(reasoning=["think ", "hard"], text="answer"))
        events = self.ask(self.request())
        reasoning = [part for part in _response(events).message.parts if isinstance(part, ReasoningPart)]
        assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "think hard"
        assert [part.text for part in reasoning] == ["think hard"]
        assert said(events) == _response(events).message.text == "answer"

    @pytest.mark.parametrize("reason", [FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
    def test_a_cut_answer_says_why(self, reason: FinishReason) -> None:
        self.say(Step(text=["half an"], finish_reason=reason.value))
        assert _response(self.ask(self.request())).finish_reason is reason

    def test_usage_is_counted_as_opentelemetry_counts(self) -> None:
        usage = ScriptedUsage(input_tokens=100, output_tokens=50, cached_tokens=60, reasoning_tokens=20)
        self.say(Step(text="x", usage=usage))
        assert _response(self.ask(self.request())).usage == Usage(
            input_tokens=100,
            output_tokens=50,
            total_tokens=150,
            cache_read_input_tokens=60,
            reasoning_output_tokens=20,
        )

    def test_no_usage_is_no_usage(self) -> None:
        self.say(Step(text="x", usage=None))
        assert _response(self.ask(self.request())).usage is None

    def test_the_response_names_the_model_that_answered(self) -> None:
        assert _response(self.ask(self.request())).model == self.model

    # What goes wrong

    @pytest.mark.parametrize("fault", [Fault.CUT, Fault.CUT_MID_LINE, Fault.RESET, Fault.END, Fault.MALFORMED])
    def test_a_broken_stream_is_truncated_after_what_came(self, fault: Fault) -> None:
        # The pause lets what was sent arrive before a reset, which otherwise takes it along.
        self.say(Step(text=["one", " two", " three"], fault=fault, fault_after=2, delay_between=0.1))
        events, error = self.fails()
        assert error.kind is ErrorKind.TRUNCATED
        assert said(events) == "one two" or (fault is Fault.RESET and "one two".startswith(said(events)))
        assert len(self.server.requests) == 1

    def test_invalid_utf8_in_the_stream_does_not_lose_the_answer(self) -> None:
        self.say(Step(text=["one", " two"], fault=Fault.INVALID_UTF8, fault_after=1))
        assert said(self.ask(self.request())) == "one two"

    def test_no_response_is_a_network_error(self) -> None:
        self.say(Step(fault=Fault.NO_RESPONSE))
        assert self.fails()[1].kind is ErrorKind.NETWORK
        assert len(self.server.requests) == 1

    def test_a_refused_connection_is_a_network_error(self) -> None:
        self.server.close()
        assert self.fails()[1].kind is ErrorKind.NETWORK

    def test_an_error_in_the_stream_is_an_error(self) -> None:
        self.say(Step(text=["one", " two"], fault=Fault.ERROR_EVENT, fault_after=1))
        events, error = self.fails()
        assert said(events) == "one"
        assert error.kind is ErrorKind.OVERLOADED

    @pytest.mark.parametrize("body", ["json", "html", "empty"])
    @pytest.mark.parametrize(
        ("status", "kind"),
        [
            (400, ErrorKind.BAD_REQUEST),
            (401, ErrorKind.AUTH),
            (403, ErrorKind.AUTH),
            (404, ErrorKind.NOT_FOUND),
            (408, ErrorKind.TIMEOUT),
            (409, ErrorKind.OVERLOADED),
            (422, ErrorKind.BAD_REQUEST),
            (429, ErrorKind.RATE_LIMIT),
            (500, ErrorKind.OVERLOADED),
            (502, ErrorKind.OVERLOADED),
            (503, ErrorKind.OVERLOADED),
            (529, ErrorKind.OVERLOADED),
        ],
    )
    def test_a_status_is_one_kind_of_error_after_one_request(self, status: int, kind: ErrorKind, body: str) -> None:
        bodies = {"json": {"error": {"message": "mark-why"}}, "html": "<html><body>oops</body></html>", "empty": None}
        self.say(Step(status=status, body=cast("dict[str, Any] | str | None", bodies[body])))
        _, error = self.fails()
        assert (error.kind, error.status) == (kind, status)
        assert "<html" not in str(error)
        assert ("mark-why" in str(error)) == (body == "json")
        assert len(self.server.requests) == 1

    def test_a_conversation_that_is_too_long_is_named_as_such(self) -> None:
        self.say(Step(status=400, body=self.context_length_error))
        assert self.fails()[1].kind is ErrorKind.CONTEXT_LENGTH

    @pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("0.5", 0.5), ("soon", None), ("nan", None)])
    def test_retry_after_is_told(self, header: str, seconds: float | None) -> None:
        self.say(Step(status=429, headers={"Retry-After": header}, body={"error": {"message": "slow"}}))
        assert self.fails()[1].retry_after == seconds

    def test_retry_after_may_be_a_date(self) -> None:
        date = email.utils.formatdate(time.time() + 3600, usegmt=True)
        self.say(Step(status=503, headers={"Retry-After": date}))
        after = self.fails()[1].retry_after
        assert after is not None
        assert 0 < after <= 3601

    def test_no_error_shows_the_key(self) -> None:
        self.say(Step(status=401, body=self.key_error))
        assert self.fails()[1].kind is ErrorKind.AUTH  # `fails` looks for the key

    def test_closing_early_closes_the_request(self) -> None:
        self.say(Step(text=["one", " two"], fault=Fault.HANG, fault_after=1))

        async def use(provider: Provider) -> None:
            stream = _stream(provider, self.request())
            await anext(stream)
            await stream.aclose()
            assert await asyncio.to_thread(self.server.requests[0].client_left.wait, WAIT_SECONDS)

        self.use(use)

    @pytest.mark.parametrize("fault", [Fault.HANG, Fault.HANG_BEFORE_HEADERS])
    def test_cancelling_closes_the_request(self, fault: Fault) -> None:
        self.say(Step(text=["one", " two"], fault=fault, fault_after=1))

        async def use(provider: Provider) -> None:
            task = asyncio.create_task(_events(provider, self.request()))
            await asyncio.to_thread(self.server.wait_for_requests, 1, WAIT_SECONDS)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(self.server.requests[0].client_left.wait, WAIT_SECONDS)

        self.use(use)


def said(events: Sequence[ModelEvent]) -> str:
    """Return the text that was streamed."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def _error_of(request: ModelRequest) -> Use[ProviderError | None]:
    async def use(provider: Provider) -> ProviderError | None:
        try:
            await _events(provider, request)
        except ProviderError as error:
            return error
        return None

    return use


def _capabilities(model: str) -> Use[Capabilities]:
    async def use(provider: Provider) -> Capabilities:
        return provider.capabilities(model)

    return use


async def _events(provider: Provider, request: ModelRequest) -> list[ModelEvent]:
    return [event async for event in provider.stream(request)]


def _stream(provider: Provider, request: ModelRequest) -> AsyncGenerator[ModelEvent, None]:
    """Return a call as what it has to be for closing it: an iterator with `aclose`."""
    stream = provider.stream(request)
    assert hasattr(stream, "aclose")
    return cast("AsyncGenerator[ModelEvent, None]", stream)


def _response(events: Sequence[ModelEvent]) -> ModelResponse:
    """Return the one response of a call, which is its last event."""
    responses = [event for event in events if isinstance(event, ModelResponse)]
    assert len(responses) == 1
    assert events[-1] is responses[0]
    return responses[0]


def _tool_turn(call: ToolCallPart) -> tuple[Message, ...]:
    """Return the messages of a question, a call and its result."""
    result = ToolResultPart(id=call.id, name=call.name, parts=(TextPart(text="mark-result"),))
    return (
        text_message(Role.USER, "Read a."),
        Message(role=Role.ASSISTANT, parts=(call,)),
        Message(role=Role.TOOL, parts=(result,)),
    )
