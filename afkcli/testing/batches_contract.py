"""The tests that every provider with batches passes (`afkcli.plugin.BatchingProvider`), against the scripted server.

    class TestMine(BatchingProviderContract):
        def make_provider(self):
            return MyProvider(Settings(base_url=self.server.base_url, api_key=self.api_key))

It has the forms of the batches of OpenAI and Anthropic (`afkcli.testing.batch_server`). For another form, give the
methods of `ProviderBatches` tests of your own.

Since: 0.2.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import pytest

from afkcli.core.contract.errors import ErrorKind, ProviderError
from afkcli.core.contract.messages import FilePart, FinishReason, Message, ModelRequest, Role, TextPart, text_message
from afkcli.core.contract.protocols import Provider
from afkcli.core.contract.provider_batches import (
    BatchingProvider,
    Chunk,
    ChunkRefusedError,
    ChunkResult,
    ChunkState,
    ProviderBatches,
)
from afkcli.testing.model_server import ModelServer, ScriptedUsage, Step

Result = TypeVar("Result")
SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
QUESTIONS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "options": {"options": {"temperature": 0.25, "top_p": 0.75, "max_output_tokens": 321}},
    "extra": {"extra": {"x_extra": {"a": [1]}}},
    "schema": {"output_schema": SCHEMA},
}
REQUESTS = 5


class BatchingProviderContract:
    """What `afkcli.plugin.ProviderBatches` promises. Subclass it and give `make_provider`."""

    model: ClassVar[str] = "scripted-small"
    api_key: ClassVar[str] = "sk-test-0123456789abcdef"
    server: ModelServer

    @pytest.fixture(autouse=True)
    def _server(self) -> Iterator[None]:
        with ModelServer() as self.server, tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            yield

    def make_provider(self) -> Provider:
        """Return a new provider that answers `self.model`."""
        raise NotImplementedError

    def request(self, text: str = "Say hello.", **fields: Any) -> ModelRequest:
        """Return a request."""
        return ModelRequest(model=self.model, messages=(text_message(Role.USER, text),), **fields)

    def use(self, use: Callable[[ProviderBatches], Coroutine[Any, Any, Result]]) -> Result:
        """Return what `use` returns for the batches of a new provider, which is closed after it."""

        async def run() -> Result:
            provider = self.make_provider()
            try:
                return await use(cast("BatchingProvider", provider).batches())
            finally:
                await provider.aclose()

        return asyncio.run(run())

    def chunk(self, batches: ProviderBatches, requests: Mapping[str, ModelRequest], key: str = "key-1") -> Chunk:
        """Return a chunk of requests, its file written."""
        lines = [batches.line(name, request) for name, request in requests.items()]
        path = self._folder / key
        path.write_bytes(b"".join(line.data + b"\n" for line in lines))
        return Chunk(key=key, group=lines[0].group, path=path, count=len(lines), made=time.time())

    def requests(self, key: str = "key-1") -> dict[str, ModelRequest]:
        """Return requests by their ids."""
        return {f"{key}-{n}": self.request(f"mark-{n}") for n in range(REQUESTS)}

    def results(self, requests: Mapping[str, ModelRequest] | None = None) -> list[ChunkResult]:
        """Return the results of requests, which are sent, worked on, and read."""
        asked = requests or self.requests()

        async def use(batches: ProviderBatches) -> list[ChunkResult]:
            return await _read(batches, await _submitted(batches, self.chunk(batches, asked)), asked)

        return self.use(use)

    def submit_fails(self) -> ProviderError:
        """Return the error of a chunk that cannot be submitted."""

        async def use(batches: ProviderBatches) -> ProviderError:
            chunk = self.chunk(batches, self.requests())
            uploaded = await batches.upload(chunk)
            with pytest.raises(ProviderError) as caught:
                await batches.submit(chunk, uploaded)
            return caught.value

        error = self.use(use)
        assert "\n" not in str(error)
        assert self.api_key not in str(error)
        return error

    # What is sent

    def test_says_its_limits(self) -> None:
        async def use(batches: ProviderBatches) -> None:
            limits = batches.limits
            assert limits.max_requests > 0
            assert limits.max_bytes > 1_000_000
            assert limits.hours > 0
            assert 0 < limits.price_factor <= 1
            assert limits.max_id_chars >= 42  # a key, a hyphen and nine digits

        self.use(use)

    @pytest.mark.parametrize("name", QUESTIONS)
    def test_a_line_has_the_request_that_is_sent_otherwise_but_for_the_stream(self, name: str) -> None:
        request = self.request("Grüße “x” 🎈\u2028", **QUESTIONS[name])

        async def use(batches: ProviderBatches) -> Any:
            return json.loads(batches.line("key-1-7", request).data)

        line = self.use(use)
        asyncio.run(_ask(self.make_provider, request))
        sent = {field: value for field, value in self.server.bodies[-1].items() if not field.startswith("stream")}
        assert "key-1-7" in line.values()
        assert sent in line.values()

    def test_a_line_is_one_line(self) -> None:
        async def use(batches: ProviderBatches) -> bytes:
            return batches.line("key-1-0", self.request("a\nb\r\nc\u2028d")).data

        assert not {b"\n", b"\r"} & {bytes([byte]) for byte in self.use(use)}

    def test_requests_of_one_model_go_into_one_chunk(self) -> None:
        async def use(batches: ProviderBatches) -> set[str]:
            return {batches.line(f"key-1-{n}", self.request(f"question {n}")).group for n in range(3)}

        assert len(self.use(use)) == 1

    def test_a_line_is_refused_where_a_call_would_be(self) -> None:
        part = FilePart(sha256="0" * 64, media_type="application/x-nothing", size=1, name="mark-name")
        message = Message(role=Role.USER, parts=(part, TextPart(text="q")))
        request = ModelRequest(model=self.model, messages=(message,), content=lambda sha256: b"x")

        async def use(batches: ProviderBatches) -> None:
            with pytest.raises(ProviderError) as caught:
                batches.line("key-1-0", request)
            assert caught.value.kind is ErrorKind.BAD_REQUEST

        self.use(use)

    # What comes back

    def test_each_request_gets_its_own_answer(self) -> None:
        found = {result.id: result for result in self.results()}
        assert list(found) == list(self.requests())
        for n, result in enumerate(found.values()):
            assert result.response is not None
            assert result.response.message.text.endswith(f": mark-{n}")
            assert (result.error, result.unanswered) == (None, "")

    def test_an_answer_is_read_as_a_normal_one(self) -> None:
        usage = ScriptedUsage(input_tokens=100, output_tokens=50, cached_tokens=60)
        self.server.batches.script(step=lambda body: Step(text="answer", usage=usage, finish_reason="length"))
        result = self.results()[0]
        assert result.response is not None
        response = result.response
        assert (response.message.text, response.finish_reason) == ("answer", FinishReason.LENGTH)
        assert response.model == self.model
        assert response.usage is not None
        assert (response.usage.input_tokens, response.usage.output_tokens) == (100, 50)
        assert response.usage.cache_read_input_tokens == 60

    @pytest.mark.parametrize("odd", ["backwards", "twice", "unended"])
    def test_answers_belong_to_their_requests_in_any_order_and_number(self, odd: str) -> None:
        self.server.batches.script(**{odd: True})
        found: dict[str, ChunkResult] = {}
        for result in self.results():
            found.setdefault(result.id, result)
        assert len(found) == REQUESTS
        for n in range(REQUESTS):
            response = found[f"key-1-{n}"].response
            assert response is not None
            assert response.message.text.endswith(f": mark-{n}")

    def test_what_became_of_each_request_is_told(self) -> None:
        outcomes = ("answered", "failed", "expired", "cancelled", "malformed")
        self.server.batches.script(outcome=outcomes)
        found = {result.id: result for result in self.results()}
        answered, failed, expired, cancelled, malformed = (found[f"key-1-{n}"] for n in range(REQUESTS))
        assert answered.response is not None
        assert failed.error is not None
        assert failed.error.kind is ErrorKind.BAD_REQUEST
        assert "mark-refused" in str(failed.error)
        assert (expired.unanswered, cancelled.unanswered) == ("expired", "cancelled")
        assert malformed.error is not None
        assert [result.response for result in (failed, expired, cancelled, malformed)] == [None] * 4

    def test_a_request_that_the_provider_lost_has_no_result(self) -> None:
        self.server.batches.script(outcome=("answered", "missing"))
        assert {result.id for result in self.results()} == {"key-1-0", "key-1-2", "key-1-4"}

    def test_results_of_other_ids_are_left_out(self) -> None:
        async def use(batches: ProviderBatches) -> list[str]:
            asked = self.requests()
            name = await _submitted(batches, self.chunk(batches, asked))
            del asked["key-1-3"]
            return [result.id for result in await _read(batches, name, asked)]

        assert self.use(use) == ["key-1-0", "key-1-1", "key-1-2", "key-1-4"]

    def test_results_that_come_late_are_no_results_until_then(self) -> None:
        self.server.batches.script(late=2)

        async def use(batches: ProviderBatches) -> list[ChunkResult]:
            asked = self.requests()
            name = await _submitted(batches, self.chunk(batches, asked))
            await _ended(batches, name)
            while True:
                try:
                    return [result async for result in batches.results(name, asked.get)]
                except ProviderError as error:
                    assert error.kind is ErrorKind.NOT_FOUND  # noqa: PT017

        assert len(self.use(use)) == REQUESTS

    def test_results_that_break_off_are_an_error(self) -> None:
        self.server.batches.script(cut=1)

        async def use(batches: ProviderBatches) -> list[ChunkResult]:
            asked = self.requests()
            name = await _submitted(batches, self.chunk(batches, asked))
            await _ended(batches, name)
            with pytest.raises(ProviderError):
                [result async for result in batches.results(name, asked.get)]
            return [result async for result in batches.results(name, asked.get)]

        assert len(self.use(use)) == REQUESTS

    # How far it is

    @pytest.mark.parametrize("says", [("in_progress",), ("a_word_of_next_year", "", "finalizing")])
    def test_a_batch_is_running_until_it_has_ended(self, says: Sequence[str]) -> None:
        self.server.batches.script(polls=3, says=says)

        async def use(batches: ProviderBatches) -> list[ChunkState]:
            name = await _submitted(batches, self.chunk(batches, self.requests()))
            return [(await batches.status(name)).state for _ in range(4)]

        assert self.use(use) == [ChunkState.RUNNING] * 3 + [ChunkState.ENDED]

    def test_a_batch_that_is_not_there_yet_is_not_found(self) -> None:
        self.server.batches.script(hidden=1)

        async def use(batches: ProviderBatches) -> ErrorKind:
            name = await _submitted(batches, self.chunk(batches, self.requests()))
            with pytest.raises(ProviderError) as caught:
                await batches.status(name)
            assert (await batches.status(name)).state is ChunkState.RUNNING
            return caught.value.kind

        assert self.use(use) is ErrorKind.NOT_FOUND

    def test_cancelling_ends_a_batch_and_harms_none_that_has_ended(self) -> None:
        self.server.batches.script(polls=1000)

        async def use(batches: ProviderBatches) -> list[ChunkResult]:
            asked = self.requests()
            name = await _submitted(batches, self.chunk(batches, asked))
            await batches.cancel(name)
            await batches.cancel(name)
            found = await _read(batches, name, asked)
            await batches.cancel(name)
            return found

        assert {result.unanswered for result in self.use(use)} == {"cancelled"}
        assert self.server.batches.worked_on == []

    # What goes wrong before

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429])
    def test_a_refused_chunk_is_known_not_to_be_made(self, status: int) -> None:
        body = {"error": {"message": "mark-why", "type": "invalid_request_error"}}
        self.server.batches.script(create=[Step(status=status, body=body, headers={"Retry-After": "7"})])
        error = self.submit_fails()
        assert isinstance(error, ChunkRefusedError)
        assert (error.status, error.retry_after) == (status, 7.0)
        assert "mark-why" in str(error)
        assert self.server.batches.made == {}

    @pytest.mark.parametrize("status", [408, 409, 500, 502, 503, 504, 529])
    def test_a_failure_of_the_server_leaves_it_open_whether_a_chunk_was_made(self, status: int) -> None:
        self.server.batches.script(create=[Step(status=status)])
        assert not isinstance(self.submit_fails(), ChunkRefusedError)

    def test_a_chunk_whose_answer_was_lost_is_made_once_and_found(self) -> None:
        self.server.batches.script(create=["lost"])

        async def use(batches: ProviderBatches) -> None:
            chunk = self.chunk(batches, self.requests())
            uploaded = await batches.upload(chunk)
            with pytest.raises(ProviderError) as caught:
                await batches.submit(chunk, uploaded)
            assert not isinstance(caught.value, ChunkRefusedError)
            found = await batches.find(chunk, uploaded, ())
            assert found is not None
            assert [found.id] == list(self.server.batches.made)
            assert await batches.find(chunk, uploaded, (found.id,)) is None

        self.use(use)

    def test_a_chunk_that_did_not_arrive_is_not_found(self) -> None:
        self.server.batches.script(create=["dropped"])

        async def use(batches: ProviderBatches) -> None:
            chunk = self.chunk(batches, self.requests())
            uploaded = await batches.upload(chunk)
            with pytest.raises(ProviderError):
                await batches.submit(chunk, uploaded)
            assert await batches.find(chunk, uploaded, ()) is None

        self.use(use)

    def test_a_chunk_is_found_among_many(self) -> None:
        async def use(batches: ProviderBatches) -> None:
            ids: dict[str, str] = {}
            for n in range(3):
                other = {f"key-{n}-{i}": self.request() for i in range(n + 1)}
                chunk = self.chunk(batches, other, f"key-{n}")
                ids[chunk.key] = await _submitted(batches, chunk)
                found = await batches.find(chunk, "", ())
                assert found is not None
                assert found.id == ids[chunk.key]

        self.use(use)

    def test_a_server_that_is_not_there_gets_no_chunk(self) -> None:
        async def use(batches: ProviderBatches) -> None:
            chunk = self.chunk(batches, self.requests())
            self.server.close()
            with pytest.raises(ChunkRefusedError) as caught:
                await batches.submit(chunk, "file_1")
            assert caught.value.kind is ErrorKind.NETWORK

        self.use(use)

    def test_removing_what_was_uploaded_leaves_nothing_and_can_be_done_twice(self) -> None:
        async def use(batches: ProviderBatches) -> None:
            uploaded = await batches.upload(self.chunk(batches, self.requests()))
            await batches.remove(uploaded)
            await batches.remove(uploaded)

        self.use(use)
        assert self.server.batches.files == {}


async def _ask(make: Callable[[], Provider], request: ModelRequest) -> None:
    provider = make()
    try:
        async for _ in provider.stream(request):
            pass
    finally:
        await provider.aclose()


async def _submitted(batches: ProviderBatches, chunk: Chunk) -> str:
    return await batches.submit(chunk, await batches.upload(chunk))


async def _ended(batches: ProviderBatches, name: str) -> None:
    while (await batches.status(name)).state is ChunkState.RUNNING:
        pass


async def _read(batches: ProviderBatches, name: str, asked: Mapping[str, ModelRequest]) -> list[ChunkResult]:
    await _ended(batches, name)
    return [result async for result in batches.results(name, asked.get)]
