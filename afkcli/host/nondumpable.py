"""Hides the memory of this process, its keys above all, from the processes that its tools start.

A process of the same user may read another one's environment and memory (Linux: /proc/PID/environ, /proc/PID/mem,
ptrace), unless that one is non-dumpable: prctl(2) PR_SET_DUMPABLE, ptrace(2) "Ptrace access mode checking".
"""

from __future__ import annotations

import sys

_PR_GET_DUMPABLE, _PR_SET_DUMPABLE = 3, 4  # linux/prctl.h


def hide_memory() -> bool:
    """Make this process non-dumpable, permanently. Call it before any tool is started; it may be called again.

    What remains readable is what the kernel shows of every process (its arguments, its start time), so the proof of
    who holds a lease is not touched. A process with CAP_SYS_PTRACE, root's as a rule, reads all the same; newer
    kernels also let one with CAP_PERFMON or CAP_SYS_ADMIN read the environment.

    Returns:
        False where Linux refused, or where it cannot be asked: then nothing may be started that should not have the
        keys. True on Linux where it holds, and elsewhere, where there is no such protection to ask for.
    """
    if sys.platform != "linux":
        return True
    try:
        import ctypes  # here, because only a run that has tools needs it

        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (ImportError, OSError, AttributeError):
        return False
    prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    return bool(prctl(_PR_GET_DUMPABLE, 0, 0, 0, 0) == 0)  # asked, because a sandbox may only pretend
