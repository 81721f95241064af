"""Run a program on a machine that lacks something: `python without.py CALL,... PROGRAM [ARGUMENT ...]`.

The kernel refuses the named system calls to it: without `mount`, bubblewrap cannot work; without
`landlock_create_ruleset`, there is no Landlock.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys

from afkcli.processes.confine import AUDIT_ARCHITECTURES, FilterProgram, install

NUMBERS = {"x86_64": {"mount": 165}, "aarch64": {"mount": 40}}
LANDLOCK = 444
_NO_NEW_PRIVS = 38


def main() -> None:
    machine = os.uname().machine
    numbers = {**NUMBERS[machine], "landlock_create_ruleset": LANDLOCK}
    program = FilterProgram()
    program.start(AUDIT_ARCHITECTURES[machine], x32=False)
    for name in sys.argv[1].split(","):
        program.refuse(numbers[name], errno.ENOSYS if name.startswith("landlock") else errno.EPERM)
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    install(program.whole())
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
