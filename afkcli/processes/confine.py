"""Confines the calling process and all that it starts: by bubblewrap, or by Landlock and seccomp.

The supervisor loads this file in the process that becomes the command, and a search of files in its own, so it imports
only the standard library. What is to hold for a command comes as a policy, a dict:

    mechanism   "bubblewrap" or "landlock"
    program     the path of bubblewrap, with that mechanism
    writable    folders in which the command may write, besides its own temporary folder
    hidden      files and folders of which it reads and writes nothing
    network     whether it may open connections
    guarded     processes that it must not signal, by number; only Landlock needs them

Sources: landlock(7) and linux/landlock.h; seccomp(2), linux/filter.h and linux/audit.h; bwrap(1).
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import sys

TYPE_CHECKING = False  # importing it from typing would take longer than all the rest
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import Any


class RefusedError(OSError):
    """The system refused a part of the confinement."""

    of_sandbox = True


LANDLOCK_VERSION = 3
"""The first version of Landlock that holds all ways to write: version 2 lets everything be truncated (Linux 6.2)."""

# linux/landlock.h
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_CHAR, _MAKE_BLOCK, _TRUNCATE, _IOCTL_DEV = 1 << 6, 1 << 11, 1 << 14, 1 << 15
_ALL_BY_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_SCOPES = 0b11  # abstract sockets and signals end at the sandbox, from version 6
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_ASKED, _PATH_BENEATH, _RULESET_BYTES = 1, 1, {1: 8, 4: 16, 6: 24}

_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _FILTER = 22, 24, 38, 2
_KEPT_CAPABILITIES = {0: "CHOWN", 1: "DAC_OVERRIDE", 3: "FOWNER", 4: "FSETID", 6: "SETGID", 7: "SETUID"}
"""What a command of root keeps, so that it works in a folder of another user: linux/capability.h."""

_READING_CAPABILITY = 2  # DAC_READ_SEARCH
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
"""What of /dev a command may use; the same that bubblewrap makes."""

AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""The number of each architecture in linux/audit.h."""
CALLS = {
    "x86_64": {
        "socket": 41,
        "connect": 42,
        "kill": 62,
        "fcntl": 72,
        "rt_sigqueueinfo": 129,
        "tkill": 200,
        "tgkill": 234,
        "add_key": 248,
        "request_key": 249,
        "keyctl": 250,
        "rt_tgsigqueueinfo": 297,
        "perf_event_open": 298,
        "prlimit64": 302,
        "bpf": 321,
        "userfaultfd": 323,
    },
    "aarch64": {
        "fcntl": 25,
        "kill": 129,
        "tkill": 130,
        "tgkill": 131,
        "rt_sigqueueinfo": 138,
        "socket": 198,
        "connect": 203,
        "add_key": 217,
        "request_key": 218,
        "keyctl": 219,
        "rt_tgsigqueueinfo": 240,
        "perf_event_open": 241,
        "prlimit64": 261,
        "bpf": 280,
        "userfaultfd": 282,
    },
}
_SAME_EVERYWHERE = {"pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434}
CALLS_NOT_OF_A_READER = {
    "x86_64": "41 42 53 56-59 62 76 85 90-94 101 129 132 188-190 197-200 234 235 248-250 260 261 268 272 280 297 298"
    " 303 304 308 310 311 321-323",
    "aarch64": "5-7 14-16 45 52-55 88 97 117 129-131 138 198 199 203 217-221 240 241 264 265 268 270 271 280-282",
}
"""What a program that only reads never calls, in the order of the table of each architecture: sockets; new processes
and programs; signals, tracing and the memory of others; truncation, modes, owners, times and attributes of files, which
Landlock does not hold, or not in each version; namespaces, key rings, file handles, bpf."""
_NOT_OF_A_READER_EVERYWHERE = "424-427 434 435 437 438 440 452 463 466 469"
"""The same with one number everywhere: signals by descriptor, io_uring, clone3, openat2, pidfd_getfd, process_madvise,
fchmodat2, setxattrat, removexattrat, file_setattr."""
_OPENING_CALLS = {"x86_64": {2: 1, 257: 2}, "aarch64": {56: 2}}
"""open and openat, and which of their arguments has the flags."""
_X32 = 0x40000000
_AF_UNIX, _SOCK_DGRAM, _F_SETOWN, _F_SETOWN_EX = 1, 2, 8, 15

# linux/bpf_common.h: load a word of the call, compare it, answer
_LOAD, _AND, _EQUAL, _AT_LEAST, _ANSWER = 0x20, 0x54, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_ARCHITECTURE, _NUMBER = 4, 0


def confined(policy: Mapping[str, Any], argv: Sequence[str], temporary: str) -> list[str]:
    """Confine this process as far as it must be before it executes the command; return what to execute.

    Args:
        policy: as the module says.
        argv: the command.
        temporary: a folder of the command's own, in which it may write.

    Raises:
        RefusedError: the system refused a part of the confinement.
        OSError: the command cannot be found.
    """
    if policy["mechanism"] == "bubblewrap":
        _find(argv[0])  # bubblewrap would report this in words of its own
        return bubblewrap(policy, argv, temporary=temporary, seccomp=_filter_file(policy["network"]))
    _drop_capabilities()
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    _landlock(policy, temporary)
    install(seccomp_program(network=policy["network"], guarded=policy["guarded"]))
    return list(argv)


def confine_reader(folders: Sequence[str], hidden: Sequence[str]) -> None:
    """Confine this process, for good, to reading files in `folders` and writing to what is open: for a program of our
    own that takes a pattern of a model.

    It opens no other file, changes none, starts no process and no program, opens no connection and sends no signal. Of
    root's capabilities it keeps the one to read files of other users. It needs version 1 of Landlock (Linux 5.13).

    Args:
        folders: without symbolic links in their paths.
        hidden: files and folders in them that it does not read.

    Raises:
        RefusedError: the system refused a part of the confinement.
    """
    _keep_capability(_READING_CAPABILITY)
    _check(_prctl(_PR_SET_NO_NEW_PRIVS, 1), "no_new_privs")
    files = [path for folder in folders for path in readable(hidden, folder)]
    _restrict_files([*((path, _READ_DIR) for path in folders), *((path, _READ_FILE | _READ_DIR) for path in files)])
    install(reader_program())


def _filter_file(network: bool) -> int:
    """Return a descriptor, open for bubblewrap, with a filter program. Processes are out of reach there anyway."""
    descriptor = os.memfd_create("afk-seccomp", 0)
    os.write(descriptor, seccomp_program(network=network, guarded=()))
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def bubblewrap(
    policy: Mapping[str, Any], argv: Sequence[str], *, temporary: str = "", seccomp: int | None = None
) -> list[str]:
    """Return the command line that runs `argv` in bubblewrap; `seccomp` is a descriptor with a filter program."""
    line = [policy["program"], "--unshare-pid", "--unshare-ipc", "--die-with-parent"]
    if os.getuid() != 0:
        line += ["--unshare-user"]
    else:
        line += ["--cap-drop", "ALL"]
        for name in _KEPT_CAPABILITIES.values():
            line += ["--cap-add", f"CAP_{name}"]
    if not policy["network"]:
        line += ["--unshare-net"]
    line += ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
    for folder in (*policy["writable"], *([temporary] if temporary else [])):
        line += ["--bind", folder, folder]
    for path in filter(os.path.lexists, policy["hidden"]):
        line += ["--tmpfs", path, "--remount-ro", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]  # noqa: PTH112
    if seccomp is not None:
        line += ["--seccomp", str(seccomp)]
    return [*line, "--chdir", os.getcwd(), "--", *argv]  # noqa: PTH109 - pathlib is slow to import


def _find(program: str) -> None:
    """Raise the OSError with which `program` could not be executed, if that can be told."""
    paths = [program] if "/" in program else [os.path.join(folder, program) for folder in os.get_exec_path()]  # noqa: PTH118
    denied = False
    for path in paths:
        if os.path.isfile(path) and os.access(path, os.X_OK):  # noqa: PTH113
            return
        denied = denied or os.path.exists(path)  # noqa: PTH110
    number = errno.EACCES if denied else errno.ENOENT
    raise OSError(number, os.strerror(number))


def landlock_version() -> int:
    """Return the version of Landlock that this kernel has; 0 without it."""
    if sys.platform != "linux":
        return 0
    return max(0, _syscall(_CREATE_RULESET, None, 0, _VERSION_ASKED))


def has_seccomp() -> bool:
    """Return whether this kernel takes a filter, and the numbers of its calls are known here."""
    if sys.platform != "linux" or os.uname().machine not in CALLS:
        return False
    _libc().prctl(_PR_SET_SECCOMP, _FILTER, 0, 0, 0)  # refused, with another reason if there are no filters
    return ctypes.get_errno() == errno.EFAULT


def _landlock(policy: Mapping[str, Any], temporary: str) -> None:
    _restrict_files(
        [
            ("/", _READ_DIR),
            *((path, _EXECUTE | _READ_FILE | _READ_DIR) for path in readable(policy["hidden"])),
            *((f"/dev/{name}", _READ_FILE | _READ_DIR | _WRITE_FILE | _IOCTL_DEV) for name in DEVICES),
            *((path, ~(_MAKE_CHAR | _MAKE_BLOCK)) for path in (*policy["writable"], temporary)),
        ]
    )


def _restrict_files(rules: Iterable[tuple[str, int]]) -> None:
    """Let this process use files only as `rules` say: paths, and the rights of Landlock on each and all below it."""
    version = landlock_version()
    every = max(rights for least, rights in _ALL_BY_VERSION.items() if least <= version)
    scopes = _SCOPES if version >= 6 else 0
    attributes = struct.pack("<QQQ", every, 0, scopes)
    size = max(size for least, size in _RULESET_BYTES.items() if least <= version)
    ruleset = _check(_syscall(_CREATE_RULESET, attributes, size, 0), "the rules of Landlock")
    try:
        for path, rights in rules:
            _allow(ruleset, path, rights & every)
        _check(_syscall(_RESTRICT_SELF, ruleset, 0), "Landlock")
    finally:
        os.close(ruleset)


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Allow `rights` on a file, or on a folder and all below it; a path that is not there needs no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        if rights:
            rule = struct.pack("<Qi", rights, descriptor)
            _check(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0), f"a rule of Landlock for {path}")
    finally:
        os.close(descriptor)


