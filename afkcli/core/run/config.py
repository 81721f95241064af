"""What a runner is given: how it behaves, and what surrounds it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from afkcli.core.contract.errors import ConfigError, UsageError
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import Owner
from afkcli.core.contract.rules import ApprovalRule
from afkcli.core.contract.structs import FrozenStruct
from afkcli.core.contract.tools import FoundTools
from afkcli.core.run.budgets import NO_BUDGETS, Budgets
from afkcli.core.run.models import NO_LIST, PriceLookup, WindowLookup
from afkcli.core.run.retries import FIRST_DELAY_S, MAX_DELAY_S, MAX_RETRIES
from afkcli.core.thread.turns import SealedTurn

if TYPE_CHECKING:
    from afkcli.core.run.tape import Tape

InteractionMode = Literal["headless", "interactive", "external"]
BusyMode = Literal["wait", "fail", "fork"]
Rescue = Callable[[str, SealedTurn, Mapping[str, bytes]], str | None]
RescueMore = Callable[[str, JsonObject, Mapping[str, bytes]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunnerConfig:
    """How a runner behaves, the same for all of its runs.

    Args:
        interaction_mode: who decides on tool calls that need approval: no one (`headless`: they are denied), a person
            whom the caller asks (`interactive`), or the caller (`external`); both through `handle.decide`.
        approval_timeout_s: seconds after which a tool call that was not decided is denied; None waits as long as the
            run lasts.
        busy: what to do while another run holds the thread.
        busy_timeout_s: seconds to wait for the thread.
        max_retries: how often a call that failed before any output is made again, 0 to 4.
        retry_delay_s: the longest wait before the first retry, in seconds; it doubles from retry to retry, up to 30 s.
            If the server says how long to wait, that counts instead.

    Raises:
        ConfigError: a number is out of range.
    """

    interaction_mode: InteractionMode = "headless"
    approval_timeout_s: float | None = None
    busy: BusyMode = "wait"
    busy_timeout_s: float = 60.0
    max_retries: int = MAX_RETRIES
    retry_delay_s: float = FIRST_DELAY_S

    def __post_init__(self) -> None:
        if not 0 <= self.max_retries <= MAX_RETRIES:
            raise ConfigError(f"max_retries must be a whole number from 0 to {MAX_RETRIES} (got {self.max_retries})")
        if not 0 <= self.retry_delay_s <= MAX_DELAY_S:
            raise ConfigError(f"retry_delay_s must be a number from 0 to {MAX_DELAY_S:g} (got {self.retry_delay_s})")


def unknown_owner(run_id: str) -> Owner:
    """Return an owner that cannot be proven dead; its lease ends by its time."""
    return Owner(host="", boot_id="", pid_namespace="", pid=0, start_time="", run_id=run_id)


def no_named_tools(names: Sequence[str]) -> Coroutine[Any, Any, FoundTools]:
    """Refuse tools by name: a runner without plugins has none."""
    raise UsageError(f"this runner has no plugins, so it cannot find the tools {', '.join(names)}; pass functions")


class Wiring(FrozenStruct, kw_only=True):
    """What surrounds a runner; `afkcli.wiring.runner` fills it from the config and the plugins.

    Args:
        owner: returns who holds a lease, for a run id.
        notify: takes one line for a person that belongs to the events of no run.
        redact: removes known secrets from a text.
        rescue: keeps a turn that could not be saved, and the contents of its attachments. It returns where, or None if
            it cannot. It is called when the turn begins, and again when it has ended, to replace what it kept before.
        rescue_more: adds the body of a journal record, and the contents that it is the first to name, to what was kept
            at the place that `rescue` returned.
        folder: the folder in which threads are used; it is remembered with them.
        budgets: what the runs may cost together.
        look_up_price: returns the price of a model.
        look_up_window: returns the tokens of the window of a model.
        rules: the approval rules; the first one that matches a tool call decides.
        find_tools: looks up the tools of plugins by the names that an agent gives. It raises `UsageError` at once for
            a name that no plugin can have.
        last_warnings: returns codes and lines of warnings that are posted before the last event of a run.
        tape: makes what stands between a run and its model and tools; None if nothing does.
    """

    owner: Callable[[str], Owner] = unknown_owner
    notify: Callable[[str], None] = lambda line: None
    redact: Callable[[str], str] = lambda text: text
    rescue: Rescue = lambda thread_id, turn, contents: None
    rescue_more: RescueMore = lambda where, body, contents: None
    folder: str | None = None
    budgets: Budgets = NO_BUDGETS
    look_up_price: PriceLookup = lambda full_name, capabilities: capabilities.price
    look_up_window: WindowLookup = NO_LIST
    rules: Sequence[ApprovalRule] = ()
    find_tools: Callable[[Sequence[str]], Coroutine[Any, Any, FoundTools]] = no_named_tools
    last_warnings: Callable[[], Sequence[tuple[str, str]]] = tuple
    tape: Callable[[], Tape] | None = None
