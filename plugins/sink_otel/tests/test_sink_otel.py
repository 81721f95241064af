"""What receivers get of runs in this process: real runs, a scripted model server, and oteltap, which others wrote."""

from __future__ import annotations

import asyncio
import itertools
import logging

import afk_sink_otel.export
import pytest
from afk_sink_otel import Settings, afk_sink
from afk_sink_otel.names import provider_and_model

from afkcli import Agent, AgentResult, FailSafeConfig, Runner, tool
from afkcli.core.contract.events import Completed, ContextEvent, RunStarted, StepCompleted, StepStarted
from afkcli.plugin import ConfigError, FinishReason, Role, RunState, Usage, text_message
from afkcli.testing.model_server import Fault, ModelServer, ScriptedCall, ScriptedUsage, Step
from tests.telemetry import receiving, tapped

QUESTION, ANSWER, LITRES = "canary-question", "canary-answer", "canary-litres"


@pytest.fixture
def server(tmp_path, monkeypatch):
    for name in ("TRACEPARENT", "TRACESTATE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AFK_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-0123456789")
    with ModelServer() as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        yield server


@pytest.fixture
def tap(tmp_path):
    with tapped(tmp_path / "received") as tap:
        yield tap


@tool(name="garden.water", changes=False)
def water(plant: str) -> str:
    """Tell how much water a plant needs."""
    if plant == "oak":
        raise ValueError("an oak is no plant of a garden")
    return f"{LITRES} for {plant}"


def call(plant="canary-plant"):
    return Step(text="I look.", tool_calls=[ScriptedCall(name="garden__water", arguments={"plant": plant}, id="c1")])


async def ask(url, *questions, at_once=False, agent=None, **settings):
    """Ask the questions, each in a thread of its own; return the results and the lines of the sink."""
    agent = agent or Agent(name="gardener", model="openai/small", tools=[water])
    sink = afk_sink(Settings(endpoint=url, **settings))
    async with Runner(store="memory", sinks=[sink]) as runner:
        if at_once:
            return await asyncio.gather(*(runner.run(agent, user_message=question) for question in questions))
        return [await runner.run(agent, user_message=question) for question in questions]


def run(url, *questions, **options):
    return asyncio.run(ask(url, *questions, **options))


def by_name(spans):
    return {span.name: span for span in spans}


def test_a_run_that_uses_a_tool_is_a_tree_of_spans(server, tap):
    server.script(call(), Step(text=ANSWER, usage=ScriptedUsage(input_tokens=40, output_tokens=9, cached_tokens=30)))
    [result] = run(tap.url, QUESTION)

    agent, first, tool_call, second = tap.wait_for("invoke_agent gardener")
    assert [span.name for span in (first, tool_call, second)] == [
        "chat small",
        "execute_tool garden.water",
        "chat small",
    ]
    assert {span.parent for span in (first, tool_call, second)} == {agent.id}
    assert {span.trace for span in (first, tool_call, second)} == {agent.trace}
    assert agent.parent == ""
    assert (agent.kind, first.kind, tool_call.kind) == (1, 3, 1)  # INTERNAL, CLIENT, INTERNAL
    assert agent.start <= first.start <= first.end <= tool_call.start <= tool_call.end <= second.start <= agent.end
    assert {span.status for span in tap.spans()} == {0}
    assert result.usage.input_tokens == 52


def test_the_attributes_are_those_of_the_conventions(server, tap):
    server.script(
        call(),
        Step(
            text=ANSWER,
            usage=ScriptedUsage(input_tokens=40, output_tokens=9, cached_tokens=30, reasoning_tokens=4),
        ),
    )
    [result] = run(tap.url, QUESTION)

    agent, first, tool_call, second = tap.wait_for("invoke_agent gardener")
    conversation = agent.attributes["gen_ai.conversation.id"]
    assert conversation != result.thread_id
    assert agent.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "gardener",
        "gen_ai.conversation.id": conversation,
        "gen_ai.request.model": "small",
        "gen_ai.usage.input_tokens": 52,
        "gen_ai.usage.output_tokens": 16,
        "afk.run.id": result.run_id,
        "afk.run.state": "completed",
        "afk.turn": 1,
    }
    assert first.attributes["gen_ai.response.finish_reasons"] == ["tool_call"]
    seconds = second.attributes.pop("gen_ai.response.time_to_first_chunk")
    assert 0 <= seconds <= (second.end - second.start) / 1e9
    assert second.attributes == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.conversation.id": conversation,
        "gen_ai.request.model": "small",
        "gen_ai.request.stream": True,
        "gen_ai.response.model": second.attributes["gen_ai.response.model"],
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 40,
        "gen_ai.usage.output_tokens": 9,
        "gen_ai.usage.cache_read.input_tokens": 30,
        "gen_ai.usage.cache_write.input_tokens": second.attributes["gen_ai.usage.cache_write.input_tokens"],
        "gen_ai.usage.reasoning.output_tokens": 4,
        "afk.step": 2,
    }
    assert tool_call.attributes == {
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "garden.water",
        "gen_ai.tool.type": "function",
        "gen_ai.tool.call.id": "c1",
        "gen_ai.agent.name": "gardener",
        "gen_ai.conversation.id": conversation,
        "afk.step": 1,
    }


