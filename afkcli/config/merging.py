"""The config: flags > AFK_* > the thread's last choice > afk.toml > the user's config > defaults, as one `Config`."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.jsonform import JsonError, dumps
from afkcli.core.contract.limits import BUDGETS, LIMITS, FailSafeConfig
from afkcli.core.contract.options import wanted_value
from afkcli.core.contract.protocols import Price
from afkcli.core.run.budgets import Budgets
from afkcli.host.paths import config_file

DEFAULT_AGENT = "afk"
DEFAULT_STORE = "disk"
DEFAULT_SINKS = ("jsonl",)
PLUGIN_SECTIONS = ("providers", "stores", "sinks", "tools")

LIMIT_KEYS: Mapping[str, tuple[type, ...]] = {
    limit.field: (int,) if limit.kind is int else (int, float) for limit in LIMITS
}
SAMPLING: Mapping[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "max_output_tokens": (int,),
    "stop": (str, list),
    "seed": (int,),
}
BUDGET_KEYS: Mapping[str, tuple[type, ...]] = {budget.field: (int, float) for budget in BUDGETS}
PRICES = frozenset({"input", "output", "cache_read", "cache_write"})
OPTIONS: Mapping[str, tuple[type, ...]] = {**SAMPLING, "reasoning_effort": (str,)}
_AGENT_KEYS: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "instructions": (str,),
    "instructions_file": (str,),
    "options": (dict,),
    "extra": (dict,),
    "limits": (dict,),
    "fallback_models": (list,),
}
_NAMED_AGENT_KEYS: Mapping[str, tuple[type, ...]] = {**_AGENT_KEYS, "tools": (list,)}  # [tools] is for their settings
APPROVALS: Mapping[str, tuple[type, ...]] = {
    "mode": (str,),
    "timeout": (int, float),
    "rules": (list,),
}
APPROVAL_MODES = ("ask", "deny")
_RULE_KEYS: Mapping[str, tuple[type, ...]] = {
    "tool": (str,),
    "decision": (str,),
    "arguments": (dict,),
    "pin": (str, list),
}
_KEYS: Mapping[str, tuple[type, ...]] = {
    **_AGENT_KEYS,
    "agent": (str,),
    "agents": (dict,),
    "approvals": (dict,),
    "store": (str,),
    "busy": (str,),
    "busy_timeout": (int, float),
    "max_retries": (int,),
    "retry_delay": (int, float),
    "models": (dict,),
    "plugins": (dict,),
    "prices": (dict,),
    "budgets": (dict,),
    **dict.fromkeys(PLUGIN_SECTIONS, (dict,)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """An agent as the config describes it; `source` says where. `text` or `instructions_file` are its instructions."""

    name: str
    source: str
    model: str | None = None
    text: str | None = None
    instructions_file: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    limits: Mapping[str, Any] = field(default_factory=dict)
    fallback_models: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()

    @property
    def instructions(self) -> str | None:
        """The instructions; a file is read only here, for the agent that is used. `ConfigError` if it cannot be."""
        if self.instructions_file is None:
            return self.text
        try:
            return self.instructions_file.read_text(encoding="utf-8")
        except OSError as error:
            why = error.strerror
        except UnicodeDecodeError:
            why = "it is not UTF-8"
        raise ConfigError(
            f"the instructions_file {self.instructions_file} of agent {self.name!r} cannot be read: {why}"
        )


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
        return next(
            (Choice(value=item.table[key], source=str(item.path)) for item in self.files if key in item.table), None
        )

    def setting(self, key: str) -> Any:
        """Return the value of a top-level key, or None where no file sets it."""
        return next((item.table[key] for item in self.files if key in item.table), None)

    def plugin_table(self, section: str, name: str) -> dict[str, Any]:
        """Return the settings of a plugin, both files merged; tables by name (`servers.NAME`) name by name."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            for key, value in item.table.get(section, {}).get(name, {}).items():
                before: Any = merged.get(key)
                both = is_tables(before) and is_tables(value)
                merged[key] = {**before, **value} if both else value
        return merged

    def configured(self, section: str) -> list[str]:
        """Return the names of the plugins that have a table in a section."""
        return list(dict.fromkeys(name for item in self.files for name in item.table.get(section, {})))

    def sink_names(self) -> list[str]:
        """Return the sinks in use: the default one and those that have a table, unless `enabled = false`."""
        names = list(DEFAULT_SINKS)
        for item in reversed(self.files):
            names += [name for name in item.table.get("sinks", {}) if name not in names]
        return [name for name in names if self.plugin_table("sinks", name).get("enabled", True)]

    def agents(self) -> dict[str, AgentConfig]:
        """Return all named agents; what the project file says of one goes over what the user's says."""
        names = [name for item in self.files for name in item.table.get("agents", {})]
        return {name: self._agent(name, [_agent_table(item, name) for item in self.files]) for name in names}

    def default_agent(self) -> AgentConfig:
        """Return the agent that the top-level keys describe."""
        tables = [{key: item.table[key] for key in _AGENT_KEYS if key in item.table} for item in self.files]
        agent = self._agent(DEFAULT_AGENT, tables)
        return replace(agent, model=None)  # the top-level model is a choice of its own, below the thread's

    def _agent(self, name: str, tables: Sequence[Mapping[str, Any]]) -> AgentConfig:
        """Return the agent that `tables`, one of each of `files`, describe together, merged key by key."""
        merged: dict[str, Any] = {}
        source = "default"
        for item, own in reversed(list(zip(self.files, tables, strict=True))):
            if not own:
                continue
            source = str(item.path)
            if "instructions" in own or "instructions_file" in own:
                merged["instructions"], merged["instructions_file"] = own.get("instructions"), None
            if "instructions_file" in own:
                merged["instructions_file"] = relative_to(item.path, own["instructions_file"])
            for key in ("options", "extra", "limits"):
                merged[key] = {**merged.get(key, {}), **own.get(key, {})}
            for key in ("model", "fallback_models", "tools"):
                merged[key] = own.get(key, merged.get(key))
        return AgentConfig(
            name=name,
            source=source,
            model=merged.get("model"),
            text=merged.get("instructions"),
            instructions_file=merged.get("instructions_file"),
            options=merged.get("options", {}),
            extra=merged.get("extra", {}),
            limits=merged.get("limits", {}),
            fallback_models=tuple(merged.get("fallback_models") or ()),
            tools=tuple(merged.get("tools") or ()),
        )

    def limits(self) -> dict[str, Any]:
        """Return the limits for every run, those of the project file before those of the user's."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            merged.update(item.table.get("limits", {}))
        return merged

    def budgets(self) -> Budgets:
        """Return what runs may cost together: what the project file says goes over what the user's says."""
        merged: dict[str, Any] = {}
        for item in reversed(self.files):
            merged.update(item.table.get("budgets", {}))
        return Budgets(**merged)

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

    def approval(self, key: str) -> Any:
        """Return a setting of `[approvals]`, or None where no file sets it."""
        tables = [item.table.get("approvals", {}) for item in self.files]
        return next((table[key] for table in tables if key in table), None)

    def approval_rules(self) -> list[Mapping[str, Any]]:
        """Return the approval rules in their order: the user's own before those of a project, so that they hold."""
        return [rule for item in reversed(self.files) for rule in item.table.get("approvals", {}).get("rules", [])]

    def plugin_paths(self) -> list[Path]:
        """Return the plugin files of `[plugins] paths`."""
        return [
            relative_to(item.path, text)
            for item in self.files
            for text in item.table.get("plugins", {}).get("paths", [])
        ]


