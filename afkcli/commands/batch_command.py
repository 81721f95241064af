"""The command line that continues a batch, with the options that it was started with.

Without these options its prompts would count as changed, or another engine would ask all of them again.

Since: 0.2.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from afkcli.batch.batch_request import BatchRequest
from afkcli.batch.engines import LOCAL
from afkcli.commands.batch_access import shown_name
from afkcli.commands.context import invocation
from afkcli.core.contract.engine import BatchInfo
from afkcli.core.contract.jsonform import JsonError, dumps, loads
from afkcli.core.contract.structs import defaults_of

_WITH_A_VALUE = {
    "--model": "model",
    "--agent": "agent",
    "--instructions": "instructions",
    "--format": "form",
    "--concurrency": "concurrency",
    "--rpm": "rpm",
    "--tpm": "tpm",
    "--max-cost": "max_cost",
    "--max-errors": "max_errors",
    "--timeout": "timeout",
    "--workers": "workers",
    "--engine": "engine",
    "--via": "via",
    "--poll": "poll",
}
"""Options whose value is repeated as it is. Options of one call alone (`--sample`, `--retry-parked`) are left out."""


def options_of(request: BatchRequest) -> list[str]:
    """Return the options of a request that hold for its batch, as words of a command line; paths are absolute."""
    return list(_words(request))


def _words(request: BatchRequest) -> Iterator[str]:
    defaults = defaults_of(BatchRequest)
    for option, name in _WITH_A_VALUE.items():
        value = getattr(request, name)
        if value != defaults[name]:
            yield from (option, f"{value:g}" if isinstance(value, float) else str(value))
    if request.prompt is not None:
        yield from ("--prompt", _absolute(request.prompt) if os.sep in request.prompt else request.prompt)
    if request.schema is not None:
        is_json = request.schema.lstrip().startswith(("{", "["))
        yield from ("--schema", request.schema if is_json else _absolute(request.schema))
    for name, text in request.variables.items():
        yield from ("--var", f"{name}={text}")
    for name, value in request.options.items():
        yield from ("--option", f"{name}={_option_text(value)}")
    for tool in request.tools:
        yield from ("--tool", tool)
    for plugin in request.plugins:
        yield from ("--plugin", _absolute(plugin))
    yield from (option for option, is_set in _flags(request) if is_set)


def _flags(request: BatchRequest) -> tuple[tuple[str, bool], ...]:
    return (("--ordered", request.ordered), ("--threads", request.keeps_threads))


def _absolute(path: str | Path) -> str:
    return str(Path(path).absolute())


def _option_text(value: Any) -> str:
    """Return the text that `--option` reads as this value."""
    if not isinstance(value, str):
        return dumps(value)
    try:
        is_text = isinstance(loads(value), (dict, list))
    except JsonError:
        is_text = True
    return value if is_text else dumps(value)


def run_command(batch: BatchInfo) -> str | None:
    """Return the command that continues a batch, to be pasted into a shell; None if its files are not known."""
    prompts, results = batch.settings.get("prompts"), batch.settings.get("results")
    if not prompts or not results:
        return None
    name = ["--batch", batch.name] if batch.name != results else []
    options = [str(word) for word in batch.settings.get("options", ())]
    return shlex.join(["afk", "batch", "run", str(prompts), "-o", str(results), *name, *options])


def retry_command(batch: BatchInfo) -> str:
    """Return the command that queues the failed prompts of a batch again."""
    engine = str(batch.settings.get("engine", LOCAL))
    words = ["afk", "batch", "retry", shown_name(batch, invocation().folder)]
    return shlex.join(words if engine == LOCAL else [*words, "--engine", engine])
