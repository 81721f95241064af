"""Runs the search process, and bounds it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from afk_tools_files.inside import RefusedError, Root, identities
from afk_tools_files.reading import Bounds
from afkcli.plugin import PIPE, ReaderSandbox, SandboxError, SupervisedProcess, make_reader_sandbox

MARGIN_SECONDS = 2.0
"""How much longer than its own time limit the process may run before it is killed."""

_OUT_OF_TIME = (-signal.SIGALRM, 128 + signal.SIGALRM)  # the second by bubblewrap
REFUSED_CODE = 3
"""The exit code of a process that the system did not let confine itself."""

# The package's own __init__ imports afk, which takes time and which the search does not need.
_CODE = f"""
import os, sys, types
package = types.ModuleType('afk_tools_files')
package.__path__ = [sys.argv[1]]
sys.modules['afk_tools_files'] = package
from afk_tools_files.search_process import main
try:
    exec(sys.argv[2])
except Exception as error:
    os.write(2, str(error).encode(errors='replace'))
    os._exit({REFUSED_CODE})
main()
"""


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
    sandboxed: bool,
) -> str:
    """Return the lines that match, each as `path:line: text`, and below them the summary.

    Raises:
        RefusedError: the pattern or the path is not usable, or the search cannot be confined.
    """
    sandbox = _sandbox(roots, own) if sandboxed else ReaderSandbox(code="", sandbox=None)
    request = {
        "roots": [asdict(root) for root in roots],
        "own": own,
        "own_identities": await asyncio.to_thread(lambda: list(identities(own))),
        "pattern": pattern,
        "path": path,
        "glob": glob,
        "literal": literal,
        "ignore_case": ignore_case,
        **asdict(bounds),
    }
    argv = [sys.executable, "-I", "-S", "-B", "-X", "utf8", "-c", _CODE, str(Path(__file__).parent), sandbox.code]
    limit = bounds.timeout_s + MARGIN_SECONDS
    try:
        process = await SupervisedProcess.start(
            argv, folder="/", environment={}, stdin=PIPE, limit=limit, sandbox=sandbox.sandbox
        )
    except SandboxError as error:
        raise RefusedError(_unconfined(str(error))) from None
    async with process:
        found, said = await _talk(process, json.dumps(request).encode())
        code = await process.wait()
    if process.timed_out:
        raise RefusedError(_took_too_long(bounds))
    return _answer(code, found.decode(errors="replace"), said.decode(errors="replace"), bounds)


def _sandbox(roots: list[Root], own: list[str]) -> ReaderSandbox:
    try:
        return make_reader_sandbox([root.path for root in roots], hidden=own)
    except SandboxError as error:
        raise RefusedError(_unconfined(str(error))) from None


def _unconfined(reason: str) -> str:
    return f'nothing was searched: {reason}; or write `sandbox = "off"` under [tools.files] to search without a sandbox'


async def _talk(process: SupervisedProcess, request: bytes) -> tuple[bytes, bytes]:
    """Write `request` to the process; return all that it writes to stdout and stderr, which is bounded by it."""
    assert process.stdin is not None
    process.stdin.write(request)
    process.stdin.write_eof()
    return await asyncio.gather(process.stdout.read(), process.stderr.read())


def _answer(code: int | None, found: str, said: str, bounds: Bounds) -> str:
    if code in _OUT_OF_TIME:
        if not found:
            raise RefusedError(_took_too_long(bounds))
        return f"{found}[... {_took_too_long(bounds)} ...]"
    if code == 1:
        raise RefusedError(said)
    if code == REFUSED_CODE:
        raise RefusedError(_unconfined(f"the system refused a part of the sandbox: {said[:200]}"))
    if code != 0:
        raise RefusedError(f"the search failed ({code}): {said.strip().rpartition(chr(10))[2][:200]}")
    return f"{found}[{said}]"


def _took_too_long(bounds: Bounds) -> str:
    return f"the search took longer than {bounds.timeout_s:g} s; look in fewer files, or for a simpler pattern"
