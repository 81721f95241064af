"""The config: flags > AFK_* > the thread's last choice > afk.toml > the user's config > defaults, as one `Config`."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from afkcli.core.agent import FailSafeConfig
from afkcli.core.errors import ConfigError
from afkcli.core.protocols import Price
from afkcli.paths import config_file

DEFAULT_AGENT = "afk"
DEFAULT_STORE = "disk"
DEFAULT_SINKS = ("jsonl",)
PLUGIN_SECTIONS = ("providers", "stores", "sinks", "tools")

_LIMITS: Mapping[str, tuple[type, ...]] = {
    "max_steps": (int,),
    "max_total_cost_usd": (int, float),
    "max_wall_time_s": (int, float),
    "max_tool_calls": (int,),
    "max_llm_calls": (int,),
    "max_parallel_tools": (int,),
}
_AGENT_KEYS: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "instructions": (str,),
    "instructions_file": (str,),
    "options": (dict,),
    "extra": (dict,),
    "limits": (dict,),
    "fallback_models": (list,),
}
_KEYS: Mapping[str, tuple[type, ...]] = {
    **_AGENT_KEYS,
    "agent": (str,),
    "agents": (dict,),
    "store": (str,),
    "busy": (str,),
    "busy_timeout": (int, float),
    "models": (dict,),
    "plugins": (dict,),
    "prices": (dict,),
    **dict.fromkeys(PLUGIN_SECTIONS, (dict,)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """An agent as the config describes it; `source` says where."""

    name: str
    source: str
    model: str | None = None
    instructions: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    fallback_models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFile:
    """One config file that was read and checked; `table` is what counts of it."""

    path: Path
    table: Mapping[str, Any]
    inert: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A value and where it comes from, in words for a person."""

    value: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What the config files say, the later ones first. `user` may be missing, `project` not wanted."""

    user: ConfigFile
    project: ConfigFile | None = None

    @property
    def files(self) -> list[ConfigFile]:
        return [item for item in (self.project, self.user) if item is not None]

    def value(self, key: str) -> Choice | None:
        """Return the value of a top-level text key and the file that sets it."""
        for item in self.files:
            if key in item.table:
                return Choice(value=item.table[key], source=str(item.path))
        return None

    def plugin_table(self, section: str, name: str) -> dict[str, Any]:
        """Return the settings of a plugin, both files merged."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            merged.update(item.table.get(section, {}).get(name, {}))
        return merged

    def sink_names(self) -> list[str]:
        """Return the sinks in use: the default one and those that have a table, unless `enabled = false`."""
        names = list(DEFAULT_SINKS)
        for item in reversed(self.files):
            names += [name for name in item.table.get("sinks", {}) if name not in names]
        return [name for name in names if self.plugin_table("sinks", name).get("enabled", True)]

    def agents(self) -> dict[str, AgentConfig]:
        """Return all named agents, those of the project file before those of the user's."""
        agents: dict[str, AgentConfig] = {}
        for item in reversed(self.files):
            for name, table in item.table.get("agents", {}).items():
                agents[name] = _agent(name, table, str(item.path))
        return agents

    def default_agent(self) -> AgentConfig:
        """Return the agent that the top-level keys describe."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            merged.update({key: item.table[key] for key in _AGENT_KEYS if key in item.table})
        merged.pop("model", None)  # the top-level model is a choice of its own, below the thread's
        return _agent(DEFAULT_AGENT, merged, "the config")

    def limits(self) -> dict[str, Any]:
        """Return the limits for every run; the project file's only where they are lower."""
        limits = dict(self.user.table.get("limits", {}))
        if self.project is not None:
            limits = lower_limits(limits, self.project.table.get("limits", {}))
        return limits

    def alias(self, name: str) -> str | None:
        """Return the full model name that `[models]` gives to a bare one."""
        for item in self.files:
            if name in item.table.get("models", {}):
                return str(item.table["models"][name])
        return None

    def prices(self) -> dict[str, Price]:
        """Return the prices of `[prices."provider/model"]`."""
        prices: dict[str, Price] = {}
        for item in reversed(self.files):
            for model, table in item.table.get("prices", {}).items():
                prices[model] = _price(model, table, item.path)
        return prices

    def plugin_paths(self) -> list[Path]:
        """Return the plugin files of `[plugins] paths`."""
        paths: list[Path] = []
        for item in self.files:
            paths += [
                (item.path.parent / Path(text).expanduser()) for text in item.table.get("plugins", {}).get("paths", [])
            ]
        return paths


def load_user_config(path: Path | None = None) -> ConfigFile:
    """Read the user's config; a file that does not exist is an empty one.

    Raises:
        ConfigError: it is malformed: the file, the line and what was expected.
    """
    path = path or config_file()
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ConfigFile(path=path, table={})
    except OSError as error:
        raise ConfigError(f"the config {path} cannot be read: {error.strerror}") from None
    return ConfigFile(path=path, table=parse_config(data, path))


