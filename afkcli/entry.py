"""The start of the `afk` command: until its modules are imported, Ctrl-C ends it at once and without a traceback."""

from __future__ import annotations

from afkcli.host.search_path import leave_working_folder

leave_working_folder()  # before anything else is imported

import signal  # noqa: E402
import sys  # noqa: E402
import warnings  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn, TextIO


def main() -> NoReturn:
    """Have a warm worker run the command if there is one that may; else import the command line and run it."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:  # not where the shell has it ignored
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from afkcli.worker.client import hand_over

    hand_over()
    given = _given_environment()
    _run(interrupted, lambda: _start_worker(given))


def cold() -> NoReturn:
    """Import the command line and run it in this process; no worker is used, and none is started."""
    interrupted = signal.getsignal(signal.SIGINT)
    if interrupted is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    _run(interrupted, lambda: None)


def worker() -> NoReturn:
    """Be a warm worker: see `afkcli.worker`. Since: 0.2."""
    from afkcli.cli import run_process
    from afkcli.worker.process import main as serve

    show_deprecations()
    serve(lambda make: run_process(make)[1])


def _run(interrupted: Any, at_end: Callable[[], None]) -> NoReturn:
    from afkcli.cli import main as run

    show_deprecations()
    signal.signal(signal.SIGINT, interrupted)
    run(at_end)


def _given_environment() -> dict[str, str]:
    """Return the environment before a plugin or an SDK sets something in it: a worker gets what a client has."""
    import os

    from afkcli.worker.place import given_environment

    return given_environment(os.environ)


def _start_worker(given: dict[str, str]) -> None:
    if "afkcli.core.run.loop" in sys.modules:  # a model was asked
        from afkcli.worker.starting import start_worker

        start_worker(given, sys.argv[0])


def show_deprecations() -> None:
    """Write each warning about a deprecated module of ours as a line of `afk`, with the file that imports it.

    Python itself hides such warnings from those who run a program.
    """
    others = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not (issubclass(category, DeprecationWarning) and str(message).startswith("afkcli.")):
            others(message, category, filename, lineno, file, line)
            return
        from afkcli.host.invocation import Invocation
        from afkcli.screen.messages import Messages

        Messages(Invocation.of_process()).warn(f"{message} ({filename}, line {lineno})")

    warnings.filterwarnings("default", r"afkcli\.", DeprecationWarning)
    warnings.showwarning = show
