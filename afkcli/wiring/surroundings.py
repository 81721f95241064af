"""How a runner of a setup behaves, and what surrounds it: the owner, budgets, prices, rules and the rescue."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from afkcli.config.checking import pins_of
from afkcli.config.reading import ConfigFile
from afkcli.core.contract.errors import ConfigError
from afkcli.core.contract.rules import ApprovalRule
from afkcli.core.run.config import BusyMode, RunnerConfig, Wiring
from afkcli.core.run.models import WindowLookup
from afkcli.host.owner import current_owner
from afkcli.host.rescue import rescue, rescue_more
from afkcli.wiring.prices import PriceList, listed_window
from afkcli.wiring.setup import Setup


def runner_config(setup: Setup, busy: str | None = None, busy_timeout: float | None = None) -> RunnerConfig:
    """Return how a runner behaves: as said, else as the config says, else by default.

    Raises:
        ConfigError: the config's `busy` is not a mode, or a number in it is out of range.
    """
    said: dict[str, Any] = {}
    mode = busy or setup.config.setting("busy")
    if mode is not None:
        if mode not in get_args(BusyMode):
            raise ConfigError(f"busy = {mode!r} in the config is not known; use one of {', '.join(get_args(BusyMode))}")
        said["busy"] = mode
    seconds = busy_timeout if busy_timeout is not None else setup.config.setting("busy_timeout")
    if seconds is not None:
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ConfigError(f"busy_timeout in the config must be 0 or more seconds (got {seconds})")
        said["busy_timeout_s"] = float(seconds)
    for key, field_name in (("max_retries", "max_retries"), ("retry_delay", "retry_delay_s")):
        if setup.config.setting(key) is not None:
            said[field_name] = setup.config.setting(key)
    if setup.config.approval("timeout") is not None:
        said["approval_timeout_s"] = float(setup.config.approval("timeout"))
    try:
        return RunnerConfig(**said)
    except ConfigError as error:
        raise ConfigError(f"{error} (in the config: max_retries, retry_delay)") from None


def wiring_of(setup: Setup) -> Wiring:
    """Return what surrounds a runner of this setup."""
    return Wiring(
        owner=current_owner,
        notify=setup.notify,
        redact=setup.invocation.secrets.mask,
        rescue=rescue,
        rescue_more=rescue_more,
        folder=setup.invocation.folder,
        budgets=setup.config.budgets(),
        look_up_price=PriceList(setup.config.prices()),
        look_up_window=WindowLookup(setup.config.windows(), listed_window),
        last_warnings=lambda: _unread(setup.invocation.stderr.unread),
        rules=[*_rules(setup, setup.config.user), *_rules(setup, setup.config.project)],
    )


def _unread(lines: int) -> Sequence[tuple[str, str]]:
    if not lines:
        return ()
    what = "1 line for a person was" if lines == 1 else f"{lines} lines for a person were"
    return [("stderr_unread", f"{what} left out or not read on stderr when the run ended")]


def _rules(setup: Setup, file: ConfigFile | None) -> Iterator[ApprovalRule]:
    """Yield the approval rules of a config file; the user's come first, so that a project cannot override them."""
    table = file.table if file is not None else {}
    for number, rule in enumerate(table.get("approvals", {}).get("rules", []), 1):
        yield ApprovalRule(
            tool=rule["tool"],
            decision=rule["decision"],
            arguments=rule.get("arguments", {}),
            pins=pins_of(rule),
            other_arguments=rule.get("other_arguments", True),
            **_bound(setup, file, number, rule),
        )


def _bound(setup: Setup, file: ConfigFile | None, number: int, rule: Mapping[str, Any]) -> dict[str, Any]:
    """Return what keeps a rule of a trusted project from allowing a program that has changed since."""
    if file is None or not file.starts:
        return {}
    from afkcli.config.binding import rule_key, start_of_rule
    from afkcli.host.bound_starts import BoundStarts

    start = start_of_rule(rule, file.table.get("tools", {}).get("shell", {}))
    if start is None:
        return {}
    known = BoundStarts()
    known.add(start, file.path, file.starts.get(rule_key(number), {}))
    folder = Path(setup.invocation.folder or file.path.parent, start.cwd)
    return {"holds": lambda: known.problem(start, None, folder, setup.invocation.environment) is None}
