"""`afk worker`: the warm worker, which keeps imported modules for the next command."""

from __future__ import annotations

import click

from afkcli.commands.base import Group
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.core.contract.ids import rfc3339
from afkcli.core.contract.text import in_mb
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.tables import write_table
from afkcli.screen.times import ago
from afkcli.worker.failures import Failure
from afkcli.worker.listing import (
    Listed,
    end_worker,
    failed_starts,
    forget_ended,
    listed_workers,
    start_refusal,
)

_NONE = "no warm worker runs; a run starts one for the next command, where it may (docs/how-to/warm-worker.md)"


@click.group(
    "worker",
    cls=Group,
    examples=(
        ("afk worker status", "the warm workers of yours that run"),
        ("afk worker stop", "end them"),
    ),
)
def command() -> None:
    """Show or end the warm worker, which makes the next command start faster.

    A run starts it, and it ends by itself after 10 minutes without a command. `AFK_WORKER=off` turns it off.
    """


@command.command("status", examples=(("afk worker status", "age, memory, commands, and what it has imported"),))
@json_option
def status(as_json: bool) -> None:
    """Show the warm workers that run: their age, memory, number of commands, and the packages they have imported.

    Of one that could not start, it shows why.
    """
    stdout = Stdout(invocation())
    found = listed_workers(invocation().environment)
    failed = failed_starts(invocation().environment)
    if as_json:
        stdout.objects([*map(_object, found), *(_failed_object(*each) for each in failed.items())])
        return
    for failure in failed.values():
        Messages(invocation()).warn(_failed_text(failure))
    if found:
        rows = [_row(one) for one in found]
        write_table(stdout, ("PID", "SINCE", "MEMORY", "COMMANDS", "LAST COLD", "HOLDS"), rows)
    if refusal := start_refusal(invocation().environment, found):
        Messages(invocation()).say(refusal)
    elif not found and not failed:
        Messages(invocation()).say(_NONE)


@command.command("stop", examples=(("afk worker stop", "a command that runs now is not touched"),))
def stop() -> None:
    """End all warm workers of yours. Commands that run in them go on until they end.

    What killed workers left is removed, and a worker that could not start may be tried again at once.
    """
    messages = Messages(invocation())
    found = listed_workers(invocation().environment)
    for one in found:
        if not end_worker(one):
            messages.warn(_unended_text(one))
    if not found:
        messages.say("no warm worker runs")
    forget_ended(invocation().environment)


def _unended_text(one: Listed) -> str:
    if not one.state.is_here:
        return f"the warm worker {one.state.pid} of another container has not ended; end it there"
    return f"the warm worker {one.state.pid} has not ended; end it with: kill -9 {one.state.pid}"


def _row(one: Listed) -> tuple[str, ...]:
    state = one.state
    memory = in_mb(one.memory) if one.memory else ""
    return str(state.pid), ago(rfc3339(state.began)), memory, str(state.served), state.reason, ", ".join(state.holds)


def _object(one: Listed) -> dict[str, object]:
    state = one.state
    return {
        "v": 1,
        "type": "worker",
        "pid": state.pid,
        "since": rfc3339(state.began),
        "memory_bytes": one.memory,
        "commands": state.served,
        "last_cold": state.reason,
        "holds": list(state.holds),
        "socket": one.address,
    }


def _failed_text(failure: Failure) -> str:
    reason = failure.reason or "there was no room to write the reason"
    again = (
        f"a run tries again in {failure.remaining_s:.0f} s" if failure.remaining_s > 0 else "the next run tries again"
    )
    return f"a warm worker could not start: {reason}; {again}"


def _failed_object(address: str, failure: Failure) -> dict[str, object]:
    return {
        "v": 1,
        "type": "failed_worker",
        "failed_at": rfc3339(failure.at),
        "reason": failure.reason,
        "retry_after_s": round(max(failure.remaining_s, 0.0), 1),
        "socket": address,
    }