def readable(hidden: Sequence[str], top: str = "/") -> Iterator[str]:
    """Yield the files and folders that are the folder `top`, the whole file system by default, without `hidden`.

    A rule of Landlock allows a folder with everything below it, so a folder with something hidden in it is told by its
    entries. An entry that is made later in such a folder cannot be read.
    """
    above = {path[:end] or "/" for path in hidden for end in range(len(path)) if path[end] == "/"}
    folders = [top]
    while folders:
        folder = folders.pop()
        if folder in hidden:
            continue
        if folder not in above:
            yield folder
            continue
        try:
            entries = list(os.scandir(folder))
        except OSError:  # this user cannot read it anyway
            continue
        folders += [entry.path for entry in entries if not entry.is_symlink()]


def seccomp_program(*, network: bool, guarded: Sequence[int]) -> bytes:
    """Return a filter program (struct sock_filter) for this machine's architecture.

    It refuses the kernel's key rings, its tracing and io_uring, which is a second way to every call. Without `network`
    it also refuses sockets of all families but local ones, and the connections of those: Docker's socket, the session
    bus and the agent of ssh would do for the command what it may not do. Signals to `guarded` are refused.
    """
    machine = os.uname().machine
    numbers = {**CALLS[machine], **_SAME_EVERYWHERE}
    program = FilterProgram()
    program.start(AUDIT_ARCHITECTURES[machine], x32=machine == "x86_64")
    for name in ("add_key", "request_key", "keyctl", "bpf", "perf_event_open", "userfaultfd"):
        program.refuse(numbers[name], errno.EPERM)
    program.refuse(numbers["io_uring_setup"], errno.ENOSYS)
    if not network:
        program.refuse(numbers["connect"], errno.EACCES)
        program.refuse_unless(numbers["socket"], 0, _AF_UNIX, errno.EACCES)
        program.refuse_if(numbers["socket"], 1, _SOCK_DGRAM, errno.EACCES, mask=0xF)
    for pid in guarded:
        for name in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo", "pidfd_open", "prlimit64"):
            program.refuse_if(numbers[name], 0, pid, errno.EPERM)
        program.refuse_if(numbers["kill"], 0, -pid, errno.EPERM)
        program.refuse_if(numbers["fcntl"], 2, pid, errno.EPERM, also=(1, _F_SETOWN))
        program.refuse_if(numbers["fcntl"], 2, -pid, errno.EPERM, also=(1, _F_SETOWN))
    if guarded:
        program.refuse_if(numbers["kill"], 0, -1, errno.EPERM)
        program.refuse_if(numbers["fcntl"], 1, _F_SETOWN_EX, errno.EPERM)
    return program.whole()


