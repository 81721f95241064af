"""A proxy that others wrote, LiteLLM's: afk asks it in every API that it serves, with models of two APIs behind it.

`.ci/litellm` runs this, in CI too; without `AFK_TEST_LITELLM_PROXY` it is left out.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from afkcli.testing.model_server import Fault, RecordedRequest, ScriptedCall, Step
from tests.dialects import transcript
from tests.dialects.dialect import ANSWER, CALLS, HALF, QUESTION, REASONING, RESULTS, TOOL, WIRE_TOOL, Api
from tests.dialects.play import GARDEN
from tests.e2e.shell import LIMIT, Finished, Shell, wait_for_output
from tests.litellm_proxy import CLAUDE_MODEL, KEY, OPENAI_MODEL, LiteLLMProxy, running

WRONG_KEY = "sk-canary-wrong-0123456789"
IDS = ("call_beans", "call_chard")
TOOL_CALLS = [
    ScriptedCall(name=WIRE_TOOL, arguments=arguments, id=id_) for id_, arguments in zip(IDS, CALLS, strict=True)
]


@dataclass(frozen=True, slots=True)
class Route:
    """How the proxy is asked, and the API in which it then asks the server behind it.

    `gives_back` is what that server has to get back of the reasoning of a step with calls.
    """

    provider: str
    api: str
    model: str
    behind: Api
    gives_back: str


ROUTES = {
    "chat": Route("openai", "chat", OPENAI_MODEL, Api.CHAT, '"reasoning_content": "{reasoning}"'),
    "chat to Claude": Route("openai", "chat", CLAUDE_MODEL, Api.MESSAGES, '"signature": "signature-{n}"'),
    "responses": Route("openai", "responses", OPENAI_MODEL, Api.RESPONSES, '"encrypted_content": "encrypted-{n}"'),
    "messages": Route("anthropic", "auto", CLAUDE_MODEL, Api.MESSAGES, '"signature": "signature-{n}"'),
    "messages to OpenAI": Route(
        "anthropic", "auto", OPENAI_MODEL, Api.RESPONSES, '"encrypted_content": "encrypted-{n}"'
    ),
}
if importlib.util.find_spec("litellm") is not None:
    ROUTES["litellm to Claude"] = Route(
        "litellm", "auto", f"litellm_proxy/{CLAUDE_MODEL}", Api.MESSAGES, '"signature": "signature-{n}"'
    )


@pytest.fixture(scope="module")
def proxy() -> Iterator[LiteLLMProxy]:
    with running() as started:
        yield started


@dataclass
class Talk:
    """One thread, `t`, of one route."""

    shell: Shell
    proxy: LiteLLMProxy
    route: Route

    def arguments(self, model: str = "") -> list[str]:
        name = f"{self.route.provider}/{self.route.model}"
        if model:
            name = f"{name.rpartition('/')[0]}/{model}"
        return ["run", "--json", "-t", "t", "-m", name, "--plugin", "garden.py", "--tool", TOOL, QUESTION]

    def configure(self, key: str) -> None:
        config = self.shell.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        url = self.proxy.origin
        tables = {
            "openai": f'base_url = "{url}/v1"\napi = "{self.route.api}"',
            "anthropic": f'base_url = "{url}"',
            "litellm": f'base_url = "{url}/v1"',
        }
        text = "".join(f'[providers.{name}]\n{table}\napi_key = "{key}"\n' for name, table in tables.items())
        config.write_text(f"retry_delay = 0.01\n{text}")

    def run(self, *arguments: str) -> Finished:
        # LiteLLM takes seconds to import: once for all tests.
        run = self.shell.in_process if self.route.provider == "litellm" else self.shell.afk
        return run(*arguments)

    def ask(self, *steps: Step, model: str = "", key: str = KEY) -> tuple[Finished, list[RecordedRequest]]:
        """Ask the question; return what afk wrote, and the requests that came to the server behind the proxy."""
        before = len(self.proxy.upstream.requests)
        self.proxy.upstream.script(*steps or [Step()])
        self.configure(key)
        return self.run(*self.arguments(model)), self.proxy.upstream.requests[before:]

    def stored(self) -> list[str]:
        """Return the lines of the stored messages."""
        records = self.shell.in_process("threads", "export", "t").events
        seals = [json.loads(record["body"]) for record in records if record.get("kind") == "seal"]
        return transcript.stored(message for seal in seals for message in seal["messages"])


@pytest.fixture(params=ROUTES)
def talk(request: pytest.FixtureRequest, shell: Shell, proxy: LiteLLMProxy) -> Talk:
    route = ROUTES[request.param]
    (shell.folder / "garden.py").write_text(GARDEN)
    talk = Talk(shell, proxy, route)
    talk.configure(KEY)
    return talk


def shown(done: Finished, kind: str) -> str:
    return "".join(event[kind] for event in done.events if event["type"] == kind)


def sent(talk: Talk, request: RecordedRequest) -> list[str]:
    """Return the conversation of a request, without the instructions."""
    return [line for line in transcript.sent(talk.route.behind, request.body) if not line.startswith("system: ")]


def result(done: Finished) -> dict[str, Any]:
    value: dict[str, Any] = done.events[-1]["result"]
    return value


USER, TEXT = f"user: {QUESTION}", f"assistant: {''.join(ANSWER)}"
THOUGHT = f"reasoning: {''.join(REASONING)}"
STEP = [*(f"call: {TOOL} {arguments}" for arguments in CALLS), *(f"result: {text}" for text in RESULTS)]


def test_a_plain_turn_through_the_proxy(talk: Talk) -> None:
    done, requests = talk.ask(Step(text=ANSWER))
    assert (done.code, done.err) == (0, "")
    assert shown(done, "text_delta") == "".join(ANSWER)
    assert talk.stored() == [USER, TEXT]
    assert [sent(talk, request) for request in requests] == [[USER]]
    usage = result(done)["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["unknown"]) == (12, 7, [])


def test_streamed_reasoning_through_the_proxy(talk: Talk) -> None:
    done, requests = talk.ask(Step(reasoning=REASONING, text=ANSWER))
    assert (done.code, done.err) == (0, "")
    assert shown(done, "reasoning_delta") == "".join(REASONING)
    assert shown(done, "text_delta") == "".join(ANSWER)
    assert talk.stored() == [USER, THOUGHT, TEXT]
    assert [sent(talk, request) for request in requests] == [[USER]]


def test_two_calls_and_a_second_step_through_the_proxy(talk: Talk) -> None:
    done, requests = talk.ask(Step(reasoning=REASONING, tool_calls=TOOL_CALLS), Step(text=ANSWER))
    assert (done.code, done.err) == (0, "")
    assert shown(done, "reasoning_delta") == "".join(REASONING)
    assert shown(done, "text_delta") == "".join(ANSWER)
    assert talk.stored() == [USER, THOUGHT, *STEP, TEXT]
    assert [sent(talk, request) for request in requests] == [[USER], [USER, *STEP]]
    wanted = talk.route.gives_back.format(n=requests[0].n, reasoning="".join(REASONING))
    assert wanted in json.dumps(requests[1].body)

    again, (later,) = talk.ask(Step(text="Seven."))
    assert (again.code, shown(again, "text_delta")) == (0, "Seven.")
    assert sent(talk, later) == [USER, *STEP, TEXT, USER]


def test_a_model_that_the_proxy_does_not_have_is_named_and_keeps_the_question(talk: Talk) -> None:
    done, requests = talk.ask(model="no-such-model")
    assert (done.code, result(done)["error_kind"]) == (4, "not_found")
    assert "Invalid model name passed in model=no-such-model" in result(done)["error"]
    assert "retrying" not in done.types()
    assert requests == []
    again, (later,) = talk.ask(Step(text=ANSWER))
    assert (again.code, again.err) == (0, "")
    assert "".join(sent(talk, later)).count(QUESTION) == 2


def test_a_key_that_the_proxy_refuses_is_said_and_keeps_the_question(talk: Talk) -> None:
    done, requests = talk.ask(key=WRONG_KEY)
    assert (done.code, result(done)["error_kind"]) == (4, "auth")
    assert "refused the key" in result(done)["error"]
    assert WRONG_KEY not in done.err + done.out
    assert "retrying" not in done.types()
    assert requests == []
    again, (later,) = talk.ask(Step(text=ANSWER))
    assert (again.code, again.err) == (0, "")
    assert "".join(sent(talk, later)).count(QUESTION) == 2


def test_a_rate_limit_behind_the_proxy_is_waited_for(talk: Talk) -> None:
    refusal = Step(status=429, body={"error": {"message": "mark: too fast", "type": "rate_limit_error"}})
    done, requests = talk.ask(refusal, Step(text=ANSWER))
    assert done.code == 0
    [retry] = [event for event in done.events if event["type"] == "retrying"]
    assert "limits the rate" in retry["error"]
    assert "mark: too fast" in retry["error"]
    assert shown(done, "text_delta") == "".join(ANSWER)
    assert talk.stored() == [USER, TEXT]
    assert [sent(talk, request) for request in requests] == [[USER], [USER]]


def test_an_answer_that_breaks_off_behind_the_proxy_keeps_what_came(talk: Talk) -> None:
    upstream, before = talk.proxy.upstream, len(talk.proxy.upstream.requests)
    upstream.script(Step(text=[*HALF, "lost"], fault=Fault.CUT, fault_after=len(HALF), fault_waits=True))
    process = talk.shell.start(*talk.arguments())
    out = wait_for_output(process, json.dumps(HALF[-1])[1:-1].encode())
    upstream.release()
    rest, err = process.communicate(timeout=LIMIT)
    done = Finished(process.returncode, (out + rest).decode(), err.decode())
    assert (done.code, result(done)["error_kind"]) == (4, "truncated")
    assert shown(done, "text_delta") == "".join(HALF)
    assert "not completed" in result(done)["error"]
    assert talk.stored() == [USER, f"assistant: {''.join(HALF)}"]
    assert [sent(talk, request) for request in upstream.requests[before:]] == [[USER]]


def test_a_key_that_the_server_behind_the_proxy_refuses_is_said_once(talk: Talk) -> None:
    refusal = Step(status=401, body={"error": {"message": "mark: bad key upstream", "code": "invalid_api_key"}})
    done, requests = talk.ask(refusal)
    assert (done.code, result(done)["error_kind"]) == (4, "auth")
    assert "mark: bad key upstream" in result(done)["error"]
    assert len(requests) == 1


def test_an_answer_with_a_schema_through_the_proxy_is_json_alone(talk: Talk) -> None:
    schema = {"type": "object", "properties": {"litres": {"type": "integer"}}, "required": ["litres"]}
    (talk.shell.folder / "schema.json").write_text(json.dumps(schema))
    talk.proxy.upstream.script(Step(reasoning=REASONING, text=['{"litres"', ": 12}"]))
    name = f"{talk.route.provider}/{talk.route.model}"
    done = talk.run("run", "-t", "t", "-m", name, "--schema", "schema.json", QUESTION)
    assert (done.code, done.out, done.err) == (0, '{"litres":12}\n', "")
