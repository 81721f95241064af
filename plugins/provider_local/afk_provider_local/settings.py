"""The settings of the local provider."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Settings:
    """`[providers.local]` in the user's config.

    Attributes:
        model_path: a GGUF file to run; "" means the small demonstration model.
        threads: number of computing threads; 0 means half of the processors that this process may use, at most 8.
        context_tokens: tokens of conversation and answer together; never more than the model was trained for.
        max_output_tokens: tokens of one answer.
        temperature, top_p: sampling, unless the request sets it.
        seed: makes answers repeatable; -1 means a new seed for every answer.
        system: the system message of a request without one; "" means none, or a short one for the demonstration model.
    """

    model_path: str = field(default="", metadata={"env": "AFK_LOCAL_MODEL"})
    threads: int = field(default=0, metadata={"env": "AFK_LOCAL_THREADS"})
    context_tokens: int = 4096
    max_output_tokens: int = 1024
    temperature: float = 0.2
    top_p: float = 0.9
    seed: int = -1
    system: str = ""
