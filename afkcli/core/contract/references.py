"""`${NAME}` in a setting is the variable NAME of the environment; `$${` is the text `${`, any other `$` is itself.

What a setting refers to is filled in or refused: a server is never sent the reference itself.

Since: 0.2.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from afkcli.core.contract.lazy_pattern import LazyPattern

_REFERENCE = LazyPattern(r"\$\$\{|\$\{([^{}]*)(\}?)")
_NAME = LazyPattern(r"[A-Za-z_][A-Za-z0-9_]*")


def references(text: str) -> list[str]:
    """Return the names of the variables to which a text refers.

    Raises:
        ValueError: what is between `${` and `}` is not the name of a variable; the message says so without the text.
    """
    if "${" not in text:
        return []
    found = [match for match in _REFERENCE.compiled.finditer(text) if match[0] != "$${"]
    if any(not match[2] or not _NAME.compiled.fullmatch(match[1]) for match in found):
        raise ValueError(
            "refers to a variable by ${...}, but its text is not the name of one; write ${NAME}, or $${ for the text ${"
        )
    return [match[1] for match in found]


def expand_references(text: str, environment: Mapping[str, str]) -> str:
    """Return a text with the variables to which it refers filled in; one that is not set is empty.

    Raises:
        ValueError: as `references`.
    """
    if not references(text) and "$${" not in text:
        return text

    def value(match: re.Match[str]) -> str:
        return "${" if match[0] == "$${" else environment.get(match[1], "")

    return _REFERENCE.compiled.sub(value, text)


def is_reference(text: str) -> bool:
    """Return whether a text is one reference and nothing else, such as `${OPENAI_API_KEY}`."""
    try:
        return text.startswith("${") and text.endswith("}") and len(references(text)) == 1
    except ValueError:
        return False
