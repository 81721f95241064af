"""Anthropic's models through the installed `afk`, against the scripted server."""

from __future__ import annotations

import pytest

from afkcli.testing.model_server import Fault, ModelServer, ScriptedUsage, Step
from tests.e2e.shell import Shell

KEY = "sk-ant-canary-0123456789"


@pytest.fixture
def keyed(shell: Shell, server: ModelServer) -> Shell:
    """A shell whose Anthropic server is the scripted one."""
    shell.env.update(ANTHROPIC_BASE_URL=server.base_url, ANTHROPIC_API_KEY=KEY)
    return shell


def test_a_thread_continues_with_its_thinking_and_in_its_own_cache(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=["one"], reasoning=["hm"]), Step(text=["two"]))

    first = keyed.afk("run", "-m", "anthropic/claude-x", "-t", "t", "first")
    second = keyed.afk("run", "-t", "t", "second")

    assert (first.code, first.out) == (0, "one\n")
    assert (second.code, second.out) == (0, "two\n")
    one, two = server.requests
    assert one.path == two.path == "/v1/messages"
    assert one.body["model"] == two.body["model"] == "claude-x"
    mark = {"cache_control": {"type": "ephemeral"}}
    assert one.body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "first", **mark}]}]
    assert two.body["messages"] == [
        *one.body["messages"],
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "signature-1"},
                {"type": "text", "text": "one"},
            ],
        },
        {"role": "user", "content": [{"type": "text", "text": "second", **mark}]},
    ]


def test_a_bare_model_name_finds_the_provider(keyed: Shell, server: ModelServer) -> None:
    assert keyed.afk("run", "-m", "claude-x", "hi").out == "reply 1: hi\n"
    assert server.bodies[0]["model"] == "claude-x"


def test_its_key_alone_names_the_model_of_a_bare_run(keyed: Shell, server: ModelServer) -> None:
    done = keyed.afk("run", "hi")

    assert (done.code, done.out) == (0, "reply 1: hi\n")
    assert [request.path for request in server.requests] == ["/v1/messages"]
    assert server.bodies[0]["model"].startswith("claude-")


def test_with_both_keys_openai_answers_and_stderr_says_so(keyed: Shell, server: ModelServer) -> None:
    done = keyed.afk("run", "hi", OPENAI_API_KEY="sk-canary-0123456789", OPENAI_BASE_URL=server.base_url)

    assert (done.code, done.out) == (0, "reply 1: hi\n")
    assert [request.path for request in server.requests] == ["/v1/chat/completions"]
    assert "using openai" in done.err
    assert "ANTHROPIC_API_KEY" in done.err


def test_with_both_keys_a_model_that_was_named_is_not_talked_about(keyed: Shell, server: ModelServer) -> None:
    done = keyed.afk("run", "-t", "t", "-m", "claude-x", "hi", OPENAI_API_KEY="sk-canary-0123456789")

    assert (done.code, done.out, done.err) == (0, "reply 1: hi\n", "")


def test_a_missing_key_is_named_before_anything_runs(shell: Shell) -> None:
    done = shell.afk("run", "-m", "anthropic/claude-x", "hi")

    assert (done.code, done.out) == (2, "")
    assert "ANTHROPIC_API_KEY" in done.err
    assert done.err.count("\n") == 1, done.err


def test_a_refused_key_is_one_line_without_the_key(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(status=401, body={"error": {"type": "authentication_error", "message": f"invalid: {KEY}"}}))

    done = keyed.afk("run", "-m", "anthropic/claude-x", "hi")

    assert (done.code, done.out) == (4, "")
    assert "refused the key" in done.err
    assert KEY not in done.err
    assert len(server.requests) == 1


def test_an_overloaded_server_is_asked_again(keyed: Shell, server: ModelServer) -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    server.script(Step(status=529, headers={"Retry-After": "0"}, body=error), Step(text="ok"))

    done = keyed.afk("run", "-m", "anthropic/claude-x", "hi")

    assert (done.code, done.out) == (0, "ok\n")
    assert "Overloaded" in done.err
    assert len(server.requests) == 2


def test_a_stream_that_breaks_keeps_the_text_so_far(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=["half", " done"], fault=Fault.ERROR_EVENT, fault_after=1), Step(text="ok"))

    broken = keyed.afk("run", "-m", "anthropic/claude-x", "-t", "t", "first")
    again = keyed.afk("run", "-t", "t", "second")

    assert broken.code == 4
    assert broken.out.startswith("half")
    assert again.out == "ok\n"
    assert [message["role"] for message in server.bodies[1]["messages"]] == ["user", "assistant", "user"]
    assert "half" in str(server.bodies[1]["messages"][1])


def test_an_option_that_the_model_refuses_is_named_before_anything_is_sent(keyed: Shell, server: ModelServer) -> None:
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text('[agents.cold]\nmodel = "claude-opus-5-5"\n[agents.cold.options]\ntemperature = 0\n')

    done = keyed.afk("run", "-a", "cold", "hi")

    assert (done.code, done.out) == (2, "")
    assert "does not accept the option 'temperature'; it accepts: max_output_tokens, reasoning_effort" in done.err
    assert done.err.count("\n") == 1, done.err
    assert server.requests == []
    assert keyed.afk("threads").out == ""


def test_a_cache_that_lasts_an_hour_is_asked_for_and_paid_for(keyed: Shell, server: ModelServer) -> None:
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    price = '[prices."anthropic/claude-x"]\ninput = 4\noutput = 20\ncache_write = 5\n'
    config.write_text(f'{price}[providers.anthropic]\ncache_ttl = "1h"\n')
    used = ScriptedUsage(input_tokens=1_000, output_tokens=0, written_tokens=900, written_1h_tokens=700)
    server.script(Step(text="one", usage=used))
    done = keyed.in_process("run", "--json", "-m", "anthropic/claude-x", "-t", "t", "first")
    [block] = server.bodies[0]["messages"][0]["content"]
    assert block["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    result = done.events[-1]["result"]
    assert result["usage"]["cache_creation_1h_input_tokens"] == 700
    assert result["total_cost_usd"] == pytest.approx((100 * 4 + 200 * 5 + 700 * 8) / 1_000_000)
    [thread] = keyed.in_process("threads", "--json").events
    assert thread["total_cost_usd"] == pytest.approx(result["total_cost_usd"])
