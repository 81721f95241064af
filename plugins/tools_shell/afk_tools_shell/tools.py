"""The tool `shell.run`."""

from __future__ import annotations

import errno
import math
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from afk_tools_shell.command import Outcome, run_command
from afkcli.plugin import (
    CommandPreview,
    ConfigError,
    PluginError,
    SandboxError,
    Tool,
    ToolError,
    hide_memory,
    make_sandbox,
)

if TYPE_CHECKING:
    from afk_tools_shell.settings import Settings
    from afkcli.plugin import Sandbox

PASSED_ON = ("HOME", "LANG", "PATH", "SHELL", "TMPDIR", "USER")
"""The variables of afk's environment that a command gets, besides LC_*: a list of names, because keys have any name."""

_REFUSED = (
    "tools.shell is refused: afk cannot hide its keys from the commands here, because Linux does not let it make itself"
    " non-dumpable (prctl PR_SET_DUMPABLE)"
)


def make_tools(settings: Settings) -> list[Tool]:
    """Return the tools; raises as `afk_tools`."""
    if sys.platform == "win32":
        raise PluginError("tools.shell needs Linux or macOS: Windows has no process groups and sessions")
    if not hide_memory():
        raise PluginError(_REFUSED)
    _check(settings)
    shell = Shell(settings, _checked_sandbox(settings))
    preview = CommandPreview(argv="argv", folder="cwd", where=settings.cwd)
    return [Tool(name="shell.run", description=shell.description, function=shell.run, changes=True, preview=preview)]


def _checked_sandbox(settings: Settings) -> Sandbox | None:
    """Return the sandbox of the commands, as it is now; each call makes its own, so that it knows of new folders."""
    try:
        return _sandbox(settings)
    except ToolError:  # of the folder, which may be there when a command runs
        return None
    except SandboxError as error:
        raise PluginError(
            f'tools.shell is refused: {error}; or write `sandbox = "off"` under [tools.shell] to run commands with'
            " all your rights"
        ) from None


def _sandbox(settings: Settings) -> Sandbox | None:
    return make_sandbox(
        settings.sandbox,
        workspace=_folder(settings.cwd, None),
        writable=settings.writable,
        hidden=settings.hidden,
        network=settings.network,
    )


def _check(settings: Settings) -> None:
    where = "[tools.shell]"
    if not (math.isfinite(settings.timeout_s) and settings.timeout_s > 0):
        raise ConfigError(f"{where} timeout_s must be more than 0 seconds (got {settings.timeout_s})")
    if not 100 <= settings.max_output_bytes <= 50_000:
        raise ConfigError(f"{where} max_output_bytes must be from 100 to 50000 (got {settings.max_output_bytes})")
    if settings.max_processes < 0:
        raise ConfigError(f"{where} max_processes must be 0 (no limit) or more (got {settings.max_processes})")
    for name, value in settings.env.items():
        if not name or "=" in name or "\0" in name + value:
            raise ConfigError(
                f"{where} env has {name!r}, which cannot be set; a name has no =, and neither it nor its value has NUL"
            )


class Shell:
    """Runs commands with the settings."""

    def __init__(self, settings: Settings, sandbox: Sandbox | None) -> None:
        self._settings = settings
        self.description = (
            "Run a program and return its exit status, stdout and stderr. argv is the program and its arguments: no"
            " shell reads them, so pipes, redirections, globs and variables mean nothing. The program cannot ask"
            f" anybody, is stopped after {settings.timeout_s:g} s, and what it leaves running is stopped too."
        ) + (f" {_limits(sandbox)}" if sandbox else "")

    async def run(
        self,
        argv: Annotated[list[str], Field(min_length=1, description="the program and its arguments")],
        cwd: Annotated[str | None, Field(description="the folder to run in")] = None,
        stdin: Annotated[str | None, Field(description="what the program reads; nothing by default")] = None,
        timeout_s: Annotated[float | None, Field(gt=0, description="seconds after which it is stopped")] = None,
    ) -> str:
        """Run `argv` and return what came of it, as text.

        Raises:
            ToolError: it could not be started, or took too long.
        """
        if not hide_memory():
            raise ToolError(_REFUSED)
        if not argv[0] or any("\0" in text for text in (*argv, cwd or "")):
            raise ToolError("argv has an empty program name or a NUL character")
        limit = min(timeout_s or math.inf, self._settings.timeout_s)
        folder = _folder(self._settings.cwd, cwd)
        environment = {**passed_on(), **self._settings.env}
        try:
            outcome = await run_command(
                argv,
                folder=folder,
                environment=environment,
                stdin=stdin,
                max_bytes=self._settings.max_output_bytes,
                limit=limit,
                max_processes=self._settings.max_processes,
                sandbox=_sandbox(self._settings),
            )
        except SandboxError as error:
            raise ToolError(f"the command was not run: {error}") from None
        except OSError as error:
            raise ToolError(_not_started(argv[0], error)) from None
        said = _text(outcome)
        if outcome.crowded:
            most = self._settings.max_processes
            raise ToolError(f"the command had more than {most} processes and threads at once and was stopped\n{said}")
        if outcome.timed_out:
            raise ToolError(f"the command took longer than {limit:g} s and was stopped\n{said}")
        return said


def _limits(sandbox: Sandbox) -> str:
    """Return what a model has to know of the sandbox, so that it does not try in vain."""
    where = "".join(f"{folder}, " for folder in sandbox.writable)
    network = "" if sandbox.network else ", has no network"
    return f"It runs in a sandbox: it can write only in {where}$TMPDIR{network}, and reads no keys of the user."


def passed_on() -> dict[str, str]:
    """Return the part of this process's environment that a command gets."""
    kept = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {**kept, "TERM": "dumb"}


def _folder(configured: str, asked: str | None) -> str:
    try:
        here = os.getcwd()  # noqa: PTH109 - text, as it goes to the process
    except OSError:
        raise ToolError("the working directory of afk is gone; run afk in another folder") from None
    folder = os.path.join(here, os.path.expanduser(configured), os.path.expanduser(asked or ""))  # noqa: PTH111, PTH118
    if not os.path.isdir(folder):  # noqa: PTH112
        raise ToolError(f"there is no folder {folder!r} to run in")
    return folder


def _not_started(program: str, error: OSError) -> str:
    if error.filename is not None:  # of the supervisor
        return f"the command could not be started: {error.strerror}"
    if error.errno == errno.ENOENT and "/" not in program:
        return f"there is no program {program!r} on the PATH; argv is not a shell command, it begins with a program"
    return f"{program!r} could not be run: {error.strerror or error}"


def _text(outcome: Outcome) -> str:
    lines = [_ending(outcome.status)]
    for name, text in (("stdout", outcome.stdout), ("stderr", outcome.stderr)):
        if text:
            lines += [f"{name}:", text.removesuffix("\n")]
    if outcome.stopped and not outcome.timed_out and not outcome.crowded:
        lines.append(f"[{_processes(outcome.stopped)} that the command had left running: stopped]")
    if outcome.lost:
        lines.append(f"[the supervisor of the command was {outcome.lost}: all processes of the command were killed]")
    if outcome.left:
        lines.append(f"[{_processes(outcome.left)} could not be stopped]")
    return "\n".join(lines)


def _ending(status: int | None) -> str:
    if status is None:
        return "exit status: unknown"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit status: {code}"
    try:
        return f"ended by signal {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _processes(number: int) -> str:
    return "1 process" if number == 1 else f"{number} processes"
