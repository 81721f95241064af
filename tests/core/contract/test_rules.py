"""Approval rules: which rule matches a tool call, and what is decided without one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from afkcli.core.contract.rules import ApprovalRule, RuleDecision, rule_decision
from afkcli.core.contract.tools import Tool


def _write(path: str, argv: Sequence[str] = ()) -> str:
    return f"wrote {path}"


def plugin_tool(name: str = "files.write", **fields: Any) -> Tool:
    return Tool(name=name, description="Writes.", function=_write, from_plugin=True, **fields)


def rule(decision: RuleDecision, tool: str = "files.write", pins: Sequence[str] = (), **arguments: Any) -> ApprovalRule:
    return ApprovalRule(tool=tool, decision=decision, arguments=arguments, pins=tuple(pins))


class TestRuleDecisions:
    def test_a_tool_that_changes_nothing_needs_no_approval(self) -> None:
        assert rule_decision(plugin_tool(changes=False), {}, ()) == "allow"

    def test_a_tool_that_may_change_something_needs_approval(self) -> None:
        assert rule_decision(plugin_tool(), {}, ()) == "ask"

    def test_own_functions_need_no_approval_and_have_no_rules(self) -> None:
        own = replace(plugin_tool(), from_plugin=False)
        assert rule_decision(own, {}, [rule("deny", "*")]) == "allow"
        assert rule_decision(replace(own, approval="ask"), {}, ()) == "ask"
        assert rule_decision(replace(own, approval="ask"), {}, [rule("allow", "*")]) == "allow"

    def test_the_first_rule_that_matches_decides(self) -> None:
        rules = [rule("deny", path="*.key"), rule("allow", "files.*")]
        assert rule_decision(plugin_tool(), {"path": "a.key"}, rules) == "deny"
        assert rule_decision(plugin_tool(), {"path": "a.txt"}, rules) == "allow"
        assert rule_decision(plugin_tool(changes=False), {"path": "a.txt"}, [rule("ask", "files.*")]) == "ask"
        assert rule_decision(plugin_tool(), {}, [rule("allow", "shell.*")]) == "ask"

    @pytest.mark.parametrize(
        ("pattern", "value", "fits"),
        [
            ("notes/*", "notes/a.txt", True),
            ("notes/*", "other/a.txt", False),
            ("notes/*", "notes/../other", False),
            ("notes/*", "notes\\..\\other", False),
            ("notes/../a", "notes/../a", True),
            ("notes/*", "notes/a\x1b[2J", False),
            ("[ab].txt", "a.txt", True),
            ("*", 7, False),
            (7, 7, True),
            (1, True, False),
            (["git", "status"], ["git", "status"], True),
            (["git", "status"], ["git", "status", "-s"], False),
            (["git", "log", "..."], ["git", "log"], True),
            (["git", "log", "..."], ["git", "log", "-1", "--all"], True),
            (["git", "log", "..."], ["git"], False),
            (["git", "*"], ["git", "status"], True),
            ("git*", ["git", "status"], False),
            (["..."], ["rm"], True),
        ],
    )
    def test_arguments_match_their_patterns(self, pattern: Any, value: Any, fits: bool) -> None:
        decided = rule_decision(plugin_tool(), {"path": value}, [rule("allow", path=pattern)])
        assert (decided == "allow") == fits

    @pytest.mark.parametrize(
        ("pattern", "value"),
        [
            ("*password*", "my password\n"),
            ("*password*", "pass\u200b password"),
            ("/etc/*", "/etc/../etc/passwd"),
            ("caf\u00e9", "cafe\u0301"),
            (["rm", "*"], ["rm", "a\n"]),
            (1, 1.0),
        ],
    )
    @pytest.mark.parametrize("decision", ["deny", "ask"])
    def test_odd_characters_do_not_bypass_a_rule_that_denies_or_asks(
        self, decision: Any, pattern: Any, value: Any
    ) -> None:
        rules = [rule(decision, path=pattern), rule("allow", "files.*")]
        assert rule_decision(plugin_tool(), {"path": value}, rules) == decision

    def test_a_rule_that_denies_applies_to_converted_arguments(self) -> None:
        def push(path: str, force: bool = True, times: int = 1) -> str:
            return path

        tool = replace(plugin_tool(), function=push)
        described = {"type": "object", "properties": {"path": {"type": "string"}, "force": {"default": True}}}
        served = replace(tool, parameters=described)
        for denied in (rule("deny", force=True), rule("deny", times=3)):
            rules = [denied, rule("allow", "files.*")]
            assert rule_decision(tool, {"path": "a", "force": "yes", "times": "3"}, rules) == "deny"
        assert rule_decision(tool, {"path": "a"}, [rule("deny", force=True), rule("allow")]) == "deny"
        assert rule_decision(served, {"path": "a"}, [rule("deny", force=True), rule("allow")]) == "deny"
        assert rule_decision(tool, {"path": "a", "force": False}, [rule("deny", force=True), rule("allow")]) == "allow"
        assert rule_decision(tool, {"path": "a"}, [rule("allow", force=True)]) == "ask"

    def test_a_missing_argument_matches_no_pattern(self) -> None:
        assert rule_decision(plugin_tool(), {}, [rule("allow", path="*")]) == "ask"

    def test_a_tool_that_others_may_change_is_allowed_only_by_its_fingerprint(self) -> None:
        served = plugin_tool(pinned=True)
        assert rule_decision(served, {}, [rule("allow")]) == "ask"
        assert rule_decision(served, {}, [rule("allow", pins=[served.fingerprint])]) == "allow"
        changed = replace(served, description="Writes, and sends it elsewhere.")
        assert rule_decision(changed, {}, [rule("allow", pins=[served.fingerprint])]) == "ask"
        assert rule_decision(changed, {}, [rule("allow", pins=[served.fingerprint]), rule("deny", "*")]) == "deny"
