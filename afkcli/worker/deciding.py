"""Whether a command runs warm: all decisions are here. Where there is a doubt it runs cold, with the same result."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from afkcli.config.project import find_project_file
from afkcli.core.contract.structs import FrozenStruct
from afkcli.host.paths import config_file
from afkcli.host.permissions import MAX_OWN_BYTES
from afkcli.worker import place, wire
from afkcli.worker.caller import Caller
from afkcli.worker.identity import Identity
from afkcli.worker.starting import is_passed_on

NEVER = ("batch", "chat", "completion", "init", "plugins", "trust", "worker")
"""Commands that talk with a person, change the installation, start processes of their own, or are of the worker."""
READS_NO_TERMINAL: dict[str, tuple[str, ...]] = {
    "": (),
    "agents": (),
    "config": (),
    "doctor": (),
    "events": (),
    "models": (),
    "prompts": ("list", "show"),
    "replay": (),
    "run": (),
    "threads": ("list", "show", "search", "export", "rename", "tag", "untag", "undo", "redo"),
    "tools": (),
    "usage": (),
}
"""The commands that ask a person nothing, each with those of its own commands for which that holds; () for all."""
_TURNS = ("run",)
_TOOL_OPTIONS = ("--tool", "--tools", "-T")
_SIGNS = (b"tools", b"_command")
"""What a config has that gives an agent tools, or a provider a key by a command."""
_TERMINALS = ("/dev/tty", "/dev/stdin")
"""A child has no controlling terminal, and one that is in the background does not stop when it reads a terminal."""
_OTHER_FILES = ("/dev/fd/", "/proc/", "/dev/stdin", "/dev/stdout", "/dev/stderr", "/dev/tty")


class Decision(FrozenStruct):
    """Whether a command runs warm, why not, and whether the worker is out of date."""

    is_warm: bool
    reason: str = ""
    is_stale: bool = False

    @classmethod
    def cold(cls, reason: str) -> Decision:
        """Return that the command runs cold, and the worker serves the next one."""
        return cls(is_warm=False, reason=reason)

    @classmethod
    def stale(cls, reason: str) -> Decision:
        """Return that the command runs cold, and that another worker has to be started."""
        return cls(is_warm=False, reason=reason, is_stale=True)


WARM = Decision(is_warm=True)


def decide(order: wire.Order, caller: Caller, identity: Identity) -> Decision:
    """Return whether the command of a client may run in this process."""
    words = [os.fsdecode(text) for text in order.arguments]
    environment = {os.fsdecode(name): os.fsdecode(value) for name, value in order.environment.items()}
    return (
        _of_command(words[1:], order)
        or _of_environment(words[0], environment, identity)
        or _of_process(caller, identity)
        or _of_terminal(words[1:], order, caller, environment)
        or _of_files(identity)
        or WARM
    )


def _of_command(words: Sequence[str], order: wire.Order) -> Decision | None:
    command = command_of(words)
    if command[:1] and command[0] in NEVER:
        return Decision.cold(f"`afk {command[0]}` runs cold")
    if "--edit" in words or _approvals(words) == "ask":
        return Decision.cold("a person is asked")
    named = _OTHER_FILES if order.flags & wire.HAS_OTHERS else _TERMINALS
    if any(name in word for word in words for name in named):
        return Decision.cold("an argument names a descriptor")
    return None


def _approvals(words: Sequence[str]) -> str:
    """Return what the option `--approvals` says, "" where it is not given."""
    for at, word in enumerate(words):
        if word == "--approvals":
            return words[at + 1] if at + 1 < len(words) else ""
        if word.startswith("--approvals="):
            return word.partition("=")[2]
    return ""


def _of_environment(program: str, environment: Mapping[str, str], identity: Identity) -> Decision | None:
    if environment.get("AFK_APPROVALS") == "ask":
        return Decision.cold("a person is asked")
    if place.is_off(environment):
        return Decision.cold("it is turned off")
    cold = [name for name in environment if place.keeps_cold(name) or name == "_AFK_COMPLETE"]
    if cold:
        return Decision.cold(f"{cold[0]} is set")
    if os.path.dirname(os.path.realpath(program)) != identity.program_folder:  # noqa: PTH120
        return Decision.cold("another program")
    name = identity.changed_variable(environment)
    if name is None:
        return None
    # Another worker would not have the variable either: it would be started again and again.
    return Decision.stale(f"{name} differs") if is_passed_on(name) else Decision.cold(f"{name} differs")


def _of_process(caller: Caller, identity: Identity) -> Decision | None:
    if caller.is_traced():
        return Decision.cold("it is traced")
    state = identity.differing_state(caller.pid)
    return Decision.stale(f"{state} differs") if state is not None else None


def _of_files(identity: Identity) -> Decision | None:
    path = identity.changed_path()
    return Decision.stale(f"{path} has changed") if path is not None else None


def _of_terminal(
    words: Sequence[str], order: wire.Order, caller: Caller, environment: Mapping[str, str]
) -> Decision | None:
    """Return why a command is not taken that has a terminal: only what reads nothing from it runs here."""
    if not caller.has_terminal:
        return None
    if caller.terminal is None or not caller.is_in_foreground():
        return Decision.cold("it is in the background, where a terminal may stop it")
    command, part = [*command_of(words), "", ""][:2]
    known = READS_NO_TERMINAL.get(command)
    if known is None or (known and part and part not in known):
        return Decision.cold("it may read from the terminal")
    if command in _TURNS and (_reads_stdin(words) or _may_ask(words, caller, environment)):
        return Decision.cold("it may ask on the terminal")
    return None


def _reads_stdin(words: Sequence[str]) -> bool:
    """Return whether a word says that stdin is read, though it is a terminal: `-`, `--attach=-`."""
    return any(word == "-" or word.endswith("=-") for word in words)


def _may_ask(words: Sequence[str], caller: Caller, environment: Mapping[str, str]) -> bool:
    """Return whether a turn may ask a person: about a call of a tool, or a command of a key for its passphrase."""
    if any(word.startswith(_TOOL_OPTIONS) for word in words):
        return True
    config = [os.fspath(config_file(environment))]
    try:
        project = find_project_file(os.readlink(f"/proc/{caller.pid}/cwd"))  # noqa: PTH115
    except OSError:
        return True
    config += [os.fspath(project.path)] if project is not None else []
    return any(sign in _bytes_of(path) for path in config for sign in _SIGNS)


def _bytes_of(path: str) -> bytes:
    """Return the bytes of a config file; what stands for all signs where it cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(MAX_OWN_BYTES)
    except FileNotFoundError:
        return b""
    except OSError:
        return b"".join(_SIGNS)


def command_of(words: Sequence[str]) -> list[str]:
    """Return the words of a command line that are not options, at most the first two."""
    return [word for word in words if not word.startswith("-")][:2]