def parse_config(data: bytes, path: Path) -> dict[str, Any]:
    """Return the checked table in the bytes of a config file; relative instruction files are read.

    Raises:
        ConfigError: naming the file, the line and what was expected.
    """
    table = parse_toml(data, path)
    check_table(table, _KEYS, data, path, "")
    check_table(table.get("limits", {}), _LIMITS, data, path, "limits.")
    for name, agent in table.get("agents", {}).items():
        if not isinstance(agent, dict):
            raise _wrong(path, data, name, f"agents.{name}", (dict,))
        check_table(agent, _AGENT_KEYS, data, path, f"agents.{name}.")
        check_table(agent.get("limits", {}), _LIMITS, data, path, f"agents.{name}.limits.")
    for section in PLUGIN_SECTIONS:
        for name, settings in table.get(section, {}).items():
            if not isinstance(settings, dict):
                raise _wrong(path, data, name, f"{section}.{name}", (dict,))
    return table


def parse_toml(data: bytes, path: Path) -> dict[str, Any]:
    """Return the table in TOML bytes; `ConfigError` names the file and line."""
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        what, where = str(error), ""
        found = re.search(r" \(at line (\d+), column \d+\)$", what)
        if found:
            what, where = what[: found.start()], f", line {found[1]}"
        elif what.endswith("(at end of document)"):
            where = f", line {len(data.splitlines())}"
        raise ConfigError(f"{path}{where}: not valid TOML: {what}") from None


def check_table(
    table: Mapping[str, Any], known: Mapping[str, tuple[type, ...]], data: bytes, path: Path, prefix: str
) -> None:
    """Raise `ConfigError` for an unknown key, with the nearest known one, or a value of the wrong type."""
    for key, value in table.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
            raise ConfigError(f"{path}, line {_line_of(data, key)}: unknown key {prefix + key!r}{hint}")
        if not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
            raise _wrong(path, data, key, prefix + key, known[key])


def lower_limits(limits: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return `limits` with those of `others` that are lower, or that are not in it."""
    merged = dict(limits)
    for name, value in others.items():
        default = limits.get(name, getattr(FailSafeConfig(), name))
        merged[name] = value if default is None else min(default, value)
    return merged


def fail_safe(limits: Mapping[str, Any], base: FailSafeConfig | None = None) -> FailSafeConfig:
    """Return the limits as a `FailSafeConfig`; a cost limit of the config refuses a run whose price is unknown."""
    names = {item.name for item in fields(FailSafeConfig)}
    known = {name: value for name, value in limits.items() if name in names}
    if "max_total_cost_usd" in known:
        known["on_unknown_price"] = "refuse"
    return replace(base or FailSafeConfig(), **known)


def environment_choice(variable: str, getenv: Callable[[str], str | None] = os.environ.get) -> Choice | None:
    """Return what an AFK_* variable says, if it is set."""
    value = getenv(variable)
    return Choice(value=value, source=f"the environment variable {variable}") if value else None


def _agent(name: str, table: Mapping[str, Any], source: str) -> AgentConfig:
    instructions = table.get("instructions")
    if "instructions_file" in table:
        instructions = _read_instructions(name, table["instructions_file"], source)
    return AgentConfig(
        name=name,
        source=source,
        model=table.get("model"),
        instructions=instructions,
        options=table.get("options", {}),
        extra=table.get("extra", {}),
        limits=table.get("limits", {}),
        fallback_models=tuple(table.get("fallback_models", ())),
    )


def _read_instructions(name: str, text: str, source: str) -> str:
    path = Path(source).parent / Path(text).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the instructions_file of agent {name!r} cannot be read: {path}: {error}") from None


def _price(model: str, table: Any, path: Path) -> Price:
    if isinstance(table, dict):
        numbers = {key: value for key, value in table.items() if isinstance(value, (int, float))}
        if {"input", "output"} <= set(numbers) <= {"input", "output", "cache_read"} and len(numbers) == len(table):
            return Price(**numbers)
    raise ConfigError(
        f'{path}: [prices."{model}"] takes the numbers input, output and cache_read (US dollars per million tokens)'
    )


def _wrong(path: Path, data: bytes, key: str, name: str, kinds: tuple[type, ...]) -> ConfigError:
    words = {str: "text", int: "a whole number", float: "a number", dict: "a table", list: "an array"}
    expected = words[kinds[-1]]
    return ConfigError(f"{path}, line {_line_of(data, key)}: {name!r} must be {expected}")


def _line_of(data: bytes, key: str) -> int:
    """Return the line on which a key stands first, 1 where it cannot be told."""
    pattern = rf"^\s*(?:\[+[^\]\n]*\b{re.escape(key)}\b|[\"']?{re.escape(key)}[\"']?\s*[=.])"
    text = data.decode("utf-8", "replace")
    found = re.search(pattern, text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else 1