def is_tables(value: object) -> bool:
    """Whether a value of a config is a table of tables, each by its name."""
    return isinstance(value, dict) and bool(value) and all(isinstance(item, dict) for item in value.values())


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
    """Return the checked table in the bytes of a config file.

    Raises:
        ConfigError: naming the file, the line and what was expected.
    """
    table = parse_toml(data, path)
    check_config(table, data, path)
    return table


def check_config(table: Mapping[str, Any], data: bytes, path: Path) -> None:
    """Check a config table; `data` are the bytes it was read from, to name the line.

    Raises:
        ConfigError: an unknown key, with the nearest known one, or a value that cannot be.
    """
    check = _Check(data, path)
    check.table(table, _KEYS, ())
    check.agent(table, ())
    for name, agent in check.tables(table, "agents"):
        check.table(agent, _NAMED_AGENT_KEYS, ("agents", name))
        check.agent(agent, ("agents", name))
    for section in PLUGIN_SECTIONS:
        check.tables(table, section)
    check.approvals(table.get("approvals", {}))
    check.table(table.get("plugins", {}), {"paths": (list,)}, ("plugins",))
    check.texts(table.get("plugins", {}).get("paths", []), ("plugins", "paths"))
    for name, model in table.get("models", {}).items():
        if not isinstance(model, str):
            raise check.wrong(("models", name), (str,))
    check.table(table.get("budgets", {}), BUDGET_KEYS, ("budgets",))
    for name, usd in table.get("budgets", {}).items():
        check.not_negative(usd, ("budgets", name))
    for model, price in check.tables(table, "prices"):
        check.price(price, ("prices", model))


