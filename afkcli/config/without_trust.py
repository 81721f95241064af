"""What a project's afk.toml may set without trust: what can do no harm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from afkcli.config.checking import BUDGET_KEYS, LIMIT_KEYS, SAMPLING_KEYS
from afkcli.core.contract.limits import LIMITS


def without_trust(
    table: Mapping[str, Any], configured: Callable[[str], bool], user: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the part of a project file's table that counts without trust, and the other keys by dotted name."""
    sieve = _Sieve(configured)
    limits = {limit.field: limit.default for limit in LIMITS} | _table(user.get("limits"))
    own = {key: value for key, value in table.items() if key not in ("agent", "agents", "budgets")}
    allowed = sieve.agent(own, limits, "")
    if "budgets" in table:
        allowed["budgets"] = sieve.lower(table["budgets"], BUDGET_KEYS, _table(user.get("budgets")), "budgets.")
    if "agent" in table:
        allowed["agent"] = table["agent"]
    if "agents" in table:
        allowed["agents"] = table["agents"]
    if isinstance(table.get("agents"), dict):
        known = _table(user.get("agents"))
        allowed["agents"] = {
            name: sieve.agent(agent, limits | _table(_table(known.get(name)).get("limits")), f"agents.{name}.")
            for name, agent in table["agents"].items()
        }
    return allowed, sieve.inert


class _Sieve:
    """Selects from tables what counts without trust; `inert` collects the rest by dotted name."""

    def __init__(self, configured: Callable[[str], bool]) -> None:
        self._configured = configured
        self.inert: dict[str, Any] = {}

    def agent(self, table: Any, limits: Mapping[str, Any], prefix: str) -> Any:
        """Return the part of an agent's table that counts; a value may only be lower than in `limits`.

        A value that should be a table and is not is returned unchanged, because the check of the config reports it.
        """
        if not isinstance(table, dict):
            return table
        allowed: dict[str, Any] = {}
        for key, value in table.items():
            if key == "instructions" or (key in ("model", "fallback_models") and self._are_configured(value)):
                allowed[key] = value
            elif key == "options":
                allowed[key] = self._part(value, SAMPLING_KEYS, f"{prefix}options.")
            elif key == "limits":
                allowed[key] = self.lower(value, LIMIT_KEYS, limits, f"{prefix}limits.")
            else:
                self.inert[f"{prefix}{key}"] = value
        return allowed

    def _are_configured(self, value: Any) -> bool:
        models = value if isinstance(value, list) else [value]
        return all(isinstance(model, str) and self._configured(model) for model in models)

    def _part(self, value: Any, known: Mapping[str, Any], prefix: str) -> Any:
        """Return the known keys of a table."""
        if not isinstance(value, dict):
            return value
        self.inert |= {prefix + key: item for key, item in value.items() if key not in known}
        return {key: item for key, item in value.items() if key in known}

    def lower(self, value: Any, known: Mapping[str, Any], limits: Mapping[str, Any], prefix: str) -> Any:
        """Return the known keys of a table whose value is at most that in `limits`."""
        part = self._part(value, known, prefix)
        if not isinstance(part, dict):
            return part
        higher = [key for key, item in part.items() if _is_higher(item, limits.get(key))]
        self.inert |= {f"{prefix}{key}": part[key] for key in higher}
        return {key: item for key, item in part.items() if key not in higher}


def _is_higher(value: Any, limit: float | None) -> bool:
    return limit is not None and isinstance(value, (int, float)) and value > limit


def _table(value: Any) -> dict[str, Any]:
    """Return `value` if it is a table, else an empty one."""
    return value if isinstance(value, dict) else {}
