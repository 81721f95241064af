"""What the event log has of threads: which sink keeps it, and how many runs of a thread are in each of its files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from afkcli.core.contract.errors import AfkError, ConfigError
from afkcli.core.contract.jsonform import JsonError, JsonObject, dumps, loads_object
from afkcli.wiring.plugin_objects import make_sink
from afkcli.wiring.setup import Setup

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import LogSink

_BLOCK = 1 << 20

Runs = Mapping[str, Mapping[Path, int]]
"""How many runs of each thread, by its key, are in each file."""


def log_sink(setup: Setup) -> LogSink:
    """Return the first sink in use that keeps a log in files.

    Raises:
        ConfigError: no sink does.
    """
    reasons = []
    for name in setup.config.sink_names():
        try:
            sink: Any = make_sink(setup, name)
        except AfkError as error:
            reasons.append(f"{name}: {error}")
            continue
        if callable(getattr(sink, "files", None)):
            return cast("LogSink", sink)
        sink.close()
    why = f" ({'; '.join(reasons)})" if reasons else ""
    raise ConfigError(f"no sink in use keeps a log that can be read{why}; the sink `jsonl` does")


def log_files(sink: LogSink) -> list[Path]:
    """Return the files of a log, the oldest first."""
    return [Path(file) for file in sink.files()]


def logged_runs(files: Sequence[Path], keys: Collection[str]) -> Runs:
    """Return how many runs of the threads with `keys` are in the files of a log.

    Raises:
        OSError: a file cannot be read.
    """
    runs: dict[str, dict[Path, set[str]]] = {}
    for file in files:
        for event in _events_with(file, keys, lambda event: event.get("thread_key") in keys):
            found = runs.setdefault(str(event["thread_key"]), {}).setdefault(file, set())
            found.add(str(event.get("run_id")))
    return {key: {file: len(ids) for file, ids in by_file.items()} for key, by_file in runs.items()}


def logged_keys(files: Sequence[Path], name: str) -> set[str]:
    """Return the keys of the threads that had the name, or have the key, `name` when their events were logged."""
    keys: set[str] = set()
    for file in files:
        for event in _events_with(file, [name], lambda event: name in (event["thread_id"], event["thread_key"])):
            keys.add(str(event["thread_key"]))
    return keys


def _events_with(file: Path, texts: Collection[str], wanted: Callable[[JsonObject], bool]) -> Iterator[JsonObject]:
    """Yield the events of a file that are wanted, each of which has one of `texts` as a string."""
    parts = [dumps(text).encode() for text in texts]
    with suppress(FileNotFoundError), file.open("rb") as stream:  # it may be deleted because it is old
        if not _has_one(stream, parts):
            return
        stream.seek(0)
        for line in stream:
            if not any(part in line for part in parts):
                continue
            with suppress(JsonError, KeyError):  # what is no event is left out
                event = loads_object(line)
                if wanted(event):
                    yield event


def _has_one(stream: Any, parts: Sequence[bytes]) -> bool:
    longest = max(map(len, parts), default=0)
    rest = b""
    while block := stream.read(_BLOCK):
        piece = rest + block
        if any(part in piece for part in parts):
            return True
        rest = piece[-longest:]
    return False
