"""The message that a prompt in a file makes of what is typed and what is piped in.

Since: 0.2.
"""

from __future__ import annotations

from collections.abc import Mapping

from afkcli.config.prompt_file import INPUT, MESSAGE, Prompt, values_for
from afkcli.config.prompt_text import filled


def message_of(prompt: Prompt, given: Mapping[str, str], words: str, piped: str) -> str:
    """Return the message: the text of a prompt with its variables.

    `{{ message }}` is what was typed, and `{{ input }}` what is piped in. A text that names one of them has both there,
    with an empty line between them; after a text that names neither they follow.
    """
    words, piped = (text if text.strip() else "" for text in (words, piped))
    both = "\n\n".join(text for text in (words, piped) if text)
    named = {MESSAGE, INPUT} & set(prompt.named)
    said = {MESSAGE: words, INPUT: piped} if len(named) == 2 else dict.fromkeys(named, both)
    values = values_for(prompt, given, {name: text or None for name, text in said.items()})
    text = filled(prompt.text, values)
    return text if named else "\n\n".join(part for part in (text, both) if part.strip())
