"""`--schema` through the installed `afk`: what a shell gets, what the server was asked, what a bad schema does."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from afkcli.core.contract.structured import MAX_SCHEMA_BYTES
from afkcli.testing.model_server import Fault, ModelServer, Step
from tests.e2e.shell import Finished, Shell

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "size": {"type": "integer"}},
    "required": ["city"],
}
BERN = '{"city": "Bern",\n "size": 3}'
LINE = '{"city":"Bern","size":3}\n'


@pytest.fixture
def schema(shell: Shell) -> str:
    (shell.folder / "city.json").write_text(json.dumps(CITY))
    return "city.json"


def ask(shell: Shell, schema: str, *more: str, **env: str) -> Finished:
    return shell.in_process("run", "-t", "t", "--schema", schema, *more, "Which city?", **env)


def test_the_answer_is_one_line_of_json(keyed: Shell, server: ModelServer, schema: str) -> None:
    server.script(Step(text=["```json\n", BERN, "\n```"]))

    done = ask(keyed, schema)

    assert (done.code, done.out, done.err) == (0, LINE, "")
    body = server.bodies[0]
    assert body["response_format"]["json_schema"] == {"name": "answer", "schema": CITY, "strict": False}
    assert json.dumps(CITY, separators=(",", ":")) in body["messages"][0]["content"]


def test_a_pattern_of_javascript_is_checked_and_one_of_another_dialect_is_passed_on(
    keyed: Shell, server: ModelServer
) -> None:
    server.script(Step(text='{"a": "Zoë", "b": "no"}'))
    schema = {"properties": {"a": {"pattern": r"^\p{L}+$"}, "b": {"pattern": "(?i)^YES$"}}}

    done = ask(keyed, json.dumps(schema))

    assert (done.code, done.out) == (0, '{"a":"Zoë","b":"no"}\n')
    assert done.err.count("\n") == 1
    assert "the pattern '(?i)^YES$' is not checked" in done.err


def test_a_schema_may_stand_on_the_command_line_or_come_from_a_pipe(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=BERN))
    reader, writer = os.pipe()
    os.write(writer, b"\xef\xbb\xbf" + json.dumps(CITY).encode())
    os.close(writer)

    given = ask(keyed, f" {json.dumps(CITY)}")
    process = keyed.start("run", "-t", "t", "--schema", f"/dev/fd/{reader}", "Which city?", pass_fds=[reader])
    out, _ = process.communicate(timeout=60)
    os.close(reader)

    assert (given.code, given.out) == (0, LINE)
    assert (process.returncode, out.decode()) == (0, LINE)
    assert [body["response_format"]["json_schema"]["schema"] for body in server.bodies] == [CITY, CITY]


def test_an_answer_that_does_not_fit_is_asked_for_again_and_never_on_stdout(
    keyed: Shell, server: ModelServer, schema: str
) -> None:
    server.script(Step(text='{"city": 7}'), Step(text=BERN))

    done = ask(keyed, schema)

    assert (done.code, done.out) == (0, LINE)
    assert done.err == (
        "afk: the answer of openai/gpt-5.2-mini does not fit the schema: city: 7 is not of type 'string'; asking once"
        " more\n"
    )
    said = [(message["role"], message["content"]) for message in server.bodies[1]["messages"]]
    assert [role for role, _ in said] == ["system", "user", "assistant", "user"]
    assert said[2][1] == '{"city": 7}'
    assert "city: 7 is not of type 'string'" in said[3][1]


def test_twice_it_is_the_error_and_the_turn_is_kept_sent_and_resumed(
    keyed: Shell, server: ModelServer, schema: str
) -> None:
    server.script(Step(text="Bern!"), Step(text="{}"), Step(text=BERN), Step(text="Yes."))

    failed = ask(keyed, schema)
    shown = keyed.afk("threads", "show", "t")
    resumed = keyed.afk("threads", "resume", "t", "--schema", schema)
    after = keyed.afk("run", "-t", "t", "Really?")

    assert (failed.code, failed.out) == (4, "")
    lines = failed.err.splitlines()
    assert len(lines) == 2
    assert lines[1] == (
        "afk: the answer of openai/gpt-5.2-mini does not fit the schema: the value: 'city' is a required property"
    )
    assert "failed (invalid_output)" in shown.out
    assert "assistant: Bern!" in shown.out
    assert (resumed.code, resumed.out) == (0, LINE)
    assert "'city' is a required property" in server.bodies[2]["messages"][-1]["content"]
    assert (after.code, after.out) == (0, "Yes.\n")
    assert "response_format" not in server.bodies[3]
    roles = [message["role"] for message in server.bodies[3]["messages"]]
    assert roles == ["user", "assistant", "user", "assistant", "user", "assistant", "user"]


def test_the_events_have_every_answer_and_the_result_the_valid_one(
    keyed: Shell, server: ModelServer, schema: str
) -> None:
    server.script(Step(text="no"), Step(text=BERN))

    done = ask(keyed, schema, "--json")

    assert done.code == 0
    deltas = [event["text_delta"] for event in done.events if event["type"] == "text_delta"]
    assert deltas == ["no", BERN]
    assert [event["code"] for event in done.events if event["type"] == "warning"] == ["invalid_output"]
    assert done.events[-1]["result"]["output"] == {"city": "Bern", "size": 3}
    failed = ask(keyed, '{"type": "boolean"}', "--json")
    assert failed.code == 4
    assert [event["kind"] for event in failed.events if event["type"] == "error"] == ["invalid_output"]
    assert failed.events[-1]["result"]["output"] is None


def test_what_is_cut_is_not_on_stdout(keyed: Shell, server: ModelServer, schema: str) -> None:
    server.script(
        Step(text='{"city": "B', finish_reason="length"),
        Step(text="no"),
        Step(text=[BERN, "x"], fault=Fault.CUT, fault_after=1),
    )

    long = ask(keyed, schema)
    limited = ask(keyed, schema, "--max-steps", "1")
    broken = ask(keyed, schema)

    assert [(done.code, done.out) for done in (long, limited, broken)] == [(3, ""), (3, ""), (4, "")]
    assert "the limit max_steps" in limited.err
    assert len(server.requests) == 3


def test_anthropic_is_given_the_schema_in_its_own_form(shell: Shell, server: ModelServer, schema: str) -> None:
    server.script(Step(text="no"), Step(text=BERN))
    shell.env.update(ANTHROPIC_BASE_URL=server.base_url, ANTHROPIC_API_KEY="sk-ant-canary-0123456789")

    done = ask(shell, schema, "-m", "claude-sonnet-5-5")

    assert (done.code, done.out) == (0, LINE)
    for body in server.bodies:
        form = body["output_config"]["format"]
        assert form == {"type": "json_schema", "schema": {**CITY, "additionalProperties": False}}
        assert "system" not in body
    assert [message["role"] for message in server.bodies[1]["messages"]] == ["user", "assistant", "user"]


def test_the_responses_api_is_given_the_schema_in_its_own_form(keyed: Shell, server: ModelServer, schema: str) -> None:
    server.script(Step(text=BERN))
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text('[providers.openai]\napi = "responses"\n')

    done = ask(keyed, schema)

    assert (done.code, done.out) == (0, LINE)
    assert server.requests[0].path.endswith("/responses")
    assert server.bodies[0]["text"]["format"] == {
        "type": "json_schema",
        "name": "answer",
        "schema": CITY,
        "strict": False,
    }


def test_a_server_that_refuses_schemas_gets_the_schema_in_the_instructions(
    keyed: Shell, server: ModelServer, schema: str
) -> None:
    server.script(Step(text=BERN))
    config = keyed.home / "afk" / "config" / "config.toml"
    config.parent.mkdir(parents=True)
    config.write_text("[providers.openai]\nstructured_output = false\n")

    assert ask(keyed, schema).out == LINE
    assert "response_format" not in server.bodies[0]
    assert json.dumps(CITY, separators=(",", ":")) in server.bodies[0]["messages"][0]["content"]


def test_the_answer_of_the_embedded_model_fits(shell: Shell) -> None:
    mood = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}

    done = ask(shell, json.dumps(mood), "-m", "local", AFK_LOCAL_THREADS="1")

    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["mood"] in ("good", "bad")


def test_characters_that_a_terminal_obeys_are_escaped(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text=json.dumps("\x1b[2J\u202e\x9b\x7f", ensure_ascii=False).replace("\\u001b", "\\u001b")))

    done = ask(keyed, '{"type": "string"}')

    assert json.loads(done.out) == "\x1b[2J\u202e\x9b\x7f"
    assert done.out.strip().isascii()


def write(folder: Path, text: str | bytes) -> str:
    path = folder / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return "bad.json"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "is not a usable JSON Schema: a JSON Schema is a JSON object"),
        ("true", "is not a usable JSON Schema"),
        ('{"type": "text"}', "is not a usable JSON Schema: type"),
        ('{"pattern": 5}', "is not a usable JSON Schema: pattern"),
        ('{"properties": {"a": {"$ref": "https://example.com/a.json"}}}', "nothing is fetched"),
        ('{"const": NaN}', "is not JSON"),
        ('{"a": 1, "a": 2}', "duplicate key"),
        (b"\xff\xfe{}", "is not UTF-8"),
        ("[" * 1000 + "]" * 1000, "nested deeper"),
        (f'{{"description": "{"x" * MAX_SCHEMA_BYTES}"}}', "is longer than 256 KiB"),
    ],
)
def test_a_bad_schema_is_refused_before_anything_runs(
    keyed: Shell, server: ModelServer, content: str | bytes, why: str
) -> None:
    done = ask(keyed, write(keyed.folder, content))

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("afk: --schema bad.json ")
    assert why in done.err
    assert done.err.count("\n") == 1
    assert not server.requests
    assert keyed.afk("threads").out == ""


@pytest.mark.parametrize("given", ["missing.json", ".", "-", "", "a\x1bb", '{"type": 3}', '{"a"'])
def test_an_unreadable_schema_is_refused_with_one_line(keyed: Shell, server: ModelServer, given: str) -> None:
    done = ask(keyed, given)

    assert (done.code, done.out) == (2, "")
    assert done.err.count("\n") == 1
    assert "\x1b" not in done.err
    assert "--schema" in done.err
    assert not server.requests


def test_an_endless_schema_is_read_up_to_the_size_limit(keyed: Shell) -> None:
    done = ask(keyed, "/dev/zero")

    assert done.code == 2
    assert "longer than" in done.err


PYTHON = """
from pydantic import BaseModel
from afkcli import Agent, Runner

class City(BaseModel):
    city: str
    size: int | None = None

agent = Agent(model="gpt-5.2-mini", output_type=City)
result = Runner().run_sync(agent, user_message="Which city?", thread_id="t")
print(repr(result.output), result.steps)
"""


def test_a_script_gets_an_object_of_its_model(keyed: Shell, server: ModelServer) -> None:
    server.script(Step(text='{"size": 3}'), Step(text=BERN))
    script = keyed.folder / "city.py"
    script.write_text(PYTHON)

    done = keyed.python(script)

    assert (done.code, done.out) == (0, "City(city='Bern', size=3) 2\n")
    wanted: Any = server.bodies[0]["response_format"]["json_schema"]
    assert wanted["strict"] is True
    assert wanted["schema"]["required"] == ["city", "size"]
    assert "city: Field required" in server.bodies[1]["messages"][-1]["content"]
