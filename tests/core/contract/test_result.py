"""Token counts: what providers report, held to what a count can be."""

from __future__ import annotations

from typing import Any

import pytest

from afkcli.core.contract.result import Usage, usage_from_json, whole_count


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (12, 12),
        (12.0, 12),
        ("12", 12),
        (0, 0),
        (-1, None),
        (-1.0, None),
        (12.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (10**30, None),
        ("9" * 400, None),
        ("-1", None),
        ("twelve", None),
        ("²", None),
        (True, None),
        (None, None),
        ([12], None),
    ],
)
def test_a_count_is_a_whole_number_that_is_not_negative(value: object, number: int | None) -> None:
    assert whole_count(value) == number


def test_a_usage_never_holds_a_negative_or_broken_count_and_names_it_as_unknown() -> None:
    wrong: dict[str, Any] = {"input_tokens": -5, "output_tokens": 3.0, "reasoning_output_tokens": 2.5}
    usage = Usage(**wrong)
    assert usage == Usage(output_tokens=3, unknown=("input_tokens", "reasoning_output_tokens"))
    assert not usage.has_known_cost
    assert Usage(unknown=("reasoning_output_tokens", "total_tokens")).has_known_cost


def test_what_is_unknown_of_one_call_is_unknown_of_the_sum() -> None:
    usages = (
        Usage(input_tokens=3, unknown=("output_tokens",)),
        Usage(input_tokens=4),
        Usage(unknown=("output_tokens",)),
    )
    assert usages[0] + usages[1] + usages[2] == Usage(input_tokens=7, unknown=("output_tokens",))


def test_a_usage_from_json_keeps_what_is_unknown() -> None:
    assert usage_from_json({"input_tokens": 3, "unknown": ["output_tokens", 4]}) == Usage(
        input_tokens=3, unknown=("output_tokens",)
    )
    assert usage_from_json({"input_tokens": "x", "unknown": None}) == Usage()
    assert usage_from_json({"input_tokens": -3}) == Usage(unknown=("input_tokens",))
