"""How a prompt of a batch is asked, and what becomes its result: real runs against a scripted server."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from afkcli.batch.asking import flags_of_prompt, question_of, remember
from afkcli.batch.prompt import Defaults, defaults_from_json
from afkcli.batch.result_schema import results_schema
from afkcli.batch.result_table import COLUMNS, header_line, table_line
from afkcli.batch.results import refused, result_of, row_of
from afkcli.core.contract.engine import PromptState, SettledPrompt
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.ids import rfc3339, uuid7
from afkcli.core.contract.jsonform import JsonObject, dumps, loads
from afkcli.core.contract.protocols import ThreadInfo
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.host.paths import config_file
from afkcli.testing.model_server import ModelServer, RecordedRequest, Step
from afkcli.wiring.agents import agent_for
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.runner import Runner
from tests.batch.conftest import Read
from tests.batch.test_reading import PNG, lines

MODEL = "openai/test-model"


@pytest.fixture
def steps() -> list[Step]:
    return []


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, steps: list[Step]) -> Iterator[ModelServer]:
    def answer(request: RecordedRequest) -> Step:
        return steps[min(request.n, len(steps)) - 1] if steps else Step()

    with ModelServer(answer=answer) as model_server:
        monkeypatch.setenv("OPENAI_BASE_URL", model_server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "key")
        yield model_server


def ask(request: JsonObject, defaults: Defaults) -> JsonObject:
    """Ask one prompt, as a worker of a batch does, and return its row."""
    request = loads(dumps(request))  # as an engine keeps it
    return asyncio.run(_ask(request, defaults_from_json(loads(dumps(defaults.to_json())))))


async def _ask(request: JsonObject, defaults: Defaults) -> JsonObject:
    setup, store, started = load_setup(), MemoryStore(), time.time()
    runner = Runner(store=store, sinks=(), setup=setup)
    question, name = question_of(request), uuid7()
    if question.history:
        remember(store, question.history, name)
    try:
        handle = await runner.start(
            lambda thread: agent_for(setup, flags_of_prompt(defaults, request), thread),
            user_message=question.message,
            attachments=question.attachments,
            thread_id=name,
            create=not question.history,
        )
    except UsageError as error:
        state, result = PromptState.FAILED, refused(request, error, started=started, ended=time.time())
    else:
        async with handle:
            ended = await handle.wait()
        state, result = result_of(request, ended, exception=handle.exception, started=started, sealed=time.time())
    await runner.aclose()
    return row(state, result)


def row(state: PromptState, result: JsonObject) -> JsonObject:
    kept = SettledPrompt(sequence=1, id="p-1", index=0, digest="", state=state, attempts=1, result=loads(dumps(result)))
    found = row_of(kept)
    jsonschema.Draft202012Validator(results_schema()).validate(loads(dumps(found)))
    return found


class TestAsked:
    def test_a_message_is_answered(self, server: ModelServer, read: Read) -> None:
        (prompt,) = read(lines({"message": "Hi", "metadata": {"gold": "x"}, "custom_id": "p-1"}))
        found = ask(prompt.request, Defaults(model=MODEL, instructions="Be brief.", options={"temperature": 0.5}))
        assert (found["state"], found["text"], found["error"]) == ("done", "reply 1: Hi", None)
        assert (found["finish_reason"], found["model"], found["steps"]) == ("stop", MODEL, 1)
        assert (found["custom_id"], found["metadata"]) == ("p-1", {"gold": "x"})
        assert found["usage"]["input_tokens"] > 0
        (body,) = server.bodies
        assert body["temperature"] == 0.5
        assert [message["role"] for message in body["messages"]] == ["system", "user"]

    def test_what_a_prompt_says_goes_before_the_command_line(self, server: ModelServer, read: Read) -> None:
        own = {"message": "Hi", "model": "openai/other", "options": {"seed": 1}, "instructions": "Own."}
        (prompt,) = read(lines(own))
        ask(prompt.request, Defaults(model=MODEL, instructions="All.", options={"seed": 2, "temperature": 0}))
        (body,) = server.bodies
        assert (body["model"], body["seed"], body["temperature"]) == ("other", 1, 0)
        assert body["messages"][0]["content"] == "Own."

    def test_the_messages_before_it_are_sent_with_their_images(self, server: ModelServer, read: Read) -> None:
        url = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
        messages = [
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}, "What is it?"]},
            {"role": "assistant", "content": "A cat."},
            {"role": "user", "content": "And now?"},
        ]
        (prompt,) = read(lines({"messages": messages}))
        assert ask(prompt.request, Defaults(model=MODEL))["text"] == "reply 1: And now?"
        (body,) = server.bodies
        first, second, third = body["messages"]
        assert [part.get("text") for part in first["content"]] == [None, "What is it?"]
        assert first["content"][0]["image_url"]["url"] == url
        assert (second["content"], third["content"]) == ("A cat.", "And now?")

    def test_a_file_is_attached(self, server: ModelServer, read: Read, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("Buy milk.")
        (prompt,) = read(lines({"message": "Sum up", "attachments": ["notes.txt"]}))
        ask(prompt.request, Defaults(model=MODEL))
        assert "Buy milk." in json.dumps(server.bodies[0]["messages"])

    def test_a_file_that_changed_since_is_not_sent(self, server: ModelServer, read: Read, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("Buy milk.")
        (prompt,) = read(lines({"message": "Sum up", "attachments": ["notes.txt"]}))
        (tmp_path / "notes.txt").write_text("Buy bread.")
        with pytest.raises(UsageError, match=r"notes.txt has changed since the batch read it"):
            question_of(prompt.request)
        assert server.requests == []

    def test_an_answer_that_fits_a_schema_is_the_output(
        self, server: ModelServer, steps: list[Step], read: Read
    ) -> None:
        steps.append(Step(text=['{"label": "cat"}']))
        schema = {"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}
        (prompt,) = read(lines({"message": "Hi", "schema": schema}))
        found = ask(prompt.request, Defaults(model=MODEL))
        assert (found["state"], found["output"], found["text"]) == ("done", {"label": "cat"}, None)


class TestFailed:
    def test_a_server_that_refuses_gives_its_status(self, server: ModelServer, steps: list[Step], read: Read) -> None:
        steps.append(Step(status=400, body={"error": {"message": "no", "type": "invalid_request_error"}}))
        (prompt,) = read(lines("Hi"))
        found = ask(prompt.request, Defaults(model=MODEL))
        assert found["state"] == "failed"
        assert (found["error"]["kind"], found["error"]["status"]) == ("bad_request", 400)

    def test_an_answer_that_was_cut_failed_with_its_text(
        self, server: ModelServer, steps: list[Step], read: Read
    ) -> None:
        steps.append(Step(text=["half an"], finish_reason="length"))
        (prompt,) = read(lines("Hi"))
        found = ask(prompt.request, Defaults(model=MODEL))
        assert (found["state"], found["text"], found["finish_reason"]) == ("failed", "half an", "length")
        assert found["error"]["message"] == "the answer was cut by the model's output limit"

    def test_a_run_that_cannot_start_has_no_cost(self, server: ModelServer, read: Read) -> None:
        (prompt,) = read(lines({"message": "Hi", "model": "openai/test-model"}))
        found = ask(prompt.request | {"options": {"temperature": 9}}, Defaults())
        assert (found["state"], found["error"]["kind"], found["cost_usd"]) == ("failed", "usage", 0.0)

    @pytest.mark.parametrize(("state", "kind"), [(PromptState.PARKED, "parked"), (PromptState.CANCELLED, "cancelled")])
    def test_a_prompt_without_a_result_says_why(self, state: PromptState, kind: str) -> None:
        found = row(state, {})
        assert (found["state"], found["error"]["kind"]) == (kind, kind)


class TestTable:
    @pytest.mark.parametrize(
        ("text", "cell"),
        [("=1+1", "'=1+1"), ("-1", "-1"), ("+0.5", "+0.5"), ("-1e3", "-1e3"), ("-a", "'-a"), ("a,b", '"a,b"')],
    )
    def test_has_no_formulas_and_keeps_numbers(self, text: str, cell: str) -> None:
        assert table_line(row(PromptState.DONE, {"text": text})).startswith(f"p-1,done,{cell},")

    def test_has_a_cell_for_each_column(self) -> None:
        result: dict[str, Any] = {"output": {"a": 1}, "usage": {"input_tokens": 3}, "metadata": {"x": "y"}}
        line = table_line(row(PromptState.DONE, result))
        assert line == 'p-1,done,,"{""a"":1}",,,,,,,3,,,0,1,,,,"{""x"":""y""}"'
        assert header_line().split(",") == list(COLUMNS)


class TestDefaultModel:
    """What a prompt without a model is asked on a machine whose config has other models."""

    @pytest.fixture(autouse=True)
    def other_config(self, monkeypatch: pytest.MonkeyPatch) -> None:
        config_file(dict(os.environ)).write_text('model = "openai/own"\n[agents.judge]\nmodel = "openai/of-judge"\n')
        monkeypatch.setenv("AFK_MODEL", "openai/of-the-variable")

    @pytest.mark.parametrize(
        ("request_", "of_thread", "model"),
        [
            ({"default_model": "openai/sent"}, None, "openai/sent"),
            ({"default_model": "openai"}, None, "openai/"),
            ({"default_model": "openai/sent"}, "openai/last", "openai/last"),
            ({"default_model": "openai/sent", "agent": "judge"}, None, "openai/sent"),
            ({"default_model": "openai/sent", "agent": "judge"}, "openai/last", "openai/sent"),
            ({"default_model": "openai/sent", "model": "openai/named"}, "openai/last", "openai/named"),
            ({}, None, "openai/of-the-variable"),
        ],
    )
    def test_is_the_one_that_was_sent_unless_the_prompt_or_its_thread_has_one(
        self, request_: JsonObject, of_thread: str | None, model: str
    ) -> None:
        now = rfc3339(time.time())
        thread = ThreadInfo(key=uuid7(), name="t", created=now, used=now, model=of_thread, agent="afk")
        assert agent_for(load_setup(), flags_of_prompt(Defaults(), request_), thread).model == model

    def test_of_the_command_line_goes_before_it(self) -> None:
        flags = flags_of_prompt(Defaults(model="openai/named"), {"default_model": "openai/sent"})
        assert agent_for(load_setup(), flags, None).model == "openai/named"
