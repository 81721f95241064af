"""Whether a command runs warm: all decisions are here. Where there is a doubt it runs cold, with the same result."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from afkcli.config.project import find_project_file
from afkcli.core.contract.structs import FrozenStruct
from afkcli.host.paths import config_file
from afkcli.host.permissions import MAX_OWN_BYTES
from afkcli.worker import place, room, wire
from afkcli.worker.caller import Caller
from afkcli.worker.identity import Identity
from afkcli.worker.starting import is_passed_on

NEVER = ("chat", "completion", "init", "plugins", "trust", "worker")
"""Commands that talk with a person, change the installation, or are of the worker."""
READS_NO_TERMINAL: dict[str, tuple[str, ...]] = {
    "": (),
    "agents": (),
    "batch": ("list", "results", "status"),
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
MAY_READ_TERMINAL = {
    "batch": ("cancel", "retry", "rm", "run", "worker"),
    "prompts": ("edit", "new"),
    "threads": ("compact", "copy", "fork", "gc", "import", "resume", "rm", "rules"),
}
"""The others, by which they are told from the value of an option; those of `batch` start processes or change much."""
_GETS_KEYS = ("doctor", "models", "run", "tools")
"""The commands that may need the key of a provider or of tools."""
_NAMES_TOOLS = re.compile(r"--tool|--prompt|-[A-Za-z]*p")
"""What an option begins with that gives an agent tools; those of a prompt are in its file."""
_TOOLS = re.compile(rb"tools|\\[uU]")
_KEY_COMMAND = re.compile(rb"_command|\\[uU]")
_MODE = re.compile(rb"mode(?![a-z])|\\[uU]")
"""What a config has that gives an agent tools, a plugin a key by a command, and approvals a mode; or has escaped."""
_ASKS_NO_PERSON = ("deny", "stdin")
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


def decide(order: wire.Order, caller: Caller, identity: Identity, running: int) -> Decision:
    """Return whether the command of a client may run in this process, while so many others run in the worker."""
    words = [os.fsdecode(text) for text in order.arguments]
    environment = {os.fsdecode(name): os.fsdecode(value) for name, value in order.environment.items()}
    if not order.flags & wire.HAS_FOLDER:  # one that was deleted can be opened, one that it may not enter cannot
        return Decision.cold("its working folder cannot be opened")
    return (
        _of_command(words[1:], order)
        or _of_environment(_program(words[0], caller), environment, identity)
        or _of_process(caller, identity)
        or _of_terminal(words[1:], order, caller, environment)
        or _of_room(running)
        or _of_files(identity)
        or WARM
    )


def _of_command(words: Sequence[str], order: wire.Order) -> Decision | None:
    command = command_of(words)
    if command[:1] and (command[0] in NEVER or (command[0] == "batch" and _may_read("batch", words))):
        return Decision.cold("" if command[0] == "worker" else f"`afk {command[0]}` runs cold")
    if "--edit" in words or "ask" in _approvals(words):
        return Decision.cold("a person is asked")
    named = _OTHER_FILES if order.flags & wire.HAS_OTHERS else _TERMINALS
    if any(name in word for word in words for name in named):
        return Decision.cold("an argument names a descriptor")
    return None


def _program(called: str, caller: Caller) -> str:
    """Return the path of what was executed; a relative one is of the folder of the caller, not of this process."""
    try:
        return called if called.startswith("/") else os.path.join(os.readlink(f"/proc/{caller.pid}/cwd"), called)  # noqa: PTH115, PTH118
    except OSError:
        return called


def _approvals(words: Sequence[str]) -> list[str]:
    """Return what the options `--approvals` say."""
    found = [word.partition("=")[2] for word in words if word.startswith("--approvals=")]
    return found + [words[at + 1] for at, word in enumerate(words[:-1]) if word == "--approvals"]


def _of_environment(program: str, environment: Mapping[str, str], identity: Identity) -> Decision | None:
    if environment.get("AFK_APPROVALS") == "ask":
        return Decision.cold("a person is asked")
    if place.is_off(environment):
        return Decision.cold("it is turned off")
    relative = place.relative_path(environment)
    if relative is not None:
        return Decision.cold(f"{relative} is not a full path")
    cold = [name for name in environment if place.keeps_cold(name) or name == "_AFK_COMPLETE"]
    if environment.get("PYTHONCOERCECLOCALE") == "warn":  # Python itself writes a line at its start
        cold.append("PYTHONCOERCECLOCALE")
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


def _of_room(running: int) -> Decision | None:
    return None if room.is_ample(running) else Decision.stale(room.FULL)


def _of_files(identity: Identity) -> Decision | None:
    if not identity.is_of_today():
        return Decision.stale("the date has changed")
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
    command = [*command_of(words), ""][0]
    configs = _configs(caller, environment)
    if configs is None or _may_read(command, words) or _reads_terminal(command, words, order, caller):
        return Decision.cold("it may read from the terminal")
    if _may_ask_for_key(command, configs) or (
        command == "run"
        and _may_have_tools(words, configs)
        and _asks_person(words, order, caller, environment, configs)
    ):
        return Decision.cold("it may ask on the terminal")
    return None


def _may_read(command: str, words: Sequence[str]) -> bool:
    """Return whether it is another command than those that read no terminal, or one of its own may be another."""
    return command not in READS_NO_TERMINAL or any(word in MAY_READ_TERMINAL.get(command, ()) for word in words)


def _configs(caller: Caller, environment: Mapping[str, str]) -> list[bytes] | None:
    """Return the bytes of the user's config and of the project's; None where they cannot be read."""
    paths = [os.fspath(config_file(environment))]
    try:
        project = find_project_file(os.readlink(f"/proc/{caller.pid}/cwd"))  # noqa: PTH115
        paths += [os.fspath(project.path)] if project is not None else []
        return [_bytes_of(path) for path in paths]
    except OSError:
        return None


def _reads_terminal(command: str, words: Sequence[str], order: wire.Order, caller: Caller) -> bool:
    """Return whether a command may read stdin, and that may be a terminal: `-`, `--attach=-`, or page by page."""
    reads = any(word == "-" or word.endswith("=-") for word in words) or "stdin" in _approvals(words)
    pages = command == "threads" and "--all" in words
    return (reads or pages) and _may_be_terminal(0, order, caller)


def _may_ask_for_key(command: str, configs: Sequence[bytes]) -> bool:
    """Return whether a command may run another one that prints a key, which may ask for a passphrase."""
    found = any(map(_KEY_COMMAND.search, configs))
    return found and (command in _GETS_KEYS or any(b"store" in config for config in configs))


def _may_have_tools(words: Sequence[str], configs: Sequence[bytes]) -> bool:
    return any(map(_NAMES_TOOLS.match, words)) or any(map(_TOOLS.search, configs))


def _asks_person(
    words: Sequence[str], order: wire.Order, caller: Caller, environment: Mapping[str, str], configs: Sequence[bytes]
) -> bool:
    """Return whether a person at the terminal may be asked about a call: always, unless it is sure that no one is.

    Rules that allow all calls do not help: one that an interrupted run may have made already is asked about.
    """
    said = _said(words) or environment.get("AFK_APPROVALS", "")
    if said:
        return said not in _ASKS_NO_PERSON
    return _may_be_terminal(2, order, caller) or any(map(_MODE.search, configs))


def _said(words: Sequence[str]) -> str:
    """Return what the option `--approvals` says, "" where there is none.

    It is "ask" in doubt: where it is given twice, or may be a word of the message or the value of another option.
    """
    options = [*words[: words.index("--")]] if "--" in words else words
    at = [number for number, word in enumerate(words) if word.startswith("--approvals")]
    if len(at) != 1 or at[0] >= len(options) or at[0] == 0 or options[at[0] - 1].startswith("-"):
        return "ask" if at else ""
    return (_approvals(options) or ["ask"])[0]


def _may_be_terminal(descriptor: int, order: wire.Order, caller: Caller) -> bool:
    return not order.has(descriptor) or caller.may_be_terminal(descriptor)


def _bytes_of(path: str) -> bytes:
    """Return the bytes of a config file, none where there is no file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return file.read(MAX_OWN_BYTES)
    except FileNotFoundError:
        return b""


def command_of(words: Sequence[str]) -> list[str]:
    """Return the words of a command line that are not options, at most the first two."""
    return [word for word in words if not word.startswith("-")][:2]
