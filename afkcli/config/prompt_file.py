"""A prompt in a file: Markdown with YAML front matter, checked as the config is.

Since: 0.2.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from afkcli.config.checking import OPTION_KEYS
from afkcli.config.front_matter import Scalar, Table, divided, plain, read_front_matter
from afkcli.config.prompt_text import names_in, variable_name
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.options import wanted_value
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.core.contract.suggestions import near_names
from afkcli.core.contract.text import decoded

SUFFIX = ".md"
MAX_BYTES = 1_000_000
MESSAGE, INPUT = "message", "input"
"""The variables that a run fills itself: MESSAGE, and what is piped in."""

KEYS = ("description", "model", "agent", "instructions", "options", "tools", "schema", "variables")
_MEANT = {
    "system": "instructions",
    "system_prompt": "instructions",
    "vars": "variables",
    "defaults": "variables",
    "arguments": "variables",
    "args": "variables",
    "allowed-tools": "tools",
    "json_schema": "schema",
    **dict.fromkeys(OPTION_KEYS, "options"),
}
"""What other programs call these keys."""
_VARIABLE_KEYS = ("default", "description", "required")


class Variable(FrozenStruct, kw_only=True):
    """A variable of a prompt: without a default it needs a value. `description` is for a person."""

    default: str | None = None
    description: str = ""


class Prompt(FrozenStruct, kw_only=True):
    """A prompt.

    Args:
        name: its name, or the path that was typed.
        path: its file.
        text: the text below the front matter, with its variables.
        description: one line for a list.
        model, agent, instructions: as the options of `afk run`; None where the file does not say.
        options: options of the model by name; None removes what the config sets.
        tools: names of tools that the agent gets too.
        schema: the path of a JSON Schema, absolute, or the schema itself; None if the answer is text.
        variables: all that it has, declared or not, by name.
        named: the variables that its text and its instructions name, each with its line.
    """

    name: str
    path: Path
    text: str
    description: str = ""
    model: str | None = None
    agent: str | None = None
    instructions: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[str, ...] = ()
    schema: Path | Mapping[str, Any] | None = None
    variables: Mapping[str, Variable] = field(default_factory=dict)
    named: Mapping[str, int] = field(default_factory=dict)


def read_prompt(data: bytes, path: Path, name: str) -> Prompt:
    """Return the prompt in the bytes of a file.

    Raises:
        ConfigError: it is not UTF-8, its front matter is not valid, or it has an unknown key; the message has the line.
    """
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    if "\0" in text:
        raise ConfigError(f"{path}: it has NUL bytes, so it is not text")
    where = str(path)
    parts = divided(text, where)
    table = Table() if parts.front is None else read_front_matter(parts.front, where, parts.first_line)
    check = _Check(where, table)
    check.keys(table, KEYS)
    body = parts.text.strip("\n").rstrip()
    before = len(parts.text) - len(parts.text.lstrip("\n"))
    named = names_in(body, where, parts.text_line + before)
    instructions = check.text("instructions")
    if instructions:
        named = {**names_in(instructions, where, table.lines["instructions"]), **named}
    return Prompt(
        name=name,
        path=path,
        text=body,
        description=check.text("description") or "",
        model=check.text("model"),
        agent=check.text("agent"),
        instructions=instructions,
        options=check.options(),
        tools=check.tools(),
        schema=check.schema(path.parent),
        variables={**{item: Variable() for item in named}, **check.variables()},
        named=named,
    )


class _Check:
    """Checks the keys of one front matter."""

    def __init__(self, where: str, table: Table) -> None:
        self._where = where
        self._table = table

    def keys(self, table: Table, known: tuple[str, ...], at: str = "") -> None:
        """Refuse a key that is not known, with the one that may be meant."""
        for key in table:
            if key in known:
                continue
            near = ([_MEANT[key]] if not at and key in _MEANT else []) or near_names(key, known)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise self._error(f"unknown key {at + key!r}; {hint}", table.lines[key])

    def text(self, key: str) -> str | None:
        """Return a text as it was written; None where there is no value."""
        value = self._table.get(key)
        if value is None or _is_empty(value):
            return None
        if not isinstance(value, Scalar):
            raise self._error(f"{key!r} must be a text", self._table.lines[key])
        return str(value).strip("\n")

    def options(self) -> dict[str, Any]:
        table = self._part("options")
        self.keys(table, tuple(OPTION_KEYS), "options.")
        found = {key: plain(value) for key, value in table.items()}
        for key, value in found.items():
            wanted = None if value is None else wanted_value(key, value)
            if wanted is not None:
                raise self._error(f"'options.{key}' must be {wanted} (got {value!r})", table.lines[key])
        return found

    def tools(self) -> tuple[str, ...]:
        value = self._table.get("tools")
        if value is None or _is_empty(value):
            return ()
        items = [Scalar(part.strip()) for part in value.split(",")] if isinstance(value, Scalar) else value
        if not isinstance(items, list) or not all(isinstance(item, Scalar) and item for item in items):
            raise self._error("'tools' must be a list of names, such as [files.read]", self._table.lines["tools"])
        return tuple(str(item) for item in items)

    def schema(self, folder: Path) -> Path | dict[str, Any] | None:
        value = self._table.get("schema")
        if value is None or _is_empty(value):
            return None
        if isinstance(value, Table):
            found: dict[str, Any] = plain(value)
            return found
        if isinstance(value, Scalar) and not value.lstrip().startswith("{"):
            return folder / str(value)
        raise self._error("'schema' must be the path of a JSON Schema, or its keys", self._table.lines["schema"])

    def variables(self) -> dict[str, Variable]:
        value = self._table.get("variables")
        if isinstance(value, list):
            return {self._name(item, self._table.lines["variables"]): Variable() for item in value}
        table = self._part("variables")
        return {
            self._name(Scalar(key), table.lines[key]): self._variable(key, item, table.lines[key])
            for key, item in table.items()
        }

    def _variable(self, name: str, value: Any, line: int) -> Variable:
        if isinstance(value, Scalar):
            return Variable(default=None if _is_empty(value) else str(value))
        if not isinstance(value, Table):
            raise self._error(f"'variables.{name}' must be its default, or {', '.join(_VARIABLE_KEYS)}", line)
        self.keys(value, _VARIABLE_KEYS, f"variables.{name}.")
        texts = {key: item for key, item in value.items() if isinstance(item, Scalar)}
        default = None if "default" not in texts or _is_empty(texts["default"]) else str(texts["default"])
        required = plain(texts["required"]) if "required" in texts else default is None
        if len(texts) < len(value) or not isinstance(required, bool):
            raise self._error(f"'variables.{name}' needs texts, and true or false for 'required'", line)
        if required and default is not None:
            raise self._error(f"'variables.{name}' has a default, so it cannot be required; leave one out", line)
        description = str(texts.get("description", ""))
        return Variable(default=default if required or default is not None else "", description=description)

    def _name(self, item: Any, line: int) -> str:
        name = variable_name(item) if isinstance(item, Scalar) else None
        if name is None:
            raise self._error(f"{item!s} is not the name of a variable; use letters, digits, _ and -", line)
        return name

    def _part(self, key: str) -> Table:
        value = self._table.get(key)
        if value is None or _is_empty(value):
            return Table()
        if not isinstance(value, Table):
            raise self._error(f"{key!r} must have keys of its own, each on a line", self._table.lines[key])
        return value

    def _error(self, what: str, line: int) -> ConfigError:
        return ConfigError(f"{self._where}, line {line}: {what}")


def _is_empty(value: Any) -> bool:
    """Return whether a key has no value: nothing, `~` or `null`."""
    return isinstance(value, Scalar) and value.plain and value.value is None


def values_for(
    prompt: Prompt, given: Mapping[str, str], said: Mapping[str, str | None], *, strict: bool = True
) -> dict[str, str]:
    """Return the value of each variable that a prompt names.

    Args:
        prompt: the prompt.
        given: what the user says, by name.
        said: the values of MESSAGE and INPUT; None for one that is not there.
        strict: whether a variable without a value is an error; else it has none.

    Raises:
        ConfigError: a variable is unknown, or needs a value; the message has the option to type.
    """
    what = f"the prompt {prompt.name!r}"
    named = {variable_name(name) or name: value for name, value in given.items()}
    for name in named:
        if name in (MESSAGE, INPUT):
            raise ConfigError(f"{name!r} is filled from MESSAGE or stdin, not by --var")
        if name not in prompt.variables:
            known = sorted(set(prompt.variables) - {MESSAGE, INPUT})
            near = near_names(name, known)
            hint = f"did you mean {near[0]!r}?" if near else f"its variables: {', '.join(known) or 'none'}"
            raise ConfigError(f"{what} has no variable {name!r}; {hint}")
    defaults = {name: item.default for name, item in prompt.variables.items()}
    values = {**defaults, **named, **{name: value for name, value in said.items() if value is not None}}
    missing = [name for name in prompt.named if values.get(name) is None]
    if strict and missing:
        raise ConfigError(_missing_line(prompt, what, missing))
    return {name: value for name, value in values.items() if value is not None}


def _missing_line(prompt: Prompt, what: str, missing: list[str]) -> str:
    asked = [name for name in missing if name not in (MESSAGE, INPUT)]
    if not asked:
        how = "pipe it in" if missing == [INPUT] else f'add it: afk run -p {shlex.quote(prompt.name)} "MESSAGE"'
        return f"{what} needs {'an input' if missing == [INPUT] else 'a message'}; {how}"
    names = " and ".join(repr(name) for name in asked)
    options = " ".join(f"--var {name}=VALUE" for name in asked)
    line = f"{what} needs {'a value' if len(asked) == 1 else 'values'} for {names}; add {options}"
    filled_in = [name for name in prompt.variables if name not in missing]
    near = [(name, found[0]) for name in asked if (found := near_names(name, filled_in))]
    return f"{line} (or does {prompt.path} mean {near[0][1]!r} in line {prompt.named[near[0][0]]}?)" if near else line
