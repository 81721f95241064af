"""`afk batch worker`: runs prompts of the batches that an engine shares between machines."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from afkcli.commands.base import RUN_LIMITS, TOOLS, Command, option
from afkcli.commands.context import invocation
from afkcli.commands.number_types import WholeNumber
from afkcli.core.contract.errors import UsageError


@click.command(
    "worker",
    cls=Command,
    examples=(
        ("afk batch worker --engine dbos", "until it is stopped"),
        ("afk batch worker --engine dbos --concurrency 100 --exit", "until nothing is left"),
    ),
)
@option("--engine", required=True, metavar="NAME", help="The engine that shares the batches out.")
@option(
    "--concurrency",
    group=RUN_LIMITS,
    type=WholeNumber(min=1),
    metavar="N",
    default=32,
    show_default=True,
    help="How many prompts of a batch this worker has in flight at most.",
)
@option("--batch", "batches", multiple=True, metavar="NAME", help="Only this batch; may be given more than once.")
@option("--exit", "ends", is_flag=True, help="End when nothing is queued or running.")
@option(
    "--plugin",
    "plugins",
    group=TOOLS,
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Use this plugin file too; may be given more than once.",
)
def worker(engine: str, concurrency: int, batches: tuple[str, ...], ends: bool, plugins: tuple[Path, ...]) -> None:
    """Run prompts of batches that were submitted elsewhere, with the keys and the config of this machine.

    Start one on each machine. SIGTERM or Ctrl-C waits for what is in flight; what a killed worker may have sent is
    parked by the others.
    """
    from afkcli.batch.engines import LOCAL, engine_maker
    from afkcli.batch.serving import Service, ServicePlan
    from afkcli.screen.messages import Messages
    from afkcli.wiring.assembly import load_setup

    if engine == LOCAL:
        raise UsageError(
            "the engine 'local' has its workers in `afk batch run`; name another one, such as --engine dbos"
        )
    start = invocation()
    messages = Messages(start)
    setup = load_setup(start, project=True, plugin_files=plugins, notify=messages.say)
    plan = ServicePlan(batches=batches, at_once=concurrency, ends=ends)

    async def serve() -> None:
        await Service(setup, engine_maker(setup, engine), plan, messages.say).run(start.stop_signals)

    asyncio.run(serve())
