"""The portable options of a model call: the values of each, and whether a model accepts it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.jsonform import Json, JsonError, dumps

if TYPE_CHECKING:
    from afkcli.core.contract.protocols import Capabilities


class Rule(NamedTuple):  # cheaper to import than a struct; a list of threads imports it
    """The values of an option: a description, a test, and for numbers the least and the greatest (None: no bound)."""

    words: str
    holds: Callable[[Any], bool]
    low: float | None = None
    high: float | None = None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_texts(value: Any) -> bool:
    return _is_text(value) or (isinstance(value, (list, tuple)) and bool(value) and all(map(_is_text, value)))


PORTABLE: Mapping[str, Rule] = {
    "temperature": Rule("a number", _is_number, 0, 2),
    "top_p": Rule("a number", _is_number, 0, 1),
    "max_output_tokens": Rule("an integer", _is_whole, 1),
    "stop": Rule("a string or an array of strings", _is_texts),
    "seed": Rule("an integer", _is_whole),
    "reasoning_effort": Rule("a string, in the words of the model's API", _is_text),
}
"""A provider that accepts one of these accepts it under this name and in this form."""

_MOST_SHOWN = 60
_NO_RANGES: Mapping[str, tuple[float, float]] = {}


def check_options(
    options: Mapping[str, Json], extra: Mapping[str, Json], model: str, capabilities: Capabilities
) -> None:
    """Refuse options that a model does not accept, and values that it cannot accept.

    Args:
        options, extra: those of the agent.
        model: `provider/model`, for the message.
        capabilities: what the provider says about the model; if it does not say which options the model accepts, all
            portable ones pass.

    Raises:
        UsageError: it names the option, the model and what the model accepts.
    """
    ranges = dict(capabilities.option_ranges)
    if capabilities.max_output_tokens is not None:
        ranges.setdefault("max_output_tokens", (1, capabilities.max_output_tokens))
    taken = PORTABLE.keys() if capabilities.options is None else capabilities.options
    for name, value in options.items():
        if name not in taken:
            known = ", ".join(sorted(taken)) or "none"
            raise UsageError(f"{model} does not accept the option {_brief(repr(name))}; it accepts: {known}")
        wanted = wanted_value(name, value, ranges)
        if wanted is not None:
            raise UsageError(f"{model} needs {wanted} for the option {name!r} (got {_brief(repr(value))})")
    for what, fields in (("options", options), ("extra", extra)):
        try:
            dumps(dict(fields))
        except JsonError as error:
            raise UsageError(f"the {what} of the agent cannot be sent as JSON: {error}") from None


def _brief(text: str) -> str:
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def wanted_value(name: str, value: Any, ranges: Mapping[str, tuple[float, float]] = _NO_RANGES) -> str | None:
    """Return in words what a portable option must be, or None if `value` is that."""
    rule = PORTABLE.get(name)
    if rule is None:  # the provider that names this option checks it
        return None
    low, high = ranges.get(name, (rule.low, rule.high))
    if rule.holds(value) and (low is None or low <= value) and (high is None or value <= high):
        return None
    bounds = ("" if low is None else f" from {low:g}") + ("" if high is None else f" to {high:g}")
    return f"{rule.words}{bounds}"
