"""The openai SDK, by which LiteLLM asks each server that has Chat Completions."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable
from typing import Any

COMPLETIONS = "openai.resources.chat.completions.completions"


def send_as_given(is_in_call: Callable[[], bool]) -> None:
    """Have the SDK send the JSON of a call as LiteLLM gives it.

    The SDK compares each message with each type of message that there is, which takes 0.1 ms for each of them. It does
    so to rename fields, and to write dates and files as text: Chat Completions has no field that is renamed.

    Args:
        is_in_call: whether what is sent now is part of a call of the provider; everything else is sent as before.
    """
    with contextlib.suppress(ImportError, AttributeError):
        openai = importlib.import_module("openai")
        module: Any = importlib.import_module(COMPLETIONS)
        left_out, transform = (openai.NotGiven, openai.Omit), module.async_maybe_transform

        async def as_given(data: Any, expected_type: Any) -> Any:
            if is_in_call() and type(data) is dict:
                given = {name: value for name, value in data.items() if not isinstance(value, left_out)}
                if is_json(given):
                    return given
            return await transform(data, expected_type)

        module.async_maybe_transform = as_given


def is_json(value: object) -> bool:
    """Return whether a value is JSON as it is: nothing of it has to be made into JSON first."""
    kind = type(value)
    if kind is dict:
        return all(type(name) is str and is_json(item) for name, item in value.items())  # type: ignore[attr-defined]
    if kind is list:
        return all(map(is_json, value))  # type: ignore[call-overload]
    return kind is str or value is None or kind is bool or kind is int or kind is float