def test_the_metrics_are_those_of_the_conventions(server, tap):
    server.script(call(), Step(text=ANSWER, usage=ScriptedUsage(input_tokens=40, output_tokens=9, cached_tokens=30)))
    run(tap.url, QUESTION)

    spans = by_name(tap.wait_for("invoke_agent gardener"))
    metrics = tap.metrics("gen_ai.invoke_agent.duration", "gen_ai.client.inference.duration")
    [calls] = metrics["gen_ai.client.inference.duration"]
    model = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": calls["attributes"]["gen_ai.response.model"],
    }
    assert calls == {"attributes": model, "count": 2, "sum": calls["sum"]}
    assert metrics["gen_ai.client.inference.time_to_first_chunk"][0]["count"] == 2
    unknown = {**model, "gen_ai.token.modality": "unknown"}
    usage = "gen_ai.client.inference.usage"
    assert metrics[f"{usage}.input_tokens"] == [{"attributes": unknown, "value": 52}]
    assert metrics[f"{usage}.output_tokens"] == [{"attributes": unknown, "value": 16}]
    assert metrics[f"{usage}.cache_read.input_tokens"] == [{"attributes": unknown, "value": 30}]
    assert metrics["gen_ai.client.inference.operation.input_tokens"] == [{"attributes": model, "count": 2, "sum": 52}]
    agent = {"gen_ai.agent.name": "gardener"}
    assert metrics["gen_ai.invoke_agent.inference_calls"] == [{"attributes": agent, "count": 1, "sum": 2}]
    assert metrics["gen_ai.invoke_agent.tool_calls"] == [{"attributes": agent, "count": 1, "sum": 1}]
    [whole] = metrics["gen_ai.invoke_agent.duration"]
    span = spans["invoke_agent gardener"]
    assert whole["attributes"] == agent
    assert whole["sum"] == pytest.approx((span.end - span.start) / 1e9)
    [tool_calls] = metrics["gen_ai.execute_tool.duration"]
    assert tool_calls["attributes"]["gen_ai.tool.name"] == "garden.water"


def test_no_word_of_the_conversation_is_sent_by_default(server):
    server.script(call(), Step(text=ANSWER, reasoning="canary-reasoning"))
    with receiving() as receiver:
        run(receiver.url, QUESTION)
        server.script(Step(status=400, body={"error": {"message": f"canary-error {QUESTION}"}}))
        run(receiver.url, QUESTION)

    assert b"execute_tool garden.water" in receiver.text
    assert b"bad_request" in receiver.text
    assert b"canary" not in receiver.text


def test_with_content_the_conversation_is_sent_and_no_key(server, tap):
    server.script(call(), Step(text=ANSWER))
    run(tap.url, f"{QUESTION} sk-canary-0123456789", content=True)

    agent, first, tool_call, second = tap.wait_for("invoke_agent gardener")
    question = {"role": "user", "parts": [{"type": "text", "content": agent_text(agent, "input")}]}
    assert agent_text(agent, "input").startswith(QUESTION)
    assert agent_text(agent, "output") == ANSWER
    assert tool_call.attributes["gen_ai.tool.call.arguments"] == {"plant": "canary-plant"}
    assert tool_call.attributes["gen_ai.tool.call.result"] == f"{LITRES} for canary-plant"
    assert first.attributes["gen_ai.input.messages"] == [question]
    said = {
        "role": "assistant",
        "parts": [
            {"type": "text", "content": "I look."},
            {"type": "tool_call", "id": "c1", "name": "garden.water", "arguments": {"plant": "canary-plant"}},
        ],
    }
    assert first.attributes["gen_ai.output.messages"] == [said]
    response = {"type": "tool_call_response", "id": "c1", "response": f"{LITRES} for canary-plant"}
    assert second.attributes["gen_ai.input.messages"] == [question, said, {"role": "tool", "parts": [response]}]
    assert "sk-canary" not in tap.output.read_text()


