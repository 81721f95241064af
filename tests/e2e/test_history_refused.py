"""A server that refuses what it said itself in an earlier turn, and names it by its index, in three APIs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from afkcli.testing.model_server import ModelServer, ScriptedCall, Step
from tests.e2e.eye_tool import TOOL
from tests.e2e.shell import Shell

REFUSED = "poison"


def openai_error(path: str) -> dict[str, Any]:
    words = f"Invalid value for '{path}': it must not be empty."
    return {"error": {"message": words, "type": "invalid_request_error", "param": path, "code": None}}


def fastapi_error(path: str) -> dict[str, Any]:
    place = ["body", *(int(piece) if piece.isdigit() else piece for piece in path.split("."))]
    return {"detail": [{"type": "value_error", "loc": place, "msg": "it must not be empty"}]}


def anthropic_error(path: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": "invalid_request_error", "message": f"{path}: it must not be empty"}}


class StrictServer(ModelServer):
    """Refuses a message in which `refused` is, once `is_strict` is set; else it plays its script.

    Args:
        field: the list of messages in a body.
        error: returns the body of the refusal of the message at an index.
    """

    def __init__(self, field: str, error: Callable[[int], dict[str, Any]]) -> None:
        super().__init__()
        self.field = field
        self.error = error
        self.refused = REFUSED
        self.is_strict = False

    def next_step(self) -> Step:
        messages = self.requests[-1].body[self.field]
        if self.is_strict:
            for index, message in enumerate(messages):
                if self.refused in json.dumps(message):
                    return Step(status=400, body=self.error(index))
        return super().next_step()


APIS: dict[str, tuple[str, str, str, Callable[[int], dict[str, Any]]]] = {
    "chat": ("openai/m", "chat", "messages", lambda n: openai_error(f"messages.[{n}].content")),
    "chat of FastAPI": ("openai/m", "chat", "messages", lambda n: fastapi_error(f"messages.{n}.content")),
    "responses": ("openai/m", "responses", "input", lambda n: openai_error(f"input[{n}]")),
    "anthropic": ("anthropic/m", "auto", "messages", lambda n: anthropic_error(f"messages.{n}")),
}
"""The model, `api` of the openai plugin, where a body has its messages, and how one is refused."""


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def strict(api: str) -> Iterator[StrictServer]:
    with StrictServer(*APIS[api][2:]) as server:
        yield server


@pytest.fixture
def keyed(shell: Shell, strict: StrictServer, api: str) -> Shell:
    """A shell whose models are those of the strict server."""
    model, form, *_ = APIS[api]
    (shell.folder / "eye.py").write_text(TOOL)
    config = shell.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(f'[providers.openai]\napi = "{form}"\n')
    shell.env.update(
        OPENAI_BASE_URL=strict.base_url,
        OPENAI_API_KEY="sk-canary-0123456789",
        ANTHROPIC_BASE_URL=strict.base_url,
        ANTHROPIC_API_KEY="sk-ant-canary-0123456789",
        AFK_MODEL=model,
    )
    return shell


RUN = ("run", "--plugin", "eye.py", "--tool", "eye.*", "-t", "t")


def looks(*places: str) -> Step:
    calls = [ScriptedCall(name="eye__look", arguments={"place": place}, id=f"c{place}") for place in places]
    return Step(tool_calls=calls)


def said(server: StrictServer, number: int) -> str:
    return json.dumps(server.requests[number].body[server.field])


def stored(shell: Shell) -> str:
    return shell.in_process("threads", "show", "t", "--json").out


def test_the_earlier_turn_is_set_aside_and_the_question_is_answered(keyed: Shell, strict: StrictServer) -> None:
    strict.script(looks("A", "B"), Step(text="Seen."), Step(text="poison"), Step(text="Fine."), Step(text="Good."))
    assert keyed.in_process(*RUN, "first").code == 0
    assert keyed.in_process(*RUN, "second").code == 0
    before = stored(keyed)
    strict.is_strict = True

    third = keyed.in_process(*RUN, "third")

    assert (third.code, third.out) == (0, "Fine.\n")
    assert "refused turn 2 of this thread, not the new message" in third.err
    assert "must not be empty" in third.err
    assert len(strict.requests) == 5
    refused, sent = said(strict, 3), said(strict, 4)
    assert all(word in refused for word in ("first", "seen A", "seen B", "second", "poison", "third"))
    assert all(word in sent for word in ("first", "seen A", "seen B", "Seen.", "third"))
    assert not any(word in sent for word in ("second", "poison"))
    assert stored(keyed).startswith(before.rstrip("\n"))

    fourth = keyed.in_process(*RUN, "fourth")
    assert (fourth.code, fourth.out) == (0, "Good.\n")
    assert all(word in said(strict, -1) for word in ("third", "Fine.", "fourth"))


def test_a_turn_with_tool_calls_goes_as_a_whole(keyed: Shell, strict: StrictServer) -> None:
    strict.script(looks("A", "poison"), Step(text="Seen."), Step(text="Kept."), Step(text="Fine."))
    keyed.in_process(*RUN, "first")
    keyed.in_process(*RUN, "second")
    strict.is_strict = True

    third = keyed.in_process(*RUN, "third")

    assert (third.code, third.out) == (0, "Fine.\n")
    assert "refused turn 1 of this thread" in third.err
    sent = said(strict, -1)
    assert all(word in sent for word in ("second", "Kept.", "third"))
    assert not any(word in sent for word in ("first", "seen", "look", "Seen."))


def test_of_two_bad_turns_the_error_names_the_history_and_keeps_the_question(
    keyed: Shell, strict: StrictServer
) -> None:
    strict.script(Step(text="poison 1"), Step(text="poison 2"), Step(text="Fine."))
    keyed.in_process(*RUN, "first")
    keyed.in_process(*RUN, "second")
    strict.is_strict = True

    third = keyed.in_process(*RUN, "third")

    assert (third.code, third.out) == (4, "")
    assert len(strict.requests) == 4
    error = third.err.splitlines()[-1]
    assert "refused turn 2 of this thread (turn 1 was left out already), not the new message" in error
    assert "must not be empty; use another model, or start a new thread" in error

    strict.is_strict = False
    assert keyed.in_process(*RUN, "fourth").out == "Fine.\n"
    assert "third" in said(strict, -1)


def test_the_new_message_is_not_set_aside(keyed: Shell, strict: StrictServer) -> None:
    strict.script(Step(text="Fine."), Step(text="Good."))
    keyed.in_process(*RUN, "first")
    strict.is_strict = True

    second = keyed.in_process(*RUN, "poison")

    assert second.code == 4
    assert len(strict.requests) == 2
    assert "of this thread" not in second.err
    assert "change the request" in second.err
    third = keyed.in_process(*RUN, "third")
    assert (third.code, third.out) == (0, "Good.\n")
    assert "is left out from here on" in third.err


def test_one_call_is_the_limit_of_the_other_request_too(keyed: Shell, strict: StrictServer) -> None:
    strict.script(Step(text="poison"), Step(text="Fine."))
    keyed.in_process(*RUN, "first")
    strict.is_strict = True

    second = keyed.in_process(*RUN, "--max-llm-calls", "1", "second")

    assert second.code == 3
    assert len(strict.requests) == 2
    assert "refused turn 1 of this thread" in second.err
    assert "max_llm_calls" in second.err


def test_an_answer_of_reasoning_alone_does_not_end_a_thread(keyed: Shell, strict: StrictServer) -> None:
    strict.script(Step(text=[], reasoning=["hm"]), Step(text="Fine."))
    keyed.in_process(*RUN, "first")
    strict.refused, strict.is_strict = "(no text)", True

    second = keyed.in_process(*RUN, "second")

    assert (second.code, second.out) == (0, "Fine.\n")
    assert strict.refused not in said(strict, -1)


def test_instructions_with_a_schema_do_not_shift_the_place(keyed: Shell, strict: StrictServer) -> None:
    schema = keyed.folder / "schema.json"
    schema.write_text('{"type": "array", "items": {"type": "integer"}}')  # a list is told in words by most providers
    strict.script(Step(text="Kept."), Step(text="poison"), Step(text="[1]"))
    for question in ("first", "second"):
        keyed.in_process("run", "-t", "t", question)
    strict.is_strict = True

    third = keyed.in_process("run", "-t", "t", "--schema", str(schema), "third")

    assert (third.code, third.out) == (0, "[1]\n")
    assert "refused turn 2 of this thread" in third.err
    assert "Kept." in said(strict, -1)
