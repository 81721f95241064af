"""The settings of the file tools."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Literal


@dataclass
class Settings:
    """`[tools.files]` in the user's config.

    Attributes:
        roots: the folders that the tools may use, and all below them: absolute, with `~`, or relative to the working
            directory of the run.
        write: whether the tool that writes is available.
        max_output_bytes: largest number of bytes of text that one call returns.
        max_lines: largest number of lines that one call returns.
        max_entries: largest number of entries of a folder that one call returns.
        max_hits: largest number of lines that one search returns.
        max_file_mb: a larger file is not searched and not written, in megabytes (10^6 bytes).
        timeout_s: how long one call may take, in seconds.
        sandbox: "read-only" lets the process of a search read the roots alone; "off" runs it with all rights of the
            user. The default is "read-only" on Linux, and elsewhere, where there is no sandbox, "off".
    """

    roots: list[str] = field(default_factory=list)
    write: bool = False
    max_output_bytes: int = 60_000
    max_lines: int = 2000
    max_entries: int = 1000
    max_hits: int = 200
    max_file_mb: int = 10
    timeout_s: float = 10.0
    sandbox: Literal["read-only", "off"] = "read-only" if sys.platform == "linux" else "off"
