"""An approval rule as lines of TOML, and its way into the user's config file, whose other lines stay as they are.

Since: 0.2.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from afkcli.config.checking import pins_of
from afkcli.config.reading import parse_config, parse_toml
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.rules import ApprovalRule
from afkcli.core.contract.text import escaped
from afkcli.core.contract.tools import ValidArguments
from afkcli.host.files import make_private_folder, replace_file
from afkcli.host.permissions import UnsafeFileError, read_own_file

HEADER = "[[approvals.rules]]"


class NoTomlError(ValueError):
    """A value has no form in TOML: `null`."""


def rule_lines(rule: ApprovalRule) -> list[str]:
    """Return a rule as lines of the config, in the form in which they are shown, edited and written.

    Raises:
        NoTomlError: an argument is `null`.
    """
    arguments = [f"arguments.{toml_key(name)} = {toml_value(value)}" for name, value in rule.arguments.items()]
    pins = [toml_value(pin) for pin in rule.pins]
    return [
        HEADER,
        f"tool = {toml_value(rule.tool)}",
        f'decision = "{rule.decision}"',
        *arguments,
        *([] if rule.other_arguments else ["other_arguments = false"]),
        *([f"pin = {pins[0]}" if len(pins) == 1 else f"pin = [{', '.join(pins)}]"] if pins else []),
    ]


def edited_rule(rule: ApprovalRule, line: str) -> ApprovalRule:
    """Return a rule after a person typed a line: `argv = ["git", "log", "..."]`, or `-cwd` to take a pattern away.

    A pattern that is taken away lets its argument be anything, so the rule then allows other arguments.

    Raises:
        ConfigError: the line says nothing that a rule has.
    """
    name = line[1:].strip() if line.startswith("-") else ""
    if name in rule.arguments:
        kept = {key: value for key, value in rule.arguments.items() if key != name}
        return _rule(rule, arguments=kept, other_arguments=True)
    table = parse_toml(line.encode(errors="replace"), Path("what was typed"))
    given = table.pop("arguments", {})
    if not isinstance(given, dict):
        raise ConfigError("arguments is a table: arguments.NAME = VALUE")
    changes: dict[str, Any] = {key: table.pop(key) for key in ("tool", "other_arguments") if key in table}
    given |= table
    if not (given or changes) or not isinstance(changes.get("tool", ""), str):
        raise ConfigError("type a line of the rule as it should be")
    if not isinstance(changes.get("other_arguments", True), bool):
        raise ConfigError("other_arguments is true or false")
    unknown = next((key for key in given if key in ("decision", "pin")), None)
    if unknown is not None:
        raise ConfigError(f"{unknown} cannot be changed here")
    return _rule(rule, arguments={**rule.arguments, **given}, **changes)


def _rule(rule: ApprovalRule, **changes: Any) -> ApprovalRule:
    fields: dict[str, Any] = {
        "tool": rule.tool,
        "decision": rule.decision,
        "arguments": rule.arguments,
        "pins": rule.pins,
        "other_arguments": rule.other_arguments,
    }
    return ApprovalRule(**{**fields, **changes})


def toml_key(name: str) -> str:
    """Return a key of TOML: bare where it can be, else quoted."""
    bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if bare else toml_value(name)


def toml_value(value: Json) -> str:
    """Return a value of JSON on one line of TOML, with every character visible.

    Raises:
        NoTomlError: it is, or has in it, `null`.
    """
    if value is None:
        raise NoTomlError("TOML has no null")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        plain = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        return f'"{escaped(plain)}"'
    if isinstance(value, list):
        return f"[{', '.join(map(toml_value, value))}]"
    if isinstance(value, dict):
        pairs = (f"{toml_key(name)} = {toml_value(item)}" for name, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    return repr(value)


def add_rule(path: Path, rule: ApprovalRule, call: ValidArguments) -> None:
    """Add a rule to the end of the user's config file, in one step; comments and all other lines stay.

    Args:
        path: the file; it is created if it is not there.
        rule: the rule.
        call: the call that it has to allow. A rule before it that decides on this call would make it useless.

    Raises:
        ConfigError: the file was not changed, and why: it is a link, belongs to another user, is read-only, or is not
            valid, or a rule at its end would not count.
    """
    try:
        make_private_folder(path.parent)
        with _alone(path.parent):
            data, mode = _own_bytes(path)
            new = _with_rule(path, data, rule, call)
            if _own_bytes(path)[0] != data:
                raise ConfigError(f"{path} has just been changed by another program")
            replace_file(path, [new], mode=mode, new=data is None)
    except UnsafeFileError as error:
        raise ConfigError(f"{path}: {error}") from None
    except (NoTomlError, UnicodeError) as error:
        raise ConfigError(f"the rule cannot be written: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes of afk from writing files of the folder in this way."""
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise ConfigError(f"another afk is writing in {folder}; try again") from None
    finally:
        os.close(descriptor)


def _own_bytes(path: Path) -> tuple[bytes | None, int]:
    """Return the bytes and the mode of a file that may be replaced; None if there is no file."""
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None, 0o600
    if stat.S_ISLNK(status.st_mode):
        raise UnsafeFileError(f"it is a link to {path.readlink()}, which afk does not replace")
    if status.st_uid != os.geteuid():
        raise UnsafeFileError("it belongs to another user")
    if status.st_nlink > 1:
        raise UnsafeFileError("it has another name elsewhere (a hard link), which would not get the rule")
    if not status.st_mode & stat.S_IWUSR:
        raise UnsafeFileError("it is read-only")
    return read_own_file(path), stat.S_IMODE(status.st_mode)


def _with_rule(path: Path, data: bytes | None, rule: ApprovalRule, call: ValidArguments) -> str:
    """Return the text of a config file with the rule at its end, checked to be the old one and the rule."""
    old = (data or b"").decode()
    before = parse_config(data or b"", path)
    rules = before.get("approvals", {}).get("rules", [])
    deciding = _deciding(rules, call)
    if deciding is not None:
        raise ConfigError(
            f"rule {deciding} of {path} already decides on this call, so a rule after it would have no effect"
        )
    end = "\r\n" if "\r\n" in old else "\n"
    gap = "" if not old else end if old.endswith("\n") else end * 2
    new = old + gap + end.join(rule_lines(rule)) + end
    wrong = ConfigError(f"{path} has its approvals in a form to which afk cannot add a rule; add it with an editor")
    try:
        after = parse_config(new.encode(), path)
    except ConfigError:
        raise wrong from None
    added = after.get("approvals", {}).get("rules", [])
    others = {**after, "approvals": {**after.get("approvals", {}), "rules": rules}}
    same = {**before, "approvals": {**before.get("approvals", {}), "rules": rules}}
    if added[:-1] != rules or others != same:
        raise wrong
    return new


def _deciding(rules: Sequence[Mapping[str, Any]], call: ValidArguments) -> int | None:
    """Return the number of the first of these rules that decides on a call, None if no rule does."""
    for number, table in enumerate(rules, 1):
        rule = ApprovalRule(
            tool=table["tool"],
            decision=table["decision"],
            arguments=table.get("arguments", {}),
            pins=pins_of(table),
            other_arguments=table.get("other_arguments", True),
        )
        if rule.decision != "allow" and rule.matches(call.tool, call.given, lambda: call.taken):
            return number
    return None