def reader_program() -> bytes:
    """Return the filter program of `confine_reader`."""
    machine = os.uname().machine
    program = FilterProgram()
    program.start(AUDIT_ARCHITECTURES[machine], x32=machine == "x86_64")
    for part in f"{CALLS_NOT_OF_A_READER[machine]} {_NOT_OF_A_READER_EVERYWHERE}".split():
        first, _, last = part.partition("-")
        for number in range(int(first), int(last or first) + 1):
            program.refuse(number, errno.EPERM)
    for number, flags in _OPENING_CALLS[machine].items():  # what is opened for reading can be emptied by it
        program.refuse_if(number, flags, os.O_TRUNC, errno.EPERM, mask=os.O_TRUNC)
    program.refuse_unless(CALLS[machine]["prlimit64"], 0, 0, errno.EPERM)  # 0 is the calling process
    for command in (_F_SETOWN, _F_SETOWN_EX):  # which would have the kernel send signals to others
        program.refuse_if(CALLS[machine]["fcntl"], 1, command, errno.EPERM)
    return program.whole()


class FilterProgram:
    """A filter program in the making: blocks, each for one call, that refuse it or lead on to the next."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []

    def start(self, architecture: int, *, x32: bool) -> None:
        """Refuse calls of another architecture, whose numbers mean other calls."""
        self._code += [
            (_LOAD, 0, 0, _ARCHITECTURE),
            (_EQUAL, 1, 0, architecture),
            (_ANSWER, 0, 0, _REFUSE | errno.EPERM),
        ]
        if x32:
            self._code += [
                (_LOAD, 0, 0, _NUMBER),
                (_AT_LEAST, 0, 1, _X32),
                (_ANSWER, 0, 0, _REFUSE | errno.EPERM),
            ]

    def refuse(self, call: int, error: int) -> None:
        """Refuse a call."""
        self._code += [(_LOAD, 0, 0, _NUMBER), (_EQUAL, 0, 1, call), (_ANSWER, 0, 0, _REFUSE | error)]

    def refuse_unless(self, call: int, argument: int, value: int, error: int) -> None:
        """Refuse a call unless an argument has `value`."""
        self._code += [
            (_LOAD, 0, 0, _NUMBER),
            (_EQUAL, 0, 3, call),
            (_LOAD, 0, 0, _low(argument)),
            (_EQUAL, 1, 0, value & 0xFFFFFFFF),
            (_ANSWER, 0, 0, _REFUSE | error),
        ]

    def refuse_if(
        self,
        call: int,
        argument: int,
        value: int,
        error: int,
        *,
        mask: int | None = None,
        also: tuple[int, int] | None = None,
    ) -> None:
        """Refuse a call if an argument (its bits in `mask`) has `value`, and the argument of `also` its value."""
        tests = [(argument, value, mask), *([(*also, None)] if also else [])]
        block: list[tuple[int, int, int, int]] = []
        for place, wanted, bits in reversed(tests):
            rest = len(block) + 1
            block[:0] = [
                (_LOAD, 0, 0, _low(place)),
                *([(_AND, 0, 0, bits)] if bits is not None else []),
                (_EQUAL, 0, rest, wanted & 0xFFFFFFFF),
            ]
        self._code += [
            (_LOAD, 0, 0, _NUMBER),
            (_EQUAL, 0, len(block) + 1, call),
            *block,
            (_ANSWER, 0, 0, _REFUSE | error),
        ]

    def whole(self) -> bytes:
        """Return the program, which allows what no block has refused."""
        return b"".join(struct.pack("<HBBI", *item) for item in (*self._code, (_ANSWER, 0, 0, _ALLOW)))


def _low(argument: int) -> int:
    """Return the place of an argument's lower half in struct seccomp_data, on a little-endian machine."""
    return 16 + 8 * argument


