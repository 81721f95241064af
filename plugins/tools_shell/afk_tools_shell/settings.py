"""The settings of the shell tool."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Settings:
    """`[tools.shell]` in the user's config.

    Attributes:
        cwd: the folder in which commands start; "" is that of the run, and a relative one is relative to it.
        timeout_s: how long a command may take, in seconds; a call may ask for less.
        max_output_bytes: how much of stdout, and of stderr, the model is given.
        env: variables of the commands, beside the few that are passed on; masked like keys.
    """

    cwd: str = ""
    timeout_s: float = 120.0
    max_output_bytes: int = 40_000
    env: dict[str, str] = field(default_factory=dict, metadata={"secret": True})
