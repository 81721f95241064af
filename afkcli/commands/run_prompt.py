"""`afk run -p NAME`: what a prompt in a file changes in the request for a turn, and the message that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from afkcli.commands.prompt_lookup import Prompts
from afkcli.config.prompt_file import Prompt, values_for
from afkcli.config.prompt_message import message_of
from afkcli.config.prompt_text import filled
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import dumps
from afkcli.core.contract.structs import replace

if TYPE_CHECKING:
    from afkcli.commands.turn_request import TurnRequest
    from afkcli.host.invocation import Invocation


def prompted(
    invocation: Invocation, request: TurnRequest, notify: Callable[[str], None]
) -> tuple[TurnRequest, Callable[[str, str], str]]:
    """Return the request as its prompt completes it, and what makes the message of the words and of what is piped in.

    An option of the command line goes before what the prompt says.

    Raises:
        UnknownNameError, ConfigError: as `Prompts.find`; a variable is unknown.
        UsageError: the request asks an earlier question again.
    """
    if request.retry or request.edit or request.prompt is None:
        raise UsageError("--retry and --edit ask the last question of the thread again; leave --prompt out")
    prompt, line = Prompts(invocation).find(request.prompt)
    if line is not None:
        notify(line)
    values_for(prompt, request.variables, {}, strict=False)  # an unknown one, before stdin is read
    instructions = request.instructions
    if instructions is None and prompt.instructions is not None:
        instructions = _instructions(prompt, request.variables)
    completed = replace(
        request,
        model=request.model if request.model is not None else prompt.model,
        agent=request.agent if request.agent is not None else prompt.agent,
        instructions=instructions,
        options={**prompt.options, **request.options},
        tools=(*prompt.tools, *request.tools),
        schema=request.schema if request.schema is not None else _schema(prompt),
    )
    return completed, lambda words, piped: message_of(prompt, request.variables, words, piped)


def _instructions(prompt: Prompt, given: Mapping[str, str]) -> str:
    """Return the instructions of a prompt with its variables; MESSAGE and INPUT are not among them."""
    assert prompt.instructions is not None
    return filled(prompt.instructions, values_for(prompt, given, {}, strict=False))


def _schema(prompt: Prompt) -> str | None:
    """Return the schema of a prompt as `--schema` takes it."""
    if prompt.schema is None:
        return None
    return str(prompt.schema) if isinstance(prompt.schema, Path) else dumps(dict(prompt.schema))