def install(program: bytes) -> None:
    """Put a filter program on the calling process and all that it starts, for good.

    Raises:
        OSError: the system refused it; without root's rights it asks for no_new_privs.
    """
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    held = ctypes.create_string_buffer(head, len(head))
    _check(_prctl(_PR_SET_SECCOMP, _FILTER, ctypes.addressof(held)), "a seccomp filter")


def _drop_capabilities() -> None:
    if os.geteuid() == 0:
        for number in range(64):
            if number not in _KEPT_CAPABILITIES:
                _prctl(_PR_CAPBSET_DROP, number)  # beyond the last one the kernel says no


def _keep_capability(kept: int) -> None:
    """Give up all capabilities but one, as root, in all sets."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted and inheritable; once for the low 32 bits, once for the rest
    _check(_libc().capget(header, sets), "capabilities")
    for place in range(6):
        sets[place] &= 1 << kept if place < 2 else 0
    _check(_libc().capset(header, sets), "capabilities")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, *values: int) -> int:
    ctypes.set_errno(0)
    padded = (*values, 0, 0, 0, 0)[:4]
    return int(_libc().prctl(ctypes.c_int(option), *(ctypes.c_ulong(value) for value in padded)))


def _syscall(number: int, *values: bytes | int | None) -> int:
    ctypes.set_errno(0)
    given = (ctypes.c_long(value) if isinstance(value, int) else value for value in values)
    return int(_libc().syscall(ctypes.c_long(number), *given))


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise RefusedError(number, f"{os.strerror(number)} ({what})")
    return result
