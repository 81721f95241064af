"""What is asked of `afk batch run`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from afkcli.core.contract.structs import FrozenStruct, field

if TYPE_CHECKING:
    from afkcli.batch.sources import Form


class BatchRequest(FrozenStruct, kw_only=True):
    """What the options of `afk batch run` say, each with the option's meaning.

    Args:
        prompts: the file of prompts, a folder, or `-` for stdin.
        results: the file of results.
        ordered: whether the results are in the order of the prompts.
        model, agent, tools: what runs.
        plugins: plugin files to load.
        concurrency, rpm, tpm, max_cost: what all prompts together may do.
        max_errors: after so many failures the batch stops.
        timeout: the seconds that each prompt may take.
        name: the name of the batch; by default the real path of its results.
        rerun_changed, retry_parked: which prompts are asked again.
        keeps_threads: whether each prompt has a thread.
        busy, busy_timeout: what to do while another process runs the batch, and for how many seconds to wait.
        prompt, variables: the prompt file that makes the messages, and the values of its variables.
        instructions, options, schema: what all prompts have that do not say so themselves.
        form: the form of the file of prompts; None to tell it by its name.
        sample: ask only so many of the prompts.
        dry_run: say what the batch will take, and ask nothing.
        json, plain: whether events are written to stdout, and whether output is only appended.
        engine: the name of the engine.
        workers: how many processes run prompts.
        via: `provider` if batches of the providers answer the prompts.
        poll: the longest time between two questions about such a batch, in seconds.
        no_wait: whether the command ends once such batches are sent, and what is ready was taken.

    Since: 0.2.
    """

    prompts: str
    results: Path
    ordered: bool = False
    model: str | None = None
    agent: str | None = None
    tools: tuple[str, ...] = ()
    plugins: tuple[Path, ...] = ()
    concurrency: int = 32
    rpm: int | None = None
    tpm: int | None = None
    max_cost: float | None = None
    max_errors: int | None = None
    timeout: float | None = None
    name: str | None = None
    rerun_changed: bool = False
    retry_parked: bool = False
    keeps_threads: bool = False
    busy: str | None = None
    busy_timeout: float | None = None
    prompt: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    instructions: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    schema: str | None = None
    form: Form | None = None
    sample: int | None = None
    dry_run: bool = False
    json: bool = False
    plain: bool = False
    engine: str = "local"
    workers: int | None = None
    via: str | None = None
    poll: float | None = None
    no_wait: bool = False
