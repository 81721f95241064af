"""A throw-away turn: it executes what a turn executes, with a server that is in memory, and leaves nothing.

Python's interpreter is faster for what it has executed a few times, and lazy imports and caches are done by it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from afkcli.host.invocation import Invocation, Stream
from afkcli.worker.leftovers import REHEARSAL, hold_rehearsal

if TYPE_CHECKING:
    from afkcli.host.ending import Ending

_KEY = "sk-rehearsal-has-no-key"
_URL = "http://127.0.0.1:9/v1"

_CHAT = (
    b'data: {"id":"r","object":"chat.completion.chunk","created":1,"model":"gpt-5.2-mini","choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":"A word"},"finish_reason":null}]}\n\n'
    b'data: {"id":"r","object":"chat.completion.chunk","created":1,"model":"gpt-5.2-mini","choices":[{"index":0,'
    b'"delta":{},"finish_reason":"stop"}]}\n\n'
    b'data: {"id":"r","object":"chat.completion.chunk","created":1,"model":"gpt-5.2-mini","choices":[],'
    b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}}\n\ndata: [DONE]\n\n'
)
_ITEM = (
    b'{"type":"message","id":"m","role":"assistant","status":"completed",'
    b'"content":[{"type":"output_text","text":"A word","annotations":[]}]}'
)
_RESPONSES = b"".join(
    (
        b'data: {"type":"response.created","response":{"id":"r","status":"in_progress"}}\n\n',
        b'data: {"type":"response.output_text.delta","item_id":"m","output_index":0,"content_index":0,"delta":"A"}',
        b'\n\ndata: {"type":"response.output_item.done","output_index":0,"item":',
        _ITEM,
        b'}\n\ndata: {"type":"response.completed","response":{"id":"r","status":"completed","output":[',
        _ITEM,
        b'],"usage":{"input_tokens":1,"output_tokens":2,"total_tokens":3}}}\n\n',
    )
)
_MESSAGES = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"r","type":"message","role":"assistant",'
    b'"model":"claude-sonnet-5","content":[],"stop_reason":null,"usage":{"input_tokens":1,"output_tokens":1}}}\n\n'
    b'event: content_block_start\ndata: {"type":"content_block_start","index":0,'
    b'"content_block":{"type":"text","text":""}}\n\n'
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"A word"}}\n\n'
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n'
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":2}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
)


class Part:
    """A turn of one API: the command line's model, variables and config, and what the server answers.

    `loader` names the function of a plugin, as `module:function`, that imports its SDK. It is called before anything
    else imports the SDK: without the variables that it sets, LiteLLM fetches prices in a thread that does not end.
    `forgetter` names the one that drops what a turn leaves in the SDK's own caches.
    """

    def __init__(
        self,
        model: str,
        variables: dict[str, str],
        answer: bytes,
        config: str = "",
        loader: str = "",
        forgetter: str = "",
    ) -> None:
        self.loader = loader
        self.forgetter = forgetter
        self.model = model
        self.variables = variables
        self.answer = answer
        self.config = config


PARTS = {
    "afk_provider_openai.chat": Part("openai/gpt-5.2-mini", {"OPENAI_API_KEY": _KEY, "OPENAI_BASE_URL": _URL}, _CHAT),
    "afk_provider_openai.responses": Part(
        "openai/gpt-5.2-mini",
        {"OPENAI_API_KEY": _KEY, "OPENAI_BASE_URL": _URL},
        _RESPONSES,
        '[providers.openai]\napi = "responses"\n',
    ),
    "afk_provider_litellm.provider": Part(
        "litellm/openai/gpt-5.2-mini",
        {"OPENAI_API_KEY": _KEY, "OPENAI_BASE_URL": _URL},
        _CHAT,
        loader="afk_provider_litellm.library:load",
        forgetter="afk_provider_litellm.library:forget_clients",
    ),
    "afk_provider_anthropic.provider": Part(
        "anthropic/claude-sonnet-5", {"ANTHROPIC_API_KEY": _KEY, "ANTHROPIC_BASE_URL": _URL[:-3]}, _MESSAGES
    ),
}
"""By the module that a run has imported if it used the API."""

COMMANDS = (("threads",), ("threads", "show", "rehearsal"))
"""Commands that are executed after a turn."""


class Rehearsal:
    """Throw-away turns of the APIs that a run has used.

    Args:
        command: runs the command line of an invocation.
        modules: what the run has imported.
        folder: a folder of the user's own, in which threads and logs are kept for a moment.
    """

    def __init__(
        self, command: Callable[[Callable[[], Invocation]], Ending], modules: Sequence[str], folder: str
    ) -> None:
        self._command = command
        self._parts = [part for name, part in PARTS.items() if name in modules]
        self._folder = folder

    def load(self) -> None:
        """Have plugins import their SDKs; the variables that they set stay set."""
        for part in self._parts:
            if part.loader:
                module, _, function = part.loader.partition(":")
                getattr(importlib.import_module(module), function)()

    def run(self, times: int) -> None:
        """Take each turn so many times.

        Raises:
            RuntimeError: a turn failed, so that what it would have executed was not.
            OSError: there is no room for its thread.
        """
        home = tempfile.mkdtemp(prefix=f"{REHEARSAL}{os.getpid()}-", dir=self._folder)
        held = hold_rehearsal(home)
        try:
            for number in range(times):
                for part in self._parts:
                    self._take(part, home, number)
        finally:
            shutil.rmtree(home, ignore_errors=True)
            os.close(held)
            self._forget()

    def _forget(self) -> None:
        for part in self._parts:
            module, _, function = part.forgetter.partition(":")
            if module in sys.modules:
                getattr(sys.modules[module], function)()
        forget()

    def _take(self, part: Part, home: str, number: int) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{home}/config", 0o700)  # noqa: PTH102 - not the folders above, which may have been removed
        with open(f"{home}/config/config.toml", "w") as file:  # noqa: PTH123
            file.write(part.config)
        variables = {**part.variables, "AFK_HOME": home}
        turn = ("run", "-n", "-q", "-t", "rehearsal", "-m", part.model, "Say a word")
        with _environment(variables), _server_in_memory(part.answer):
            for words in (turn, *COMMANDS) if number == 0 else (turn,):
                ending = self._command(lambda words=words: _invocation(words))  # type: ignore[misc]
                if ending.code:
                    raise RuntimeError(f"the rehearsal ended with {ending}")


def _invocation(words: Sequence[str]) -> Invocation:
    return Invocation(
        arguments=words,
        environment=os.environ,
        folder="/",
        stdin=Stream(0, sys.stdin),
        stdout=Stream(1, sys.stdout),
        stderr=Stream(2, sys.stderr),
        owns_process=False,
    )


def forget() -> None:
    """Have this process forget the places and the values of a turn that it took."""
    from afkcli.host import paths, secrets

    paths.forget_places()
    secrets.SECRETS.forget()


@contextlib.contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    """Add variables; undo also what a turn sets itself, as LiteLLM does, or the worker would differ from its caller.

    No proxy is set meanwhile: it would be sent what only the server in memory may get.
    """
    before = dict(os.environ)
    for name in before:
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _server_in_memory(answer: bytes) -> Iterator[None]:
    """Have each connection of a provider lead to a server that gives `answer`."""
    from afkcli.providers import direct_transport, network_connection

    async def connect(host: str, port: int, options: Any) -> network_connection.Connection:
        connection = network_connection.Connection()
        connection.connection_made(_Transport(connection, answer))
        return connection

    module: Any = direct_transport
    before = module.connect
    module.connect = connect
    try:
        yield
    finally:
        module.connect = before


class _Transport(asyncio.Transport):
    """Answers each request that is written to it."""

    def __init__(self, protocol: asyncio.Protocol, answer: bytes) -> None:
        super().__init__()
        self._protocol = protocol
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(answer)
        self._response = head + answer

    def write(self, data: Any) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.data_received, self._response)

    def get_write_buffer_size(self) -> int:
        return 0

    def close(self) -> None:
        asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()

    def is_closing(self) -> bool:
        return False
