"""Builds the program of platform wheels: `afk` in C, which hands a call to a warm worker or starts Python.

On Linux, where there is a C compiler, the wheel has the compiled program as its script `afk`. Elsewhere it is a wheel
of pure Python with the console script. Only one of the two is in a wheel: of two programs with one name, pip and uv
install the console script.

The variable AFK_BUILD_CLIENT says what to build: `no` a pure wheel, `yes` a platform wheel or an error; else what is
possible. CC names the compiler.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PROGRAM = "afk"
SOURCE = Path("afkcli", "worker", "client.c")
COMPILERS = ("musl-gcc", "cc", "gcc", "clang")
"""With musl, the program is a tenth of the size, and starts in half the time."""
OPTIONS = (
    "-std=c11 -O2 -Wall -Wextra -D_FORTIFY_SOURCE=2 -fstack-protector-strong "
    "-s -Wl,-z,relro,-z,now,-z,noexecstack,--build-id=none"
)
LINKINGS = ("-static", "-fPIE -pie")
"""A static program starts faster, and needs no version of a C library. Not all systems have what it is linked with."""
_MACHINES = ("x86_64", "aarch64", "ppc64le", "s390x")
STATIC_TAGS = {machine: f"py3-none-manylinux_2_17_{machine}.musllinux_1_1_{machine}" for machine in _MACHINES}
"""A static program runs with every C library, so that a wheel may say so. The kernel is that of the oldest tag."""


class ClientHook(BuildHookInterface[Any]):
    """Compiles the client into a temporary folder, and names it as a script of the wheel."""

    PLUGIN_NAME = "custom"
    _folder: tempfile.TemporaryDirectory[str] | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wanted = os.environ.get("AFK_BUILD_CLIENT", "")
        if wanted == "no":
            return
        self._folder = tempfile.TemporaryDirectory(prefix="afk-client-")
        program = Path(self._folder.name, PROGRAM)
        problem = _compile(Path(self.root) / SOURCE, program)
        if problem:
            if wanted == "yes":
                raise RuntimeError(f"the client cannot be compiled: {problem}")
            return
        build_data["shared_scripts"][str(program)] = PROGRAM
        build_data["tag"] = _tag(program)
        self.metadata.core.scripts.pop(PROGRAM, None)  # it would be a second program of this name

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._folder is not None:
            self._folder.cleanup()


def _compile(source: Path, program: Path) -> str:
    """Compile the client; return the reason where that is not possible."""
    if sys.platform != "linux":
        return "it is for Linux"
    compiler = shlex.split(os.environ.get("CC", "")) or [name for name in COMPILERS if shutil.which(name)][:1]
    if not compiler:
        return "there is no C compiler"
    problem = ""
    for linking in LINKINGS:
        command = [*compiler, *OPTIONS.split(), *linking.split(), "-o", str(program), source.name]
        try:
            done = subprocess.run(command, cwd=source.parent, capture_output=True, text=True, check=False)
        except OSError as error:
            return str(error)
        if done.returncode == 0 and _runs_here(program):
            return ""
        problem = problem or done.stderr.strip() or "the program does not run here"
    return problem


def _runs_here(program: Path) -> bool:
    """Return whether the program is one for the machine of this interpreter: a compiler may make them for another."""
    own, made = (Path(path).read_bytes()[:20] for path in (sys.executable, program))
    return own[:6] == made[:6] and own[18:20] == made[18:20]  # the class, the order of bytes and the machine of ELF


def _tag(program: Path) -> str:
    """Return the tag of the wheel: for all C libraries if the program is static, else for systems like this one."""
    machine = platform.machine()
    if struct.calcsize("P") == 8 and machine in STATIC_TAGS and not _has_interpreter(program):
        return STATIC_TAGS[machine]
    import sysconfig

    return f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"


def _has_interpreter(program: Path) -> bool:
    """Return whether a program of 64 bits needs a dynamic loader."""
    data = program.read_bytes()
    order = "<" if data[5] == 1 else ">"
    (table,) = struct.unpack_from(f"{order}Q", data, 32)
    size, count = struct.unpack_from(f"{order}HH", data, 54)
    return any(struct.unpack_from(f"{order}I", data, table + number * size)[0] == 3 for number in range(count))