def agent_text(span, which):
    [message] = span.attributes[f"gen_ai.{which}.messages"]
    return message["parts"][0]["content"]


def test_a_failed_tool_is_an_error_of_its_span_alone(server, tap):
    server.script(call("oak"), Step(text=ANSWER))
    run(tap.url, QUESTION)

    spans = by_name(tap.wait_for("invoke_agent gardener"))
    failed = spans["execute_tool garden.water"]
    assert (failed.status, failed.message, failed.attributes["error.type"]) == (2, "", "tool_error")
    assert spans["invoke_agent gardener"].status == 0
    [point] = tap.metrics("gen_ai.execute_tool.duration")["gen_ai.execute_tool.duration"]
    assert point["attributes"]["error.type"] == "tool_error"


def test_a_failed_run_and_its_call_have_the_kind_of_the_error(server, tap):
    server.script(Step(status=401, body={"error": {"message": "no"}}))
    run(tap.url, QUESTION)

    agent, chat = tap.wait_for("invoke_agent gardener")
    for span in (agent, chat):
        assert (span.status, span.message, span.attributes["error.type"]) == (2, "", "auth")
    assert chat.attributes["gen_ai.response.finish_reasons"] == ["error"]
    metrics = tap.metrics("gen_ai.invoke_agent.duration", "gen_ai.client.inference.duration")
    assert metrics["gen_ai.client.inference.duration"][0]["attributes"]["error.type"] == "auth"
    assert metrics["gen_ai.invoke_agent.duration"][0]["attributes"]["error.type"] == "auth"
    assert "gen_ai.client.inference.usage.input_tokens" not in metrics


def test_an_answer_that_breaks_off_is_truncated(server, tap):
    server.script(Step(text=["a", "b"], fault=Fault.CUT, fault_after=1))
    run(tap.url, QUESTION)

    agent, chat = tap.wait_for("invoke_agent gardener")
    assert (agent.attributes["error.type"], chat.attributes["error.type"]) == ("truncated", "truncated")
    assert "gen_ai.response.time_to_first_chunk" in chat.attributes


def test_a_call_that_is_retried_is_one_span_and_the_retry_an_event(server, tap):
    server.script(Step(status=503, headers={"retry-after": "0"}), Step(text=ANSWER))
    run(tap.url, QUESTION)

    agent, chat = tap.wait_for("invoke_agent gardener")
    assert [(name, event["afk.attempt"]) for name, event in chat.events] == [("afk.retry", 2)]
    assert (agent.status, chat.status) == (0, 0)
    assert tap.metrics("gen_ai.client.inference.duration")["gen_ai.client.inference.duration"][0]["count"] == 1


def test_a_fallback_model_has_a_span_of_its_own(server, tap):
    server.script(Step(status=404, body={"error": {"message": "no"}}), Step(text=ANSWER))
    agent = Agent(name="gardener", model="openai/small", fail_safe=FailSafeConfig(fallback_models=["openai/large"]))
    run(tap.url, QUESTION, agent=agent)

    run_span, small, large = tap.wait_for("invoke_agent gardener")
    assert (small.name, small.status, large.name, large.status) == ("chat small", 2, "chat large", 0)
    assert (run_span.status, run_span.events) == (0, [("afk.warning", {"afk.warning.code": "fallback"})])


def test_a_limit_is_the_state_of_the_run_and_no_error(server, tap):
    server.script(call())
    agent = Agent(name="gardener", model="openai/small", tools=[water], fail_safe=FailSafeConfig(max_steps=2))
    run(tap.url, QUESTION, agent=agent)

    span = by_name(tap.wait_for("invoke_agent gardener"))["invoke_agent gardener"]
    assert (span.attributes["afk.run.state"], span.attributes["afk.run.reason"]) == ("degraded", "max_steps")
    assert span.status == 0


def test_runs_at_once_have_traces_of_their_own(server, tap):
    server.script(Step())
    results = run(tap.url, *(f"{QUESTION} {n}" for n in range(8)), at_once=True)

    spans = tap.spans()
    runs = {span.attributes["afk.run.id"]: span for span in spans if span.name == "invoke_agent gardener"}
    assert set(runs) == {result.run_id for result in results}
    assert len({span.trace for span in runs.values()}) == len({*conversations(runs.values())}) == 8
    for span in runs.values():
        [chat] = [other for other in spans if other.parent == span.id]
        assert (chat.trace, *conversations([chat])) == (span.trace, *conversations([span]))
    assert tap.metrics("gen_ai.invoke_agent.duration")["gen_ai.invoke_agent.duration"][0]["count"] == 8


