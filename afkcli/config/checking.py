"""Checks the keys, types and ranges of config tables. An error names the file, the line and what was expected."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afkcli.core.contract.context import SMALLEST_WINDOW, ContextConfig
from afkcli.core.contract.durations import IN_WORDS
from afkcli.core.contract.errors import ConfigError, UsageError
from afkcli.core.contract.jsonform import JsonError, dumps
from afkcli.core.contract.limits import BUDGETS, LIMITS
from afkcli.core.contract.options import wanted_value
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.suggestions import near_names

PLUGIN_SECTIONS = ("providers", "stores", "sinks", "tools", "engines", "commands")
_TIMES = frozenset({"busy_timeout", "retry_delay", "timeout", "max_wall_time_s"})
"""Keys that hold a length of time."""
LIMIT_KEYS: Mapping[str, tuple[type, ...]] = {
    limit.field: (int,) if limit.kind is int else (int, float) for limit in LIMITS
}
BUDGET_KEYS: Mapping[str, tuple[type, ...]] = {budget.field: (int, float) for budget in BUDGETS}
SAMPLING_KEYS: Mapping[str, tuple[type, ...]] = {
    "temperature": (int, float),
    "top_p": (int, float),
    "max_output_tokens": (int,),
    "stop": (str, list),
    "seed": (int,),
}
OPTION_KEYS: Mapping[str, tuple[type, ...]] = {**SAMPLING_KEYS, "reasoning_effort": (str,)}
PRICE_KEYS = frozenset({"input", "output", "cache_read", "cache_write", "cache_write_1h"})
CONTEXT_KEYS: Mapping[str, tuple[type, ...]] = {
    "policy": (str,),
    "keep": (int, float),
    "model": (str,),
    "instructions": (str,),
}
THREADS_KEYS: Mapping[str, tuple[type, ...]] = {"keep_unnamed_days": (int,)}
WORKER_KEYS: Mapping[str, tuple[type, ...]] = {"enabled": (bool,), "idle_minutes": (int, float)}
AGENT_KEYS: Mapping[str, tuple[type, ...]] = {
    "model": (str,),
    "instructions": (str,),
    "instructions_file": (str,),
    "options": (dict,),
    "extra": (dict,),
    "limits": (dict,),
    "context": (dict,),
    "fallback_models": (list,),
}
NAMED_AGENT_KEYS: Mapping[str, tuple[type, ...]] = {
    **AGENT_KEYS,
    "tools": (list,),
}  # the top level has [tools.NAME]
APPROVAL_KEYS: Mapping[str, tuple[type, ...]] = {
    "mode": (str,),
    "timeout": (int, float),
    "rules": (list,),
}
APPROVAL_MODES = ("ask", "deny")
RULE_KEYS: Mapping[str, tuple[type, ...]] = {
    "tool": (str,),
    "decision": (str,),
    "arguments": (dict,),
    "pin": (str, list),
    "other_arguments": (bool,),
}
TOP_LEVEL_KEYS: Mapping[str, tuple[type, ...]] = {
    **AGENT_KEYS,
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
    "windows": (dict,),
    "budgets": (dict,),
    "threads": (dict,),
    "worker": (dict,),
    **dict.fromkeys(PLUGIN_SECTIONS, (dict,)),
}


def check_config(table: Mapping[str, Any], data: bytes, path: Path) -> None:
    """Check a config table; `data` are the bytes it was read from, to name the line.

    Raises:
        ConfigError: an unknown key, with the nearest known one, or a value of a wrong type or range.
    """
    check = _Check(data, path)
    check.table(table, TOP_LEVEL_KEYS, ())
    check.agent(table, ())
    for name, agent in check.tables(table, "agents"):
        check.table(agent, NAMED_AGENT_KEYS, ("agents", name))
        check.agent(agent, ("agents", name))
    for section in PLUGIN_SECTIONS:
        check.tables(table, section)
    check.approvals(table.get("approvals", {}))
    check.table(table.get("plugins", {}), {"paths": (list,), "modules": (list,)}, ("plugins",))
    for key, names in table.get("plugins", {}).items():
        check.texts(names, ("plugins", key))
    check.modules(table.get("plugins", {}).get("modules", []), ("plugins", "modules"))
    for name, model in table.get("models", {}).items():
        if not isinstance(model, str):
            raise check.wrong(("models", name), (str,))
    check.table(table.get("budgets", {}), BUDGET_KEYS, ("budgets",))
    for name, usd in table.get("budgets", {}).items():
        check.not_negative(usd, ("budgets", name))
    check.threads(table.get("threads", {}))
    check.table(table.get("worker", {}), WORKER_KEYS, ("worker",))
    check.not_negative(table.get("worker", {}).get("idle_minutes", 0), ("worker", "idle_minutes"))
    for model, price in check.tables(table, "prices"):
        check.price(price, ("prices", model))
    for model, tokens in table.get("windows", {}).items():
        if not isinstance(tokens, int) or isinstance(tokens, bool):
            raise check.wrong(("windows", model), (int,))
        check.window(tokens, ("windows", model))


def pins_of(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the fingerprints that an approval rule of the config names."""
    pin = rule.get("pin", ())
    return (pin,) if isinstance(pin, str) else tuple(pin)


