"""What trust in a project switches on, one setting at a time, and which of it is a risk.

The user has to see all of it before they agree. What starts programs, runs code, gets keys or conversations, allows
tool calls, or opens files comes first.

Since: 0.2.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afkcli.config.binding import is_key_command, rule_key
from afkcli.config.reading import relative_to
from afkcli.core.contract.jsonform import canonical
from afkcli.core.contract.structs import FrozenStruct

STARTS = "starts a program"
RUNS = "runs code"
SENDS = "decides where keys and conversations go"
ALLOWS = "allows tool calls without asking"
LETS = "lets a model use tools"
OPENS = "opens files, or lifts a sandbox"
READS = "sends a file that is not in the project"
RISKS = (STARTS, RUNS, SENDS, ALLOWS, LETS, OPENS, READS)
"""In the order in which they are shown."""


class Setting(FrozenStruct, kw_only=True):
    """A setting that trust switches on.

    Args:
        key: its dotted name; a server is one setting, and so is a rule.
        value: what the file says, with dates as texts.
        risk: why it is a risk, one of `RISKS`; None if it is none.
        prompt: the name of the prompt whose setting it is; None for a setting of the config.
    """

    key: str
    value: Any
    risk: str | None = None
    prompt: str | None = None

    @property
    def digest(self) -> str:
        """A hash of the value, to see later whether it changed."""
        return hashlib.sha256(canonical(_plain(self.value)).encode()).hexdigest()


def switched_on(file: Path, inert: Mapping[str, Any]) -> list[Setting]:
    """Return the settings of the project file `file` that do not count without trust, the risks first.

    Args:
        file: the path of the project file.
        inert: the keys that do not count, by dotted name, with their values.
    """
    found = [setting for key, value in inert.items() for setting in _settings(file, (key,), value)]
    order = {risk: number for number, risk in enumerate((*RISKS, None))}
    return sorted(found, key=lambda item: order[item.risk])


def _settings(file: Path, path: tuple[str, ...], value: Any) -> Iterator[Setting]:
    """Yield each value below a key; a table that starts or names a server is one setting, and so is a rule."""
    if path[-1] == "rules" and path[0] == "approvals" and isinstance(value, list):
        for number, rule in enumerate(value, 1):
            yield Setting(key=rule_key(number), value=rule, risk=ALLOWS if _allows(rule) else None)
    elif isinstance(value, dict) and value and not (path[0] == "tools" and _is_server(value)):
        for name, item in value.items():
            yield from _settings(file, (*path, name), item)
    else:
        key = ".".join([path[0], *map(_quoted, path[1:])])
        prompt = path[1] if path[0] == "prompts" and len(path) > 2 else None
        yield Setting(key=key, value=value, risk=_risk(file, path, value), prompt=prompt)


def _is_server(value: Mapping[str, Any]) -> bool:
    return bool({"command", "url"} & set(value))


def _allows(rule: Any) -> bool:
    return isinstance(rule, dict) and rule.get("decision") == "allow"


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else canonical(name)


_FIXED = {
    "plugins": RUNS,
    **dict.fromkeys(("commands", "store", "stores", "sinks", "engines", "providers"), SENDS),
    **dict.fromkeys(("model", "fallback_models", "models", "extra"), SENDS),
}


_OF_A_PROMPT = {"tools": LETS, "model": SENDS}


def _risk(file: Path, path: tuple[str, ...], value: Any) -> str | None:
    """Return why a setting is a risk, by its key and value. In an agent's table the name of the agent may be anything,
    so that any part of the key counts."""
    parts = [part for name in path for part in name.split(".")]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return None
    if is_key_command(parts[0], parts[-1], value):
        return STARTS
    if parts[0] == "agents":
        if "tools" in parts[2:]:
            return LETS
        if "instructions_file" in parts[2:]:
            return _risk_of_instructions(file, value)
        return next((_FIXED[part] for part in parts[2:] if part in _FIXED), None)
    if parts[0] == "instructions_file" or (path[0] == "prompts" and path[2:] == ("schema",)):
        return _risk_of_instructions(file, value)
    if path[0] == "prompts":
        return _OF_A_PROMPT.get(path[2]) if len(path) == 3 else None
    return _risk_of_tools(value) if parts[0] == "tools" else _FIXED.get(parts[0])


def _risk_of_tools(value: Any) -> str:
    if isinstance(value, dict) and _is_server(value):
        return STARTS if "command" in value else SENDS
    return OPENS


def _risk_of_instructions(file: Path, text: Any) -> str | None:
    with contextlib.suppress(OSError, RuntimeError, ValueError):
        if isinstance(text, str) and relative_to(file, text).resolve().is_relative_to(file.parent.resolve()):
            return None
    return READS


def _plain(value: Any) -> Any:
    """Return a value of TOML as JSON has it: dates, times and infinite numbers are texts."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, bool, int)) else str(value)


_NAMES_A_PROGRAM = re.compile(r"command|cmd|program|helper|script|hook|exec|shell|path|file|url|host", re.IGNORECASE)


def is_hidden(key: str, value: str, secret_name: re.Pattern[str]) -> bool:
    """Return whether a value is not shown: a single opaque word whose key says that it is a secret.

    Anything else is shown whatever its key is: a project could hide a command under the name of a secret.
    """
    names_a_secret = secret_name.search(key) and not _NAMES_A_PROGRAM.search(key)
    return bool(names_a_secret) and bool(re.fullmatch(r"[A-Za-z0-9_+=-]{8,}", value))
