"""Approval rules: what the config decides on a tool call, before anyone is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Literal, TypeAlias
from unicodedata import normalize

from afkcli.core.contract.jsonform import Json, JsonObject
from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.structs import FrozenStruct, field
from afkcli.core.contract.tools import Tool, ToolError

RuleDecision: TypeAlias = Literal["allow", "ask", "deny"]
"""What a rule decides; `ask` leaves the decision to the decider of the run."""

Decision: TypeAlias = Literal["allow", "always", "deny"]
"""What is decided on one call; `always` also allows later calls with the same arguments in the same thread."""

Decider: TypeAlias = Literal["headless", "user", "caller"]
"""Who decides in a run on the calls that the rules leave open: no one (they are denied), the user at the terminal, or
the program that started the run. The event `approval_resolved` names it in `by`."""

_WILDCARD = LazyPattern(r"[*?\[]")

_ESCAPED = LazyPattern(r"\[[*?\[.]\]")
"""What a character of a pattern is written as that is meant as it is."""

REST = "..."
"""As the last element of a pattern for a list: any number of further elements, also none."""


class ApprovalRule(FrozenStruct, kw_only=True):
    """A decision on the calls of some tools.

    `tool` is a pattern of names (`*`, `?`, `[ab]`, as in a shell). `arguments` has a pattern for each argument that
    must match; other arguments may be anything. `pins` are fingerprints: a rule allows a tool that others may change
    (`Tool.pinned`) only if it names the fingerprint of the tool. `holds` says whether what the rule was trusted for is
    unchanged; while it is not, the rule allows nothing. With `other_arguments=False` it allows only calls that have no
    arguments besides those of `arguments`. (Since: 0.2.)
    """

    tool: str
    decision: RuleDecision
    arguments: Mapping[str, Json] = field(default_factory=dict)
    pins: tuple[str, ...] = ()
    holds: Callable[[], bool] = lambda: True
    other_arguments: bool = True

    def matches(self, tool: Tool, arguments: JsonObject, taken: Callable[[], JsonObject]) -> bool:
        """Return whether the rule is about this call.

        A rule that allows is compared with `arguments` as they were given, narrowly. One that asks or denies matches
        in doubt. It is also compared with the arguments as the tool takes them, which `taken` returns: with defaults,
        and with `"1"` converted to 1, so that no other spelling gets around it.
        """
        if not fnmatchcase(tool.name, self.tool):
            return False
        if self.decision == "allow" or not self.arguments:
            return self._fit(arguments)
        return self._fit(arguments) or self._fit(taken())

    def _fit(self, arguments: JsonObject) -> bool:
        fits = _fits if self.decision == "allow" else _may_fit
        if self.decision == "allow" and not self.other_arguments and arguments.keys() - self.arguments.keys():
            return False
        return all(name in arguments and fits(arguments[name], pattern) for name, pattern in self.arguments.items())


def rule_decision(
    tool: Tool,
    arguments: JsonObject,
    rules: Sequence[ApprovalRule],
    taken: Callable[[], JsonObject] | None = None,
) -> RuleDecision:
    """Return what is decided on a call: by the first rule that matches, else by what the tool declares.

    Tools that code passes are the user's own: rules apply only to those with `approval="ask"`.

    Args:
        tool: the tool.
        arguments: the arguments as they were given.
        rules: in order; the first one that matches decides.
        taken: returns the arguments as the tool takes them; by default they are validated for it.
    """
    taken = taken or partial(_taken, tool, arguments)
    if not tool.from_plugin and tool.approval == "allow":
        return "allow"
    for rule in rules:
        if rule.matches(tool, arguments, taken) and not (rule.decision == "allow" and _is_void(tool, rule)):
            return rule.decision
    asks = tool.approval == "ask" or (tool.from_plugin and tool.changes)
    return "ask" if asks else "allow"


def allows(rule: ApprovalRule, tool: Tool, arguments: JsonObject) -> bool:
    """Return whether a rule allows a call, where no rule before it decides. Since: 0.2."""
    matches = rule.decision == "allow" and rule.matches(tool, arguments, lambda: arguments)
    return matches and not _is_void(tool, rule)


def exact_pattern(value: Json) -> Json:
    """Return the pattern of a rule that matches `value` alone. Since: 0.2.

    A text with wildcards and with `..` or invisible characters is matched by nothing, which is narrower.
    """
    if isinstance(value, str):
        return _WILDCARD.compiled.sub(r"[\g<0>]", value)
    if isinstance(value, list):
        return [*map(exact_pattern, value[:-1]), _exact_last(value[-1])] if value else []
    return value


def _exact_last(value: Json) -> Json:
    return f"[.]{REST[1:]}" if value == REST else exact_pattern(value)


def has_changed(tool: Tool, rules: Sequence[ApprovalRule]) -> bool:
    """Return whether a rule would allow the tool if it, or what the rule was trusted for, had not changed."""
    allowing = [rule for rule in rules if rule.decision == "allow" and fnmatchcase(tool.name, rule.tool)]
    return bool(allowing) and all(_is_void(tool, rule) for rule in allowing)


def _taken(tool: Tool, arguments: JsonObject) -> JsonObject:
    try:
        return tool.validate(arguments).taken
    except ToolError:
        return arguments


def _is_void(tool: Tool, rule: ApprovalRule) -> bool:
    """Return whether a rule that matches does not allow: the tool, or what the rule was trusted for, has changed."""
    return _is_unpinned(tool, rule) or not rule.holds()


def _is_unpinned(tool: Tool, rule: ApprovalRule) -> bool:
    return tool.pinned and tool.fingerprint not in rule.pins


def _fits(value: Json, pattern: Json) -> bool:
    """Return whether an argument matches the pattern of a rule that allows: plain text by shell pattern, a list element
    by element, anything else by equality."""
    if isinstance(value, str) and isinstance(pattern, str):
        is_same = value == pattern and _ESCAPED.compiled.search(pattern) is None  # `[*]` means `*` alone
        return is_same or (_is_plain(value) and fnmatchcase(value, pattern))
    if isinstance(value, list) and isinstance(pattern, list):
        return _list_fits(value, pattern, _fits)
    return _are_same(value, pattern)


def _are_same(value: Json, other: Json) -> bool:
    """Return whether two values are the same JSON; for Python, `1`, `1.0` and `true` are equal."""
    if type(value) is not type(other):
        return False
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_are_same(item, other[name]) for name, item in value.items())
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_are_same, value, other))
    return bool(value == other)


def _may_fit(value: Json, pattern: Json) -> bool:
    """Return whether an argument may match the pattern of a rule that asks or denies: a wildcard matches any character,
    two forms of one character are equal, and 1.0 equals 1."""
    if isinstance(value, str) and isinstance(pattern, str):
        return value == pattern or fnmatchcase(normalize("NFKC", value), normalize("NFKC", pattern))
    if isinstance(value, list) and isinstance(pattern, list):
        return _list_fits(value, pattern, _may_fit)
    return isinstance(value, bool) == isinstance(pattern, bool) and bool(value == pattern)


def _list_fits(value: Sequence[Json], pattern: Sequence[Json], fits: Callable[[Json, Json], bool]) -> bool:
    fixed = pattern[:-1] if pattern[-1:] == [REST] else pattern
    long_enough = len(value) >= len(fixed) if len(fixed) < len(pattern) else len(value) == len(fixed)
    return long_enough and all(map(fits, value, fixed))


def _is_plain(text: str) -> bool:
    """Return whether a wildcard may match in `text`: not if it has `..`, which would lead out of the folder that the
    pattern names, or invisible characters."""
    return text.isprintable() and ".." not in text.replace("\\", "/").split("/")