class _Check(FrozenStruct):
    """Checks the tables of one config file; `data` are its bytes."""

    data: bytes
    path: Path

    def table(self, table: Any, known: Mapping[str, tuple[type, ...]], at: Sequence[str]) -> None:
        """Refuse an unknown key, with the nearest known one, and a value of the wrong type."""
        for key, value in table.items():
            if key not in known:
                raise self._unknown(key, known, at)
            if not isinstance(value, known[key]) or (isinstance(value, bool) and bool not in known[key]):
                raise self.wrong((*at, key), known[key])

    def sendable(self, table: Mapping[str, Any], at: Sequence[str]) -> None:
        """Refuse options and extras that have no JSON form, and keys that would replace the conversation."""
        for key, value in table.items():
            if key in ("messages", "input", "model", "stream"):
                raise self._error((*at, key), "cannot be set here: afk sets it")
            try:
                dumps(value)
            except JsonError as error:
                raise self._error((*at, key), f"cannot be sent: {error}") from None

    def agent(self, table: Mapping[str, Any], at: Sequence[str]) -> None:
        """Check the values in an agent's table."""
        limits = table.get("limits", {})
        self.table(limits, LIMIT_KEYS, (*at, "limits"))
        for limit in LIMITS:
            wrong = limit.wrong(limits[limit.field]) if limit.field in limits else None
            if wrong is not None:
                raise self._error((*at, "limits", limit.field), f"{wrong} (got {limits[limit.field]})")
        self.table(table.get("options", {}), OPTION_KEYS, (*at, "options"))
        for name, value in table.get("options", {}).items():
            wanted = wanted_value(name, value)
            if wanted is not None:
                raise self._error((*at, "options", name), f"must be {wanted} (got {value!r})")
        self.context(table.get("context", {}), (*at, "context"))
        for name in ("options", "extra"):
            self.sendable(table.get(name, {}), (*at, name))
        for name in ("fallback_models", *(("tools",) if at else ())):
            self.texts(table.get(name, []), (*at, name))
        if "instructions" in table and "instructions_file" in table:
            raise self._error((*at, "instructions_file"), "cannot be set together with 'instructions'")

    def context(self, table: Mapping[str, Any], at: Sequence[str]) -> None:
        """Check what is done with a conversation that is too long."""
        self.table(table, CONTEXT_KEYS, at)
        for name, value in table.items():
            try:
                ContextConfig(**{name: value})
            except UsageError as error:
                raise self._error((*at, name), str(error)) from None

    def window(self, tokens: int, at: Sequence[str]) -> None:
        if tokens < SMALLEST_WINDOW:
            raise self._error(at, f"must be a number of tokens, {SMALLEST_WINDOW} or more (got {tokens})")

    def approvals(self, table: Mapping[str, Any]) -> None:
        """Check `[approvals]` and its rules."""
        self.table(table, APPROVAL_KEYS, ("approvals",))
        if table.get("mode", "ask") not in APPROVAL_MODES:
            raise self._error(
                ("approvals", "mode"), f"must be one of {', '.join(APPROVAL_MODES)} (got {table['mode']!r})"
            )
        timeout = table.get("timeout", 1)
        if not (math.isfinite(timeout) and timeout > 0):
            raise self._error(("approvals", "timeout"), f"must be greater than 0 seconds (got {timeout})")
        for number, rule in enumerate(table.get("rules", []), 1):
            self._rule(rule, ("approvals", "rules"), f"(rule {number})")

    def _rule(self, rule: Any, at: Sequence[str], which: str) -> None:
        if not isinstance(rule, dict):
            raise self._error(at, f"{which} must be a table")
        self.table(rule, RULE_KEYS, at)
        if "tool" not in rule or rule.get("decision") not in ("allow", "ask", "deny"):
            raise self._error(at, f'{which} needs a tool, such as "files.write", and a decision: allow, ask or deny')
        self.texts([*pins_of(rule)], (*at, "pin"))
        self.sendable(rule.get("arguments", {}), (*at, "arguments"))

    def threads(self, table: Mapping[str, Any]) -> None:
        """Check `[threads]`."""
        self.table(table, THREADS_KEYS, ("threads",))
        for name, days in table.items():
            self.not_negative(days, ("threads", name))

    def tables(self, table: Mapping[str, Any], section: str) -> list[tuple[str, Mapping[str, Any]]]:
        """Return the tables of a section by name; refuse anything else in it."""
        for name, value in table.get(section, {}).items():
            if not isinstance(value, dict):
                raise self.wrong((section, name), (dict,))
        return list(table.get(section, {}).items())

    def texts(self, values: Sequence[Any], at: Sequence[str]) -> None:
        if not all(isinstance(value, str) for value in values):
            raise self._error(at, "must be an array of strings")

    def modules(self, names: Sequence[str], at: Sequence[str]) -> None:
        """Refuse a file that could not be imported by its name."""
        for name in names:
            stem, point, suffix = name.replace("\\", "/").rpartition("/")[2].rpartition(".")
            if not (stem.isidentifier() and f"{point}{suffix}" == ".py"):
                raise self._error(at, f"must name Python files that can be imported, such as helper.py (got {name!r})")

    def not_negative(self, value: float, at: Sequence[str]) -> None:
        if not (math.isfinite(value) and value >= 0):
            raise self._error(at, f"must be 0 or greater (got {value})")

    def price(self, table: Mapping[str, Any], at: Sequence[str]) -> None:
        numbers = [value for value in table.values() if isinstance(value, (int, float)) and not isinstance(value, bool)]
        usable = len(numbers) == len(table) and all(math.isfinite(value) and value >= 0 for value in numbers)
        if not usable or not {"input", "output"} <= set(table) <= PRICE_KEYS:
            known = "needs the numbers input and output, and may have cache_read, cache_write and cache_write_1h"
            raise self._error(at, f"{known} (US dollars per million tokens)")

    def wrong(self, at: Sequence[str], kinds: tuple[type, ...]) -> ConfigError:
        words = {
            bool: "true or false",
            str: "a string",
            int: "an integer",
            float: "a number",
            dict: "a table",
            list: "an array",
        }
        what = f"{IN_WORDS} (in quotes if it has a unit)" if at[-1] in _TIMES else words[kinds[-1]]
        return self._error(at, f"must be {what}")

    def _unknown(self, key: str, known: Mapping[str, Any], at: Sequence[str]) -> ConfigError:
        near = near_names(key, known)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
        name = ".".join((*at, key))
        return ConfigError(f"{self.path}, line {line_of(self.data, (*at, key))}: unknown key {name!r}; {hint}")

    def _error(self, at: Sequence[str], what: str) -> ConfigError:
        return ConfigError(f"{self.path}, line {line_of(self.data, at)}: {'.'.join(at)!r} {what}")


def line_of(data: bytes, at: Sequence[str]) -> int:
    """Return the number of the line with the key `at`, or with the nearest table above it; 1 if there is neither."""
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
    """Return the path of the only key in one line of TOML, or () if it has no key."""
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