def parse_toml(data: bytes, path: Path) -> dict[str, Any]:
    """Return the table in TOML bytes; `ConfigError` names the file and line."""
    import tomllib

    try:
        return tomllib.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8; save the file as UTF-8") from None
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and a number of thousands of digits
        what, where = str(error), ""
        found = re.search(r" \(at line (\d+), column \d+\)$", what)
        if found:
            what, where = what[: found.start()], f", line {found[1]}"
        elif what.endswith("(at end of document)"):
            where = f", line {len(data.splitlines())}"
        raise ConfigError(f"{path}{where}: not valid TOML: {what}") from None


def relative_to(file: Path, text: str) -> Path:
    """Return the path that a config file names: relative to its own folder, `~` expanded where there is such a home."""
    path = Path(text)
    with contextlib.suppress(RuntimeError):
        path = path.expanduser()
    return file.parent / path


def pins_of(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the fingerprints that an approval rule of the config names."""
    pin = rule.get("pin", ())
    return (pin,) if isinstance(pin, str) else tuple(pin)


def _agent_table(file: ConfigFile, name: str) -> Mapping[str, Any]:
    table: Mapping[str, Any] = file.table.get("agents", {}).get(name, {})
    return table


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


def _price(model: str, table: Mapping[str, Any], path: Path) -> Price:
    return Price(**table)


@dataclass(frozen=True, slots=True)
class _Check:
    """Checks the tables of one config file; `data` are its bytes."""

    data: bytes
    path: Path

    def table(self, table: Any, known: Mapping[str, tuple[type, ...]], at: Sequence[str]) -> None:
        """Refuse an unknown key, with the nearest known one, and a value of the wrong type."""
        for key, value in table.items():
            if key not in known:
                raise self._unknown(key, known, at)
            if not isinstance(value, known[key]) or isinstance(value, bool):
                raise self.wrong((*at, key), known[key])

    def sendable(self, table: Mapping[str, Any], at: Sequence[str]) -> None:
        """Refuse options and extras that have no JSON form, and those that would replace the conversation."""
        for key, value in table.items():
            if key in ("messages", "input", "model", "stream"):
                raise self._error((*at, key), "cannot be set here: afk sets it")
            try:
                dumps(value)
            except JsonError as error:
                raise self._error((*at, key), f"cannot be sent: {error}") from None

    def agent(self, table: Mapping[str, Any], at: Sequence[str]) -> None:
        """Check what an agent's table has within."""
        limits = table.get("limits", {})
        self.table(limits, LIMIT_KEYS, (*at, "limits"))
        for limit in LIMITS:
            wrong = limit.wrong(limits[limit.field]) if limit.field in limits else None
            if wrong is not None:
                raise self._error((*at, "limits", limit.field), wrong)
        self.table(table.get("options", {}), OPTIONS, (*at, "options"))
        for name, value in table.get("options", {}).items():
            wanted = wanted_value(name, value)
            if wanted is not None:
                raise self._error((*at, "options", name), f"must be {wanted}")
        for name in ("options", "extra"):
            self.sendable(table.get(name, {}), (*at, name))
        for name in ("fallback_models", *(("tools",) if at else ())):
            self.texts(table.get(name, []), (*at, name))
        if "instructions" in table and "instructions_file" in table:
            raise self._error((*at, "instructions_file"), "cannot stand beside 'instructions'; keep one of them")

    def approvals(self, table: Mapping[str, Any]) -> None:
        """Check the approval rules and what stands beside them."""
        self.table(table, APPROVALS, ("approvals",))
        if table.get("mode", "ask") not in APPROVAL_MODES:
            raise self._error(("approvals", "mode"), f"must be one of {', '.join(APPROVAL_MODES)}")
        timeout = table.get("timeout", 1)
        if not (math.isfinite(timeout) and timeout > 0):
            raise self._error(("approvals", "timeout"), "must be greater than 0 (seconds)")
        for number, rule in enumerate(table.get("rules", []), 1):
            self._rule(rule, ("approvals", "rules"), f"(rule {number})")

    def _rule(self, rule: Any, at: Sequence[str], which: str) -> None:
        if not isinstance(rule, dict):
            raise self._error(at, f"{which} must be a table")
        self.table(rule, _RULE_KEYS, at)
        if "tool" not in rule or rule.get("decision") not in ("allow", "ask", "deny"):
            raise self._error(at, f'{which} needs a tool, as "files.write", and a decision: allow, ask or deny')
        self.texts([*pins_of(rule)], (*at, "pin"))
        self.sendable(rule.get("arguments", {}), (*at, "arguments"))

    def tables(self, table: Mapping[str, Any], section: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the tables of a section by name; refuse anything else in it."""
        for name, value in table.get(section, {}).items():
            if not isinstance(value, dict):
                raise self.wrong((section, name), (dict,))
        return list(table.get(section, {}).items())

    def texts(self, values: Sequence[Any], at: Sequence[str]) -> None:
        if not all(isinstance(value, str) for value in values):
            raise self._error(at, "must be an array of texts")

    def not_negative(self, value: float, at: Sequence[str]) -> None:
        if not (math.isfinite(value) and value >= 0):
            raise self._error(at, "must be 0 or greater")

    def price(self, table: Mapping[str, Any], at: Sequence[str]) -> None:
        numbers = [value for value in table.values() if isinstance(value, (int, float)) and not isinstance(value, bool)]
        usable = len(numbers) == len(table) and all(math.isfinite(value) and value >= 0 for value in numbers)
        if not usable or not {"input", "output"} <= set(table) <= PRICES:
            known = "input, output, cache_read and cache_write"
            raise self._error(at, f"takes the numbers {known} (US dollars per million tokens)")

    def wrong(self, at: Sequence[str], kinds: tuple[type, ...]) -> ConfigError:
        words = {str: "text", int: "a whole number", float: "a number", dict: "a table", list: "an array"}
        return self._error(at, f"must be {words[kinds[-1]]}")

    def _unknown(self, key: str, known: Mapping[str, Any], at: Sequence[str]) -> ConfigError:
        from difflib import get_close_matches

        near = get_close_matches(key, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        name = ".".join((*at, key))
        return ConfigError(f"{self.path}, line {line_of(self.data, (*at, key))}: unknown key {name!r}; {hint}")

    def _error(self, at: Sequence[str], what: str) -> ConfigError:
        return ConfigError(f"{self.path}, line {line_of(self.data, at)}: {'.'.join(at)!r} {what}")


def line_of(data: bytes, at: Sequence[str]) -> int:
    """Return the line on which the key with the path `at` stands, or the nearest table above it; 1 where none is."""
    header: tuple[str, ...] = ()
    best, found = 1, 0
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        if line.lstrip().startswith("["):
            header = path = _key_path(line)
        else:
            path = (*header, *_key_path(f"{line.partition('=')[0]} = 0")) if "=" in line else ()
        common = len(path) if path == tuple(at[: len(path)]) else 0
        if common > found:
            best, found = number, common
    return best


def _key_path(text: str) -> tuple[str, ...]:
    """Return the path of the only key in one line of TOML, () if it has none."""
    import tomllib

    path: list[str] = []
    with contextlib.suppress(ValueError):
        value: Any = tomllib.loads(text)
        while (isinstance(value, dict) and value) or (isinstance(value, list) and value):
            if isinstance(value, list):
                (value,) = value
                continue
            ((key, value),) = value.items()
            path.append(key)
    return tuple(path)
