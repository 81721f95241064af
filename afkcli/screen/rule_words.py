"""What a rule with patterns allows besides the call for which it is made, in words.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator

from afkcli.core.contract.jsonform import Json
from afkcli.core.contract.lazy_pattern import LazyPattern
from afkcli.core.contract.previews import CommandPreview
from afkcli.core.contract.rules import REST, ApprovalRule
from afkcli.core.contract.tools import Tool
from afkcli.screen.risks import RUNNERS
from afkcli.screen.shell_lines import quoted
from afkcli.screen.shown import shown

_ONE_CHARACTER = LazyPattern(r"\[\[\]|\[[^\]!]\]")
_WILDCARD = LazyPattern(r"[*?]|\[.+?\]")


def also_allows(rule: ApprovalRule, tool: Tool) -> list[str]:
    """Return what a rule allows besides one exact call, one line for each thing; [] if it allows that call alone."""
    lines = []
    if _has_wildcard(rule.tool):
        lines.append(f"every tool whose name fits {shown(rule.tool)}")
    for name, pattern in rule.arguments.items():
        is_argv = isinstance(tool.preview, CommandPreview) and name == tool.preview.argv
        is_script = isinstance(tool.preview, CommandPreview) and name == tool.preview.line
        lines += _of_command(pattern) if is_argv and isinstance(pattern, list) else _of(name, pattern, is_script)
    if rule.other_arguments:
        properties = tool.spec.parameters.get("properties")
        others = [key for key in properties if key not in rule.arguments] if isinstance(properties, dict) else []
        what = f"any value of {', '.join(map(shown, others))}" if others else "any further argument"
        lines.append(f"{what} (other_arguments is not false)")
    return lines


def _of_command(argv: list[Json]) -> Iterator[str]:
    words = [word for word in argv if isinstance(word, str)]
    program = words[0] if words else ""
    if argv[-1:] == [REST]:
        before = " ".join(quoted(word) for word in words[:-1])
        yield f"any further words behind {shown(before) or 'nothing'}: every option, path and address"
    for word in words[: -1 if argv[-1:] == [REST] else None]:
        if _has_wildcard(word):
            yield f"{shown(word)}: {_ANY}"
    runs = next((word for word in words if word.rpartition("/")[2] in RUNNERS), None)
    if runs is not None and (argv[-1:] == [REST] or any(map(_has_wildcard, words))):
        yield f"nearly every command, because {shown(runs)} runs what its arguments say (with `;`, `&&` or a file)"
    elif _has_wildcard(program):
        yield f"every program whose name fits {shown(program)}"


def _of(name: str, pattern: Json, is_script: bool) -> Iterator[str]:
    for text in _texts(pattern):
        if text == REST and isinstance(pattern, list):
            yield f"{shown(name)}: any number of further elements"
        elif _has_wildcard(text):
            yield f"{shown(name)} = {shown(text)}: {_ANY}"
            if is_script:
                yield "nearly every command, because a shell reads it: `; rm -rf ~` fits a `*`, too"


_ANY = "`*` fits any characters (also /, blanks, ; and &), `?` any one"


def _texts(pattern: Json) -> Iterator[str]:
    if isinstance(pattern, str):
        yield pattern
    elif isinstance(pattern, list):
        for item in pattern:
            yield from _texts(item)


def _has_wildcard(pattern: str) -> bool:
    return _WILDCARD.compiled.search(_ONE_CHARACTER.compiled.sub("", pattern)) is not None
