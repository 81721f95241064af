"""The settings of the shell tool."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Settings:
    """`[tools.shell]` in the user's config.

    Attributes:
        cwd: the folder in which commands start; "" means the run's own, and a relative path is relative to that.
        timeout_s: how long a command may take, in seconds; a call may ask for less.
        max_output_bytes: largest number of bytes of stdout that the model gets, and the same for stderr.
        env: additional variables for the commands; their values are masked like keys.
    """

    cwd: str = ""
    timeout_s: float = 120.0
    max_output_bytes: int = 40_000
    env: dict[str, str] = field(default_factory=dict, metadata={"secret": True})
