r"""Patterns of ECMA-262: what is translated means the same, what is not says why, and none takes long."""

from __future__ import annotations

import pytest

from afkcli.core.contract.patterns import Pattern, PatternError


@pytest.mark.parametrize(
    ("pattern", "fits", "does_not"),
    [
        (r"^\p{L}+$", ["Zoë", "żółw"], ["a1", "", "a\n"]),
        (r"^[^\p{L}]$", ["1"], ["é"]),
        (r"^\P{Lu}$", ["a"], ["A"]),
        (r"^\p{Script=Cyrillic}$", ["ж"], ["a"]),
        (r"^\d$", ["1"], ["१", "1\n"]),
        (r"^\w$", ["a", "_"], ["é"]),
        (r"^\s$", ["\ufeff", " ", "\u2029"], ["\x1c", "\x85"]),
        (r"^\S$", ["\x85"], ["\ufeff"]),
        (r"^[^\Sa]$", [" "], ["a", "b"]),
        (r"^[\D\d]$", ["a", "1"], ["ab"]),
        (r"^.$", ["🐲", "\x85"], ["\n", "\u2028"]),
        (r"^\cC$", ["\x03"], ["c"]),
        (r"^\u{1F432}\ud83d\udc32$", ["🐲🐲"], ["🐲"]),
        (r"^(?:(a)|b)\1$", ["aa", "b"], ["ba"]),
        (r"^(?<year>\d{4})-\k<year>$", ["2020-2020"], ["2020-2021"]),
        (r"^a{,3}$", ["a{,3}"], ["aa"]),
        (r"^[a-z&&[^b]]$", ["b]"], ["c"]),
        (r"[[:alpha:]]", ["a]"], ["b"]),
        (r"^[^]$", ["\n"], [""]),
        (r"[]", [], ["a", ""]),
        (r"(?<=a+)b", ["aab"], ["b"]),
        (r"\bfoo\b", ["éfoo"], ["_foo"]),
        (r"^[\w-z.\-]+$", ["-z.a"], ["~"]),
        (r"^a\-b\@$", ["a-b@"], ["a\\-b"]),
        (r"^(?!x)[^-x]{1,2}$", ["a", "ab"], ["x", "a-"]),
    ],
)
def test_a_pattern_means_what_it_means_in_javascript(pattern: str, fits: list[str], does_not: list[str]) -> None:
    translated = Pattern(pattern)

    assert [text for text in fits if not translated.is_in(text)] == []
    assert [text for text in does_not if translated.is_in(text)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        r"(?i)abc", r"(?P<n>a)", r"\Aabc\Z", r"a++", r"(?>a)", r"(?#c)", r"(?(1)a|b)",
        r"[a", r"(a", r"a)", r"*a", r"[z-a]", "\\", r"\p{Nothing}", r"\pL", r"\1", r"\k<a>", r"\ud800", r"\a",
        "a" * 10_001, "(" * 9_000,
    ],
)  # fmt: skip
def test_a_pattern_of_another_dialect_says_why_it_cannot_be_checked(pattern: str) -> None:
    with pytest.raises(PatternError) as caught:
        Pattern(pattern)

    assert str(caught.value)


@pytest.mark.parametrize("pattern", [r"^(a|aa)+$", r"^(a|a)*$", r"^(.*)(.*)(.*)(.*)(.*)\d$"])
def test_a_pattern_that_backtracks_without_end_is_given_up(pattern: str) -> None:
    with pytest.raises(PatternError, match="longer than"):
        Pattern(pattern).is_in("a" * 5_000 + "!", seconds=0.02)
