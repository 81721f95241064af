"""The command line as a function of an invocation, and the end of the process as it says."""

from __future__ import annotations

import contextlib
import os
import sys

from afkcli.front_page import first_page, front_page
from afkcli.host.collecting import pause_collecting
from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation, drop_unwritten, open_standard_descriptors, unblock_stderr

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

EXIT_USAGE = 2
"""As in `afkcli.core.contract.errors`, which the front page does not import."""
_LAST_LINES_SECONDS = 0.5
"""How long the end waits for a reader of stderr that takes nothing."""


def run(invocation: Invocation) -> Ending:
    """Run the command line of `invocation`; return how it ended. It raises nothing and ends no process."""
    try:
        returned = _called(invocation)
        invocation.stdout.flush()
    except BaseException as error:
        from afkcli.screen.errors import ending_of

        return ending_of(error, invocation, debug="--debug" in invocation.arguments)
    if isinstance(returned, Ending):
        return returned
    return Ending(returned if isinstance(returned, int) else 0)


def run_process(
    make: Callable[[], Invocation] = lambda: Invocation.of_process(owns_process=True),
) -> tuple[Invocation, Ending]:
    """Run the command line of this process, and write all that it has to write; return how it ended.

    Args:
        make: returns the invocation of the process, once its streams are as they are used.
    """
    pause_collecting()
    wait_for_stderr = unblock_stderr()
    invocation = make()
    open_standard_descriptors()
    ending = run(invocation)
    wait_for_stderr(_LAST_LINES_SECONDS)
    drop_unwritten(invocation.stdout)
    return invocation, ending


def main(at_end: Callable[[], None] = lambda: None) -> NoReturn:
    """Run the command line, and end this process as it ended: the documented exit code, or the signal.

    Args:
        at_end: called when all is written, unless a signal has ended the command.
    """
    invocation, ending = run_process()
    if ending.signal is None:
        at_end()
    if ending.signal is not None:
        from afkcli.host.signals import die_of

        die_of(ending.signal)
    if ending.at_once:
        with contextlib.suppress(OSError, ValueError):
            invocation.stderr.flush()
        os._exit(ending.code)
    sys.exit(ending.code)


def _called(invocation: Invocation) -> object:
    """Print a front page, or have click call the command, and return what the command returns."""
    page = front_page(invocation)
    if page is not None:
        if invocation.stdout.text is not None:
            invocation.stdout.text.write(page)
        return None
    page = first_page(invocation)
    if page is not None:
        if invocation.stderr.text is not None:
            invocation.stderr.text.write(page)
        return EXIT_USAGE
    from afkcli.command_group import cli

    shell = invocation.environment.get("_AFK_COMPLETE")
    if shell in ("bash", "zsh", "fish"):
        from afkcli.commands.completing import complete

        complete(cli, invocation, shell)
        return None
    return cli.main(list(invocation.arguments), prog_name="afk", standalone_mode=False, obj=invocation)
