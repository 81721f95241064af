"""The end of an answer that is still arriving, without the halves of marks, which would be shown for a moment."""

from __future__ import annotations

import re

_HALF_LINE = re.compile(r"[\s>]*([-=+*_#`~|: ]*|\d{1,9}[.)]?)\s*")
_FENCE = re.compile(r"[\s>]*(?:[-*+]|\d{1,9}[.)])?\s*(?:```|~~~)")
_HALF_LINK = re.compile(r"!?\[[^\]\n]*\]\([^()\s]*$")
_SINGLE = re.compile(r"(?<![*\s])\*(?!\*)|(?<!\*)\*(?![*\s])")


def presentable(source: str, at_line: int, open_kind: str) -> str:
    """Return the text to show of one that has not ended.

    Args:
        source: the text.
        at_line: where its last line begins, which has not ended.
        open_kind: the kind of the block that is open in the lines before.
    """
    line = source[at_line:]
    if open_kind == "fence":
        return source[:at_line] if line and not line.strip("`~ ") else source
    if not line and source.endswith("\n") and not source.endswith("\n\n"):
        return _without_heading_of_table(source, source.rfind("\n", 0, at_line - 1) + 1)
    if _HALF_LINE.fullmatch(line) or (open_kind == "table_open" and not source[:at_line].endswith("\n\n")):
        return _without_heading_of_table(source[:at_line], source.rfind("\n", 0, max(0, at_line - 1)) + 1)
    if line.lstrip(" >").startswith("|") or _FENCE.match(line):
        return source[:at_line]
    begin = source.rfind("\n\n", 0, at_line) + 1
    return source[:begin] + _with_ends(source[begin:])


def _without_heading_of_table(source: str, at_line: int) -> str:
    """Return `source` without its last line if that may become the heading of a table."""
    before = source[source.rfind("\n", 0, max(0, at_line - 1)) + 1 : at_line]
    is_heading = source[at_line:].lstrip(" >").startswith("|") and not before.lstrip(" >").startswith("|")
    return source[:at_line] if is_heading else source


def _with_ends(text: str) -> str:
    """Return text with an end for each mark that has begun, so that it does not become bold or code only at its end."""
    if text.count("`") % 2:
        return text.rstrip("`") if text.endswith("`") else f"{text}`"
    body = text.rstrip("*_~")
    if len(_SINGLE.findall(body)) % 2:
        body = f"{body.rstrip()}*"
    if body.count("**") % 2 and not body.endswith("**"):
        body = f"{body.rstrip()}**"
    return f"{body})" if _HALF_LINK.search(body) else body
