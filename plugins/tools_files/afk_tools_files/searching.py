"""Runs the search process, and bounds it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from afk_tools_files.inside import RefusedError, Root
from afk_tools_files.reading import Bounds
from afkcli.plugin import PIPE, SupervisedProcess

MARGIN_SECONDS = 2.0
"""How much longer than its own time limit the process may run before it is killed."""

# The package's own __init__ imports afk, which takes time and which the search does not need.
_CODE = (
    "import sys, types; package = types.ModuleType('afk_tools_files'); package.__path__ = [sys.argv[1]];"
    " sys.modules['afk_tools_files'] = package; from afk_tools_files.search_process import main; main()"
)


async def search(
    roots: list[Root],
    own: list[str],
    bounds: Bounds,
    *,
    pattern: str,
    path: str,
    glob: str | None,
    literal: bool,
    ignore_case: bool,
) -> str:
    """Return the lines that match, each as `path:line: text`, and below them the summary.

    Raises:
        RefusedError: the pattern or the path is not usable.
    """
    request = {
        "roots": [asdict(root) for root in roots],
        "own": own,
        "pattern": pattern,
        "path": path,
        "glob": glob,
        "literal": literal,
        "ignore_case": ignore_case,
        **asdict(bounds),
    }
    argv = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _CODE, str(Path(__file__).parent)]
    limit = bounds.timeout_s + MARGIN_SECONDS
    process = await SupervisedProcess.start(argv, folder="/", environment={}, stdin=PIPE, limit=limit)
    async with process:
        found, said = await _talk(process, json.dumps(request).encode())
        code = await process.wait()
    if process.timed_out:
        raise RefusedError(_took_too_long(bounds))
    return _answer(code, found.decode(errors="replace"), said.decode(errors="replace"), bounds)


async def _talk(process: SupervisedProcess, request: bytes) -> tuple[bytes, bytes]:
    """Write `request` to the process; return all that it writes to stdout and stderr, which is bounded by it."""
    assert process.stdin is not None
    process.stdin.write(request)
    process.stdin.write_eof()
    return await asyncio.gather(process.stdout.read(), process.stderr.read())


def _answer(code: int | None, found: str, said: str, bounds: Bounds) -> str:
    if code == -signal.SIGALRM:
        if not found:
            raise RefusedError(_took_too_long(bounds))
        return f"{found}[... {_took_too_long(bounds)} ...]"
    if code == 1:
        raise RefusedError(said)
    if code != 0:
        raise RefusedError(f"the search failed ({code}): {said.strip().rpartition(chr(10))[2][:200]}")
    return f"{found}[{said}]"


def _took_too_long(bounds: Bounds) -> str:
    return f"the search took longer than {bounds.timeout_s:g} s; look in fewer files, or for a simpler pattern"
