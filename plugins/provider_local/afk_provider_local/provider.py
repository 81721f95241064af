"""The provider `local`: llama.cpp's models behind afk's provider contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from afk_provider_local.answer import Answer
from afk_provider_local.conversation import chat_messages, chat_tools, fit, surely_fits
from afk_provider_local.engine import Engine, Job, check_installed, default_threads, error_of
from afk_provider_local.grammar import response_format
from afk_provider_local.weights import DEMO_COMMAND, DEMO_MODEL, Weights, demo_weights, user_weights
from afkcli.plugin import (
    Capabilities,
    ConfigError,
    ErrorKind,
    JsonObject,
    Message,
    ModelEvent,
    ModelInfo,
    ModelRequest,
    ModelWarning,
    Price,
    ProviderError,
    Role,
    SentRequest,
    dumps,
    text_message,
    told,
)

if TYPE_CHECKING:
    from afk_provider_local.settings import Settings

_Result = TypeVar("_Result")
# A small model repeats itself less if it is asked for a short answer: without this line, "What is Python?" ran to the
# limit with most seeds, with it with 2 of 10.
_DEMO_SYSTEM = "You are a helpful assistant. Answer in one or two short sentences."
_OPTIONS = frozenset({"temperature", "top_p", "max_output_tokens", "stop", "seed"})
_FREE = Price(input=0.0, output=0.0)
_SHORTEST_CONTEXT = 256  # llama.cpp rounds a context up to a multiple of this


class LocalProvider:
    """Runs the demonstration model and, where `model_path` is set, the user's own; each is loaded at its first call."""

    name = "local"

    def __init__(self, settings: Settings) -> None:
        """Find the weights without loading them.

        Raises:
            ConfigError: a setting is not usable, or there is no model to run.
        """
        check_installed()
        _check(settings)
        self._settings = settings
        self._engines: dict[str, Engine] = {}
        self._jobs: set[Job] = set()
        self.default_model: str | None = DEMO_MODEL
        demo = demo_weights()
        if demo:
            self._engines[DEMO_MODEL] = self._engine(DEMO_MODEL, demo)
        if settings.model_path:
            weights = user_weights(settings.model_path)
            self.default_model = weights.path.stem
            self._engines[weights.path.stem] = self._engine(weights.path.stem, weights)
        elif not demo:
            raise ConfigError(_missing_demo())

    def _engine(self, name: str, weights: Weights) -> Engine:
        settings = self._settings
        context = min(settings.context_tokens, weights.trained_tokens or settings.context_tokens)
        return Engine(weights, name=name, threads=settings.threads or default_threads(), context_tokens=context)

    def capabilities(self, model: str) -> Capabilities:
        demo = model == DEMO_MODEL
        engine = self._engines.get(model)
        return Capabilities(
            context_tokens=engine.context_tokens if engine else None,
            tools=False if demo else None,
            images=False,
            files=False,
            reasoning=False if demo else None,
            structured_output=True,
            options=_OPTIONS,
            price=_FREE,
        )

    async def list_models(self) -> Sequence[ModelInfo]:
        return [ModelInfo(id=name, description=_describe(name)) for name in self._engines]

    async def preview(self, request: ModelRequest) -> SentRequest:
        """Return what `stream` would give llama.cpp; the weights are loaded where the conversation may be too long."""
        engine = self._find(request.model)
        messages = await _in_thread(lambda: self._fit(engine, request))
        return SentRequest(body=dumps(self._body(request, messages)))

    async def count_tokens(self, request: ModelRequest) -> int:
        engine = self._find(request.model)
        return await _in_thread(lambda: engine.count(self._body(request, self._messages(request))))

    async def prepare(self) -> None:
        """Load the default model; if that fails, the call that asks for it says so."""
        with suppress(ProviderError):
            await _in_thread(self._find(self.default_model or DEMO_MODEL).load)

    async def aclose(self) -> None:
        """Stop all generation. Loaded weights stay until the process ends, for the next provider in it."""
        for job in list(self._jobs):
            job.stop()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        engine = self._find(request.model)
        loop = asyncio.get_running_loop()
        # It holds at most the longest answer, so it needs no bound of its own.
        items: asyncio.Queue[object] = asyncio.Queue()
        job = Job(
            lambda job: self._generate(job, engine, request),
            lambda item: loop.call_soon_threadsafe(items.put_nowait, item),
        )
        self._jobs.add(job)
        answer = Answer(engine.name, request)
        try:
            while (item := await items.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                if isinstance(item, ModelWarning):
                    yield item
                elif isinstance(item, dict):
                    for event in answer.chunk(item):
                        yield event
            for event in answer.close():
                yield event
            yield answer.response()
        finally:
            job.stop()
            self._jobs.discard(job)

    def _generate(self, job: Job, engine: Engine, request: ModelRequest) -> None:
        """Put a warning if messages were left out, then the chunks; last None, or the error."""

        def on_chunk(chunk: JsonObject) -> bool:
            if "error" in chunk:
                job.put(error_of(chunk["error"]))
                return True
            job.put(chunk)
            return job.stopped

        try:
            server = engine.load()
            messages = self._fit(engine, request)
            left_out = len(self._messages(request)) - len(messages)
            if left_out:
                job.put(_trimmed(left_out, engine.context_tokens))
            if not job.stopped:
                server.handle_chat_completions(self._body(request, messages), on_chunk)
            job.put(None)
        except ValueError as error:  # the binding raises this for options and templates that it refuses
            job.put(ProviderError(f"llama.cpp refuses the request: {error}", kind=ErrorKind.BAD_REQUEST))
        except Exception as error:
            job.put(error)

    def _fit(self, engine: Engine, request: ModelRequest) -> Sequence[Message]:
        messages = self._messages(request)
        longest_answer = self._longest_answer(request)
        budget = engine.context_tokens - min(longest_answer, engine.context_tokens // 4)
        if surely_fits(messages, request.tools, budget):
            return messages
        kept, tokens = fit(messages, budget, lambda kept: engine.count(self._body(request, kept)))
        if tokens > budget:
            raise ProviderError(
                f"the message has {tokens:,} tokens and local/{engine.name} takes {budget:,}; send a shorter one,"
                " set context_tokens under [providers.local], or use another model",
                kind=ErrorKind.CONTEXT_LENGTH,
            )
        return kept

    def _find(self, model: str) -> Engine:
        engine = self._engines.get(model)
        if engine:
            return engine
        if model == DEMO_MODEL:
            raise ProviderError(_missing_demo(), kind=ErrorKind.NOT_FOUND)
        raise ProviderError(
            f"there is no model local/{model}, only {', '.join(f'local/{name}' for name in self._engines)};"
            " set AFK_LOCAL_MODEL to a GGUF file to run another",
            kind=ErrorKind.NOT_FOUND,
        )

    def _messages(self, request: ModelRequest) -> Sequence[Message]:
        system = self._settings.system or (_DEMO_SYSTEM if request.model == DEMO_MODEL else "")
        messages = request.messages
        if system and not any(message.role is Role.SYSTEM for message in messages):
            messages = [text_message(Role.SYSTEM, system), *messages]
        # The grammar enforces the schema, but does not show it to the model.
        return messages if request.output_schema is None else told(messages, request.output_schema)

    def _longest_answer(self, request: ModelRequest) -> int:
        asked = request.options.get("max_output_tokens")
        return asked if isinstance(asked, int) and asked > 0 else self._settings.max_output_tokens

    def _body(self, request: ModelRequest, messages: Sequence[Message]) -> JsonObject:
        settings = self._settings
        body: JsonObject = {
            "temperature": settings.temperature,
            "top_p": settings.top_p,
            "repeat_penalty": 1.0,
            "seed": settings.seed,
        }
        body |= {name: value for name, value in request.options.items() if value is not None}
        body.pop("max_output_tokens", None)
        body |= request.extra
        if request.tools:
            body["tools"] = chat_tools(request.tools)
        elif request.output_schema is not None:  # with a grammar the model could not call tools
            body["response_format"] = response_format(request.output_schema)
        return body | {
            "messages": chat_messages(messages),
            "max_tokens": self._longest_answer(request),
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_progress": True,  # yields a chunk while the prompt is read, so that a stop is noticed there too
        }


async def _in_thread(call: Callable[[], _Result]) -> _Result:
    """Return what `call` returns on a daemon thread: unlike the loop's executor, it does not delay the exit."""
    future: Future[_Result] = Future()

    def work(_job: Job) -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    Job(work, lambda _item: None)
    return await asyncio.shield(asyncio.wrap_future(future))


def _check(settings: Settings) -> None:
    problems = {
        "threads": settings.threads < 0,
        "context_tokens": settings.context_tokens < _SHORTEST_CONTEXT,
        "max_output_tokens": settings.max_output_tokens < 1,
        "temperature": not settings.temperature >= 0,
        "top_p": not 0 <= settings.top_p <= 1,
    }
    for name, wrong in problems.items():
        if wrong:
            raise ConfigError(f"[providers.local] {name} = {getattr(settings, name)} is out of range")


def _trimmed(left_out: int, context_tokens: int) -> ModelWarning:
    return ModelWarning(
        "context_trimmed",
        f"the {left_out} oldest messages of this thread were left out: the model's context holds"
        f" {context_tokens:,} tokens",
    )


def _missing_demo() -> str:
    return (
        f"the weights of local/{DEMO_MODEL} are not installed; run: {DEMO_COMMAND}"
        " (or set AFK_LOCAL_MODEL, or model_path under [providers.local], to a GGUF file)"
    )


def _describe(name: str) -> str:
    if name == DEMO_MODEL:
        return "a small model to try afk without a key; not for work"
    return "your own GGUF file"
