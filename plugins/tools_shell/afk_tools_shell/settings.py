"""The settings of the shell tool."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

from afkcli.plugin import HIDDEN, SandboxMode


@dataclass
class Settings:
    """`[tools.shell]` in the user's config.

    Attributes:
        cwd: the folder in which commands start; "" means the run's own, and a relative path is relative to that.
        timeout_s: how long a command may take, in seconds; a call may ask for less.
        max_processes: how many processes and threads a command may have at once; 0 for no limit.
        max_output_bytes: largest number of bytes of stdout that the model gets, and the same for stderr.
        env: additional variables for the commands; their values are masked like keys.
        sandbox: "workspace" lets commands write in their folder alone, "read-only" nowhere, "off" runs them with all
            rights of the user. The default is "workspace" on Linux, and elsewhere, where there is none, "off".
        network: whether commands in the sandbox may open connections.
        writable: more folders in which commands in the sandbox may write.
        hidden: files and folders that commands in the sandbox cannot read; afk's own are always hidden.
    """

    cwd: str = ""
    timeout_s: float = 120.0
    max_processes: int = 2000
    max_output_bytes: int = 40_000
    env: dict[str, str] = field(default_factory=dict, metadata={"secret": True})
    sandbox: SandboxMode = "workspace" if sys.platform == "linux" else "off"
    network: bool = False
    writable: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=lambda: list(HIDDEN))
