"""What is asked of one turn of the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afkcli.core.contract.structs import FrozenStruct, field


class TurnRequest(FrozenStruct, kw_only=True):
    """What is asked of one turn: what the options of `afk run` say, each with the option's meaning.

    Args:
        words: the message; `-` alone is stdin.
        resume: continue the last turn of `thread`, which was cut, instead of sending a message.
        retry, edit: ask the last question of the thread again, with `edit` as it is after the user's editor.
        thread, continue_: the thread by name, or the one last used in the folder of the invocation.
        agent, model, instructions, tools, schema: what runs; `schema` is a file or JSON.
        options: options of the model by name; None removes what the config sets.
        context: what is done with a conversation that does not fit into the model's window.
        context_model: the model that makes summaries of it, with the policy `compact`.
        limits: limits by their fields in `FailSafeConfig`, only those that were given.
        approvals: `ask`, `deny` or `stdin`; None as the config says.
        busy, busy_timeout: what to do while another run holds the thread, and for how many seconds to wait.
        plugins: plugin files to load.
        prompt: the name of a prompt, or the path of its file; None without one.
        variables: values of its variables by name.
        attach: files, URLs, or `-` for stdin.
        memory: whether thread and log are read and written.
        read_stdin: whether stdin may be read.
        json, reasoning, final: the form of the output.
        plain: only append text to a terminal: no rendered Markdown, no spinner.
        quiet: leave out the line about what the run took.
        record, replay: a file that records the run, or a recording that answers it.
        dry_run: write the request that would be sent, and send nothing.
        fail_on_denied: end with exit code 6 where a tool call was denied.
        debug: show the traceback of an error.
        run_id: the id of the run, a UUIDv7; a new one if it is None. One that is in use is refused.

    Since: 0.2.
    """

    words: tuple[str, ...] = ()
    resume: bool = False
    retry: bool = False
    edit: bool = False
    thread: str | None = None
    continue_: bool = False
    agent: str | None = None
    model: str | None = None
    instructions: str | None = None
    tools: tuple[str, ...] = ()
    schema: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, float] = field(default_factory=dict)
    context: str | None = None
    context_model: str | None = None
    approvals: str | None = None
    busy: str | None = None
    busy_timeout: float | None = None
    plugins: tuple[Path, ...] = ()
    prompt: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    attach: tuple[str, ...] = ()
    memory: bool = True
    read_stdin: bool = True
    json: bool = False
    reasoning: bool = False
    final: bool = False
    plain: bool = False
    quiet: bool = False
    record: str | None = None
    replay: str | None = None
    dry_run: bool = False
    fail_on_denied: bool = False
    debug: bool = False
    run_id: str | None = None

    @property
    def is_taped(self) -> bool:
        """Whether the turn is recorded, replayed or only shown."""
        return self.dry_run or self.record is not None or self.replay is not None
