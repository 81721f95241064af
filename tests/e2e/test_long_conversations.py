"""A thread that outgrows the window of its model, on the command line and over HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from afkcli.testing.model_server import ModelServer, Step
from tests.e2e.shell import Shell, roles_and_texts

WORDS = "word " * 100


def with_config(shell: Shell, text: str) -> None:
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(text)


@pytest.fixture
def small(keyed: Shell) -> Shell:
    """A shell whose config says that the model has a window of 1,000 tokens; each question has about 125."""
    with_config(keyed, '[windows]\n"openai/gpt-5.2-mini" = 1000\n')
    return keyed


def test_old_turns_are_left_out_with_a_line_and_the_thread_keeps_them(small: Shell, server: ModelServer) -> None:
    said = [small.in_process("run", "-t", "t", f"{number} {WORDS}") for number in range(12)]
    assert [done.code for done in said] == [0] * 12
    assert said[0].err == ""
    assert "left out of the request: turns 1 to " in said[-1].err
    assert "does not fit into the 1,000 tokens of openai/gpt-5.2-mini" in said[-1].err
    texts = [text for role, text in roles_and_texts(server.bodies[-1]) if role == "user"]
    assert 1 < len(texts) < 7
    assert texts[-1].startswith("11 ")
    assert len(small.in_process("threads", "show", "t", "--json").events) == 12


def test_in_json_it_is_an_event(small: Shell) -> None:
    for number in range(8):
        done = small.in_process("run", "--json", "-t", "t", f"{number} {WORDS}")
    [event] = [event for event in done.events if event["type"] == "context"]
    assert (event["window"], event["marked_through"], event["own_results"]) == (1000, event["dropped_through"], 0)
    assert event["tokens_after"] < event["tokens_before"]


def test_a_message_that_is_too_long_is_refused_before_it_is_sent(small: Shell, server: ModelServer) -> None:
    done = small.in_process("run", "-t", "t", WORDS * 20)
    assert (done.code, done.out, server.bodies) == (4, "", [])
    assert "the message has about 2,5" in done.err
    assert "shorten it" in done.err


def test_the_policy_refuse_sends_nothing(small: Shell, server: ModelServer) -> None:
    for number in range(5):
        assert small.in_process("run", "-t", "t", f"{number} {WORDS}").code == 0
    asked = len(server.bodies)
    codes = {small.in_process("run", "-t", "t", "--context", "refuse", f"{number} {WORDS}").code for number in range(4)}
    assert 4 in codes
    assert len(server.bodies) < asked + 4


def test_a_server_that_refuses_is_asked_once_more_with_less(keyed: Shell, server: ModelServer) -> None:
    for number in range(6):
        keyed.in_process("run", "-t", "t", f"{number} {WORDS}")
    refusal = {
        "error": {
            "message": "This model's maximum context length is 600 tokens. However, your messages resulted in 900.",
            "code": "context_length_exceeded",
        }
    }
    server.script(Step(status=400, body=refusal), Step(text="shorter"))
    done = keyed.in_process("run", "-t", "t", "and now?")
    assert (done.code, done.out) == (0, "shorter\n")
    assert "more is left out, and it is asked once more" in done.err
    assert len(server.bodies[-1]["messages"]) < len(server.bodies[-2]["messages"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[windows]\n"openai/x" = "large"\n', "line 2: 'windows.openai/x' must be an integer"),
        ('[windows]\n"openai/x" = 10\n', "line 2: 'windows.openai/x' must be a number of tokens"),
        (
            '[context]\npolicy = "cut"\n',
            "line 2: 'context.policy' the context policy must be one of trim, compact, native, refuse",
        ),
        ("[context]\nkeep = 3\n", "line 2: 'context.keep' keep must be a number from 0.1 to 0.9"),
        ("[agents.a.context]\nkept = 3\n", "unknown key 'agents.a.context.kept'; did you mean 'keep'?"),
    ],
)
def test_a_wrong_setting_is_named_with_its_line(keyed: Shell, text: str, said: str) -> None:
    with_config(keyed, text)
    done = keyed.in_process("run", "hi")
    assert done.code == 2
    assert said in done.err


def test_a_project_without_trust_does_not_choose_the_window(keyed: Shell, server: ModelServer) -> None:
    (Path(keyed.folder) / "afk.toml").write_text('[windows]\n"openai/gpt-5.2-mini" = 256\n')
    done = keyed.in_process("run", "-t", "t", WORDS * 4)
    assert done.code == 0
    assert len(server.bodies) == 1
