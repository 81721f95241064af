"""What a person or a script sees of a batch while it runs: one line that is drawn again, or events on stdout.

Since: 0.2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from afkcli.batch.progress import Meter, batch_form
from afkcli.core.contract.engine import BatchInfo, News, SettledPrompt
from afkcli.core.contract.errors import AfkError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.host.ending import EndedError
from afkcli.host.invocation import Invocation
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout

PROGRESS_SECONDS = 1.0
"""The least time between two `batch_progress` events."""


@contextmanager
def batch_view(
    invocation: Invocation, messages: Messages, batch: BatchInfo, *, as_json: bool, plain: bool = False
) -> Iterator[BatchEvents | BatchLine | None]:
    """Show how a batch goes inside the block: events with `as_json`, else a line on stderr if that is a terminal.

    The batch must not be forked inside the block: a thread draws the line.
    """
    if as_json:
        yield BatchEvents(Stdout(invocation), batch)
        return
    with shown_activity(invocation, messages, "starting", plain=plain) as activity:
        if activity is None:
            yield None
            return
        meter = Meter()
        meter.take(News(batch=batch))
        activity.show_measured(lambda columns, is_ascii: meter.line(columns, is_ascii=is_ascii))
        yield BatchLine(meter)


class BatchEvents:
    """Writes the events of a batch, each as a line of JSON.

    Args:
        stdout: where to.
        batch: the batch at the start.
        clock: seconds that never run backwards.
    """

    def __init__(self, stdout: Stdout, batch: BatchInfo, clock: Callable[[], float] = time.monotonic) -> None:
        self._stdout = stdout
        self._name = batch.name
        self._clock = clock
        self._meter = Meter(clock)
        self._meter.take(News(batch=batch))
        self._said_at = clock()
        places = {name: batch.settings.get(name) for name in ("prompts", "results")}
        self._write("batch_started", {**places, **batch_form(batch)})

    def observe(self, news: News) -> None:
        """Write an event for each prompt that has ended, and now and then how far the batch has come."""
        self._meter.take(news)
        if news.outcomes:
            self._stdout.objects(self._form("prompt_ended", _prompt_form(item)) for item in news.outcomes)
        if self._clock() - self._said_at >= PROGRESS_SECONDS:
            self._said_at = self._clock()
            self._write("batch_progress", self._meter.form())

    def end(self, batch: BatchInfo, problem: str | None, code: int) -> None:
        """Write the last event."""
        with suppress(EndedError, AfkError):  # its reader has gone; the batch has ended as it has
            self._write("batch_ended", {**batch_form(batch), "problem": problem, "exit_code": code})

    def _write(self, kind: str, fields: JsonObject) -> None:
        self._stdout.objects([self._form(kind, fields)])

    def _form(self, kind: str, fields: JsonObject) -> JsonObject:
        return {"v": 1, "type": kind, "batch": self._name, **fields}


class BatchLine:
    """Keeps the line up to date."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def observe(self, news: News) -> None:
        self._meter.take(news)

    def end(self, batch: BatchInfo, problem: str | None, code: int) -> None:
        """Do nothing: the line is gone when the block ends."""


def _prompt_form(item: SettledPrompt) -> JsonObject:
    error = item.result.get("error")
    return {
        "id": item.id,
        "state": item.state.value,
        "attempts": item.attempts,
        "cost_usd": item.cost_usd,
        "error": error.get("kind") if isinstance(error, dict) else None,
    }
