"""What this plugin has to know of OpenAI's models by name: whether a model reasons."""

from __future__ import annotations

# These refuse `include: ["reasoning.encrypted_content"]` and reasoning items in their input; all later ones take both.
_NOT_REASONING = ("gpt-3.5", "gpt-4", "chatgpt-4o")


def is_reasoning_model(model: str) -> bool:
    """Return whether an OpenAI model reasons; a name that is not known counts as a newer one, which do."""
    return not model.removeprefix("ft:").startswith(_NOT_REASONING)
