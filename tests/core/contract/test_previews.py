"""Previews of tools, and patterns that match one value alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from afkcli import tool
from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.previews import ChangePreview, CommandPreview
from afkcli.core.contract.rules import ApprovalRule, allows, exact_pattern
from afkcli.core.contract.tools import Tool, as_tools


def run(argv: list[str], cwd: str = "") -> str:
    return ""


@pytest.mark.parametrize(
    ("preview", "said"),
    [
        (CommandPreview(argv="words"), "names the argument 'words', which the tool does not have"),
        (CommandPreview(argv="argv", folder="place"), "names the argument 'place'"),
        (CommandPreview(), "needs argv or line, not both"),
        (CommandPreview(argv="argv", line="cwd"), "needs argv or line, not both"),
        (ChangePreview(path="cwd"), "needs text or change"),
        (ChangePreview(path="cwd", text="argv", shows=("old",)), "names the argument 'old'"),
        ("argv", "is a str; use CommandPreview or ChangePreview"),
    ],
)
def test_a_preview_that_does_not_fit_its_tool_is_refused_with_its_reason(preview: Any, said: str) -> None:
    with pytest.raises(UsageError, match="the preview of the tool 'run'") as caught:
        as_tools([tool(preview=preview)(run)])
    assert said in str(caught.value)


def test_a_preview_that_fits_is_kept() -> None:
    preview = CommandPreview(argv="argv", folder="cwd")
    assert as_tools([tool(preview=preview)(run)])["run"].preview == preview


TEXTS = st.text(st.sampled_from("ab.*?[]!-/ \n\u202e"), max_size=6)
WORDS = st.lists(st.one_of(TEXTS, st.just("...")), max_size=4)


def _rule(argv: list[str]) -> ApprovalRule:
    return ApprovalRule(tool="x.y", decision="allow", arguments={"argv": exact_pattern([*argv])}, other_arguments=False)


TOOL = Tool(name="x.y", description="", function=run, from_plugin=True)


@given(WORDS, WORDS)
def test_an_exact_pattern_matches_no_other_value(argv: list[str], other: list[str]) -> None:
    if argv != other:
        assert not allows(_rule(argv), TOOL, {"argv": other})


@given(st.lists(st.text(st.sampled_from("ab*?[]! "), max_size=6), max_size=4))
def test_an_exact_pattern_matches_its_own_value(argv: list[str]) -> None:
    assert allows(_rule(argv), TOOL, {"argv": argv})
    assert allows(_rule([*argv, "..."]), TOOL, {"argv": [*argv, "..."]})
    assert not allows(_rule([*argv, "..."]), TOOL, {"argv": [*argv, "x"]})


@pytest.mark.parametrize(
    ("value", "other"),
    [
        ("*.txt", "[*].txt"),
        ("[ab]", "[[]ab]"),
        ("what?", "what[?]"),
        (["x", "..."], ["x", "[.].."]),
        ({"force": 0}, {"force": False}),
        ({"deep": [{"n": 1}]}, {"deep": [{"n": 1.0}]}),
        ({"deep": [1]}, {"deep": [True]}),
        ({"a": 1}, {"a": 1, "b": None}),
        ([{"n": 1}], [{"n": True}]),
    ],
)
def test_an_exact_pattern_matches_no_value_that_looks_alike(value: Any, other: Any) -> None:
    rule = ApprovalRule(tool="x.y", decision="allow", arguments={"of": exact_pattern(value)}, other_arguments=False)
    assert allows(rule, TOOL, {"of": value})
    assert not allows(rule, TOOL, {"of": other})


def test_a_rule_without_other_arguments_allows_no_other_argument() -> None:
    rule = _rule(["ls"])
    assert allows(rule, TOOL, {"argv": ["ls"]})
    assert not allows(rule, TOOL, {"argv": ["ls"], "cwd": "/"})
    assert not allows(rule, TOOL, {"argv": ["ls"], "cwd": None})
