"""The scripted model server, which also notes when each piece of an answer had been sent."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from afkcli.testing.model_script import Step
from afkcli.testing.model_server import ModelServer, RecordedRequest, _Handler
from afkcli.testing.model_wire import last_user_text

Stamps = list[tuple[float, str]]


def numbered(words: int, pause: float) -> Step:
    """Return a step that answers "<message>: w1 w2 ...", `pause` seconds before each word."""
    return Step(echo="{message}: " + " ".join(f"w{number}" for number in range(1, words + 1)), delay_between=pause)


class StampingServer(ModelServer):
    """A model server that knows when it has sent each text.

    Messages are distinguished by their text, so each one must be sent only once.
    """

    def __init__(self, steps: Sequence[Step] = (), *, log: Path | None = None) -> None:
        super().__init__(steps, log=log)
        self._stamps: dict[int, Stamps] = {}
        self._hurried: set[str] = set()
        self._http.RequestHandlerClass = _StampingHandler

    def answer_with(self, answer: Callable[[RecordedRequest], Step]) -> None:
        """Answer each request with what `answer` returns, in place of the script."""
        self._answer = answer

    def requests_of(self, message: str) -> list[RecordedRequest]:
        """Return the requests whose last user message is `message`."""
        return [request for request in self.requests if last_user_text(request.body) == message]

    def sent(self, message: str) -> Stamps:
        """Return the pieces that were sent as answer to `message`, each with its time (seconds since the epoch)."""
        return [stamp for request in self.requests_of(message) for stamp in self._stamps.get(request.n, ())]

    def hurry(self, message: str) -> None:
        """Send the rest of the answer to `message` at once."""
        self._hurried.add(message)

    def hurries(self, request: RecordedRequest) -> bool:
        return last_user_text(request.body) in self._hurried

    def stamp(self, request: RecordedRequest, text: str) -> None:
        self._stamps.setdefault(request.n, []).append((time.time(), text))


class _StampingHandler(_Handler):
    _answering: RecordedRequest

    def _respond(self, request: RecordedRequest, step: Step) -> None:
        self._answering = request
        super()._respond(request, step)

    def _wait(self, seconds: float | None) -> None:
        model_server: Any = self.server.model_server
        if not model_server.hurries(self._answering):
            super()._wait(seconds)

    def _write_chunk(self, step: Step, data: bytes) -> None:
        super()._write_chunk(step, data)
        text = _text_in(data)
        model_server: Any = self.server.model_server
        if text:
            model_server.stamp(self._answering, text)


def _text_in(data: bytes) -> str:
    """Return the text of the answer in events of Chat Completions."""
    text = ""
    for line in data.splitlines():
        if line.startswith(b"data: {"):
            choices = json.loads(line.removeprefix(b"data: ")).get("choices") or [{}]
            text += choices[0].get("delta", {}).get("content") or ""
    return text