def conversations(spans):
    return [span.attributes["gen_ai.conversation.id"] for span in spans]


def test_a_thread_has_one_conversation_id_whatever_its_name(server, tap):
    async def turns():
        agent = Agent(name="gardener", model="openai/small")
        async with Runner(store="memory", sinks=[afk_sink(Settings(endpoint=tap.url))]) as runner:
            await runner.run(agent, user_message=QUESTION, thread_id="canary-name")
            await runner.threads.rename("canary-name", "other")
            await runner.run(agent, user_message=QUESTION, thread_id="other")

    server.script(Step())
    asyncio.run(turns())

    tap.wait_for("invoke_agent gardener")
    assert len(tap.spans()) == 4
    assert len({*conversations(tap.spans())}) == 1
    assert "canary" not in tap.output.read_text()


def test_the_process_that_started_afk_is_the_parent(server, tap, monkeypatch):
    monkeypatch.setenv("TRACEPARENT", f"00-{'a' * 32}-{'b' * 16}-01")
    server.script(Step())
    run(tap.url, QUESTION)

    agent, chat = tap.wait_for("invoke_agent gardener")
    assert (agent.trace, agent.parent) == ("a" * 32, "b" * 16)
    assert (chat.trace, chat.parent) == ("a" * 32, agent.id)


@pytest.mark.parametrize("parent", ["", "no", f"00-{'0' * 32}-{'b' * 16}-01", f"ff-{'a' * 32}-{'b' * 16}-01"])
def test_an_invalid_parent_begins_a_new_trace(server, tap, monkeypatch, parent):
    monkeypatch.setenv("TRACEPARENT", parent)
    server.script(Step())
    run(tap.url, QUESTION)

    agent, _ = tap.wait_for("invoke_agent gardener")
    assert agent.parent == ""


def test_a_parent_that_is_not_sampled_means_no_spans(server, tap, monkeypatch):
    monkeypatch.setenv("TRACEPARENT", f"00-{'a' * 32}-{'b' * 16}-00")
    server.script(Step())
    run(tap.url, QUESTION)

    assert tap.spans() == []
    assert tap.metrics("gen_ai.invoke_agent.duration")["gen_ai.invoke_agent.duration"][0]["count"] == 1


@pytest.mark.parametrize(
    ("environment", "settings", "name"),
    [
        ({}, {}, "afk"),
        ({}, {"service_name": "garden"}, "garden"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=shed,team=a"}, {}, "shed"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "team=a"}, {}, "afk"),
    ],
)
def test_the_service_has_a_name(server, monkeypatch, environment, settings, name):
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    server.script(Step())
    with receiving() as receiver:
        run(receiver.url, QUESTION, **settings)

    [resource] = receiver.resources()
    assert resource["service.name"] == name
    assert resource.get("team") == ("a" if "OTEL_RESOURCE_ATTRIBUTES" in environment else None)


def test_headers_and_the_variables_of_one_signal_are_used(server, monkeypatch):
    server.script(Step())
    with receiving() as receiver, receiving() as other:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", f"{other.url}/of/metrics")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x-key=theirs")
        run(f"{receiver.url}/base/", QUESTION, headers="X-Key=a%20b, x-team=c")

    assert [path for path, _ in receiver.bodies] == ["/base/v1/traces"]
    assert (receiver.headers[0]["x-key"], receiver.headers[0]["x-team"]) == ("a b", "c")
    assert [path for path, _ in other.bodies] == ["/of/metrics"]
    assert other.headers[0]["x-key"] == "theirs"


@pytest.mark.parametrize(("variable", "path"), [("TRACES", "/v1/metrics"), ("METRICS", "/v1/traces")])
def test_a_signal_can_be_switched_off(server, monkeypatch, variable, path):
    monkeypatch.setenv(f"OTEL_{variable}_EXPORTER", "none")
    server.script(Step())
    with receiving() as receiver:
        run(receiver.url, QUESTION)

    assert {found for found, _ in receiver.bodies} == {path}


def test_nothing_is_sent_when_the_sdk_is_disabled(server, monkeypatch):
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    server.script(Step())
    with receiving() as receiver:
        run(receiver.url, QUESTION)

    assert receiver.bodies == []


