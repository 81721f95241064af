"""A loop of tool calls on a long thread: each further call costs its own new messages, not those of the thread."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from afkcli.core.contract.events import StepStarted, message_to_json
from afkcli.core.contract.jsonform import JsonError, dumps
from afkcli.core.contract.messages import Message, ModelRequest, Role, TextPart, text_message
from afkcli.core.contract.protocols import RecordKind
from afkcli.core.contract.result import RunState
from afkcli.core.run import request_hash
from afkcli.core.run.config import unknown_owner
from afkcli.core.run.request_hash import RequestHash
from afkcli.core.thread import contents
from afkcli.core.thread.attachments import Attachment
from afkcli.core.thread.memory_store import MemoryStore
from afkcli.core.thread.records import advance, next_record
from afkcli.core.thread.turns import after_seal, turn_to_json
from tests.core.scripted import Scripted, add, agent, call, calls, collect, response, runner_of
from tests.core.thread.made_turns import ANSWER, QUESTION, sealed

TURNS, STEPS = 200, 20


def long_thread() -> MemoryStore:
    """A store in which the thread `long` has many turns."""
    store = MemoryStore()
    lease = store.acquire("long", unknown_owner("run-0"))
    assert lease is not None
    thread, records = lease.thread, []
    for number in range(1, TURNS + 1):
        turn = replace(sealed(RunState.COMPLETED, None, QUESTION, ANSWER), turn=number, run_id=f"run-{number}")
        record = next_record(thread, RecordKind.SEAL, number, turn_to_json(turn))
        thread = replace(after_seal(advance(thread, record), turn), turns=number)
        records.append(record)
    store.append(thread, records, lease.thread.head, lease)
    store.release(lease)
    return store


def tool_loop() -> Scripted:
    steps = [calls(call("add", id_=f"c{step}", a=step, b=1)) for step in range(STEPS)]
    return Scripted(*steps, [response("done")])


def run_on(store: MemoryStore, provider: Scripted, **options: object) -> list[StepStarted]:
    async def run() -> list[StepStarted]:
        runner = runner_of(provider, store=store)
        handle = await runner.run_stream(
            agent(tools=[add], instructions="Add."), user_message="Go on", thread_id="long", **options
        )
        events = await collect(handle)
        await runner.aclose()
        return [event for event in events if isinstance(event, StepStarted)]

    return asyncio.run(run())


def test_every_message_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Message] = []

    written = request_hash._written

    def counted(message: Message) -> object:
        hashed.append(message)
        return written(message)

    monkeypatch.setattr(request_hash, "_written", counted)
    provider = tool_loop()
    started = run_on(long_thread(), provider)
    assert len(hashed) == len(provider.requests[-1].messages) == 1 + 2 * TURNS + 1 + 2 * STEPS
    monkeypatch.undo()
    assert [event.request_sha256 for event in started] == [RequestHash().of(request) for request in provider.requests]


@pytest.mark.parametrize("attached", [False, True])
def test_every_message_is_searched_for_attachments_once(monkeypatch: pytest.MonkeyPatch, attached: bool) -> None:
    looked: list[Message] = []
    real = contents.attached_parts

    def counted(messages: list[Message]) -> object:
        looked.extend(messages)
        return real(messages)

    monkeypatch.setattr(contents, "attached_parts", counted)
    provider = tool_loop()
    options = {"attachments": [Attachment(data=b"a text", name="a.txt")]} if attached else {}
    run_on(long_thread(), provider, **options)
    sent = len(provider.requests[-1].messages)
    assert sent == 1 + 2 * TURNS + 1 + 2 * STEPS
    assert len(looked) <= 2 * sent + STEPS
    with_text = [message for message in provider.requests[-1].messages if "a text" in message.text]
    assert len(with_text) == int(attached)


class TestRequestHash:
    ONE, TWO, THREE = (text_message(Role.USER, text) for text in ("one", "two", "three"))

    @pytest.mark.parametrize(
        "requests",
        [
            [[ONE], [ONE, TWO], [ONE, TWO, THREE]],
            [[ONE, TWO], [ONE], [ONE, THREE]],
            [[ONE, TWO], [TWO, ONE]],
            [[ONE], [text_message(Role.USER, "one"), TWO]],
            [[], [ONE], []],
            [[ONE, TWO], [ONE, TWO]],
        ],
    )
    def test_is_that_of_the_request_whatever_was_hashed_before(self, requests: list[list[Message]]) -> None:
        hashes = RequestHash()
        for messages in requests:
            request = ModelRequest(model="m", messages=messages)
            assert hashes.of(request) == RequestHash().of(request)

    @pytest.mark.parametrize(
        "text", ["", "plain", 'a "quoted" \\ line\n\ttab\x00\x1f\x7f', "\u2028 é 日本 😀", "a lone \ud800 surrogate"]
    )
    def test_of_text_is_that_of_its_json_form(self, text: str) -> None:
        message = Message(role=Role.ASSISTANT, parts=(TextPart(text=text), TextPart(text="more")))
        written = b"".join(request_hash._written(message))
        assert written == dumps(message_to_json(message)).encode()

    def test_is_that_of_the_request_after_one_that_cannot_be_written(self) -> None:
        hashes = RequestHash()
        hashes.of(ModelRequest(model="m", messages=[self.ONE]))
        bad = Message(role=Role.USER, parts=(TextPart(text=float("nan")),))  # type: ignore[arg-type]
        with pytest.raises(JsonError):
            hashes.of(ModelRequest(model="m", messages=[self.ONE, self.TWO, bad]))
        request = ModelRequest(model="m", messages=[self.ONE, self.TWO, self.THREE])
        assert hashes.of(request) == RequestHash().of(request)

    def test_does_not_follow_a_provider_that_changes_the_list_it_got(self) -> None:
        hashes = RequestHash()
        messages = [self.ONE]
        hashes.of(ModelRequest(model="m", messages=messages))
        messages.append(self.TWO)
        request = ModelRequest(model="m", messages=[self.ONE, self.TWO])
        assert hashes.of(request) == RequestHash().of(request)