@pytest.mark.parametrize("failure", ["down", "500", "400", "slow"])
def test_a_receiver_that_fails_costs_one_line_and_no_run(server, caplog, failure):
    server.script(Step(text=ANSWER))
    status = int(failure) if failure.isdigit() else 200
    with receiving(status=status, hangs=failure == "slow") as receiver:
        url = "http://user:canary-password@127.0.0.1:1" if failure == "down" else receiver.url
        [result] = run(url, QUESTION)
        receiver.released.set()

    assert (result.final_text, str(result.state)) == (ANSWER, "completed")
    [line] = [record.getMessage() for record in caplog.records if "otel" in record.getMessage().lower()]
    assert line.startswith("the sink 'otel' ")
    assert "the receiver http://127.0.0.1:" in line or "did not close within" in line
    assert "canary" not in line
    assert [record.name for record in caplog.records if record.name.startswith("opentelemetry")] == []


def test_the_sdk_of_a_program_goes_on_logging(server, caplog):
    server.script(Step())
    with receiving() as receiver:
        run(receiver.url, QUESTION)
    with caplog.at_level(logging.ERROR):
        logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").error("theirs")

    assert [record.getMessage() for record in caplog.records] == ["theirs"]
    from opentelemetry import metrics, trace

    assert "Proxy" in type(trace.get_tracer_provider()).__name__
    assert "Proxy" in type(metrics.get_meter_provider()).__name__


def test_a_sink_without_events_closes_at_once():
    afk_sink(Settings(endpoint="http://127.0.0.1:1")).close()


@pytest.mark.parametrize(
    "endpoint", ["localhost:4318", "ftp://host", "http://", "http://host:port", "http://[::1", "x"]
)
def test_an_endpoint_that_is_no_url_is_refused_without_its_value(endpoint):
    with pytest.raises(ConfigError, match=r"\[sinks.otel\] endpoint is not a URL") as refused:
        afk_sink(Settings(endpoint=endpoint))
    assert endpoint not in str(refused.value) or endpoint in ("x", "http://")


@pytest.mark.parametrize("headers", ["canary", "=canary", "a=b,canary", "a=b;,canary"])
def test_headers_that_are_not_pairs_are_refused_without_their_value(headers):
    with pytest.raises(ConfigError, match=r"\[sinks.otel\] headers are not name=value") as refused:
        afk_sink(Settings(headers=headers))
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ("openai/gpt-5.2-mini", ("openai", "gpt-5.2-mini")),
        ("anthropic/claude", ("anthropic", "claude")),
        ("local/smollm2", ("local", "smollm2")),
        ("litellm/groq/llama-3", ("groq", "llama-3")),
        ("litellm/bedrock/a/b", ("aws.bedrock", "a/b")),
        ("litellm/gpt", ("litellm", "gpt")),
        ("openai/meta/llama", ("openai", "meta/llama")),
    ],
)
def test_a_provider_has_the_name_of_the_conventions(model, named):
    assert provider_and_model(model) == named


def test_the_close_fits_into_the_time_that_afk_gives():
    assert afk_sink_otel.export.CLOSE_SECONDS < 1


@pytest.mark.parametrize("by_server", [False, True])
def test_calls_after_a_compaction_say_so(tap, by_server):
    header = {"run_id": "0197", "thread_id": "t", "thread_key": "key", "turn": 3, "ts": "2026-01-01T00:00:00.000Z"}
    numbers = itertools.count()

    def emit(kind, step=1, **values):
        sink.emit(kind(**header, seq=next(numbers), step=step, **values))

    def call(step):
        emit(StepStarted, step, attempt=1, request_sha256="00")
        if by_server and step == 2:
            emit(ContextEvent, step, **compaction)
        answer = {"message": text_message(Role.ASSISTANT, "a"), "usage": Usage()}
        emit(StepCompleted, step, finish_reason=FinishReason.STOP, **answer)

    compaction = {"message": "m", "window": 4000, "tokens_before": 9, "tokens_after": 1, "compacted_through": 2}
    sink = afk_sink(Settings(endpoint=tap.url))
    emit(RunStarted, 0, agent="gardener", model="openai/small", message="hi")
    emit(ContextEvent, 0, **{**compaction, "compacted_through": None, "dropped_through": 1})
    call(1)
    if not by_server:
        emit(ContextEvent, 1, **compaction)
    call(2)
    call(3)
    result = {"final_text": "a", "state": RunState.COMPLETED, "reason": None, "run_id": "0197", "thread_id": "t"}
    counts = {"usage": Usage(), "total_cost_usd": None, "steps": 3, "tool_executions": (), "denied": 0}
    emit(Completed, 3, result=AgentResult(**result, **counts, model="openai/small"))
    sink.close()

    spans = sorted(tap.wait_for("invoke_agent gardener"), key=lambda span: span.attributes.get("afk.step", 0))
    found = [span.attributes.get("gen_ai.conversation.compacted") for span in spans]
    assert found == [None, None, True, True]
