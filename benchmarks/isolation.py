"""Takes the network away from the programs that are measured, so that none is measured while it calls its maker."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_CLOSED_PORT = 9
"""The port `discard`, on which nothing listens."""


class NoNamespaceError(OSError):
    """A network namespace cannot be made here; the message says why."""


def leave_network() -> tuple[str, dict[str, str]]:
    """Move this process, and all that it starts later, to a place without a network.

    That is a network namespace that has the loopback interface alone. Where none can be made, the programs are given
    variables that send them through a proxy that does not exist; a program may ignore them.

    Returns:
        A sentence that says which it is, and the variables that the programs need.
    """
    try:
        _try_in_child()
        enter_namespace()
    except NoNamespaceError as error:
        proxy = f"http://127.0.0.1:{_CLOSED_PORT}"
        variables = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), proxy)
        variables["NO_PROXY"] = "127.0.0.1,localhost"
        variables |= {name.lower(): value for name, value in variables.items()}
        return f"the network is there, behind a proxy that does not exist ({error})", variables
    return "no network: a network namespace with the loopback interface alone", {}


def enter_namespace() -> None:
    """Move this thread, and what it starts later, into a new network namespace, and set its loopback interface up.

    Raises:
        NoNamespaceError: the system is not Linux, or does not allow it.
    """
    if sys.platform != "linux":
        raise NoNamespaceError("network namespaces are Linux's")
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNET) != 0:
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            raise NoNamespaceError(f"unshare: {os.strerror(ctypes.get_errno())}")
        _keep_ids(user, group)
    try:
        _set_loopback_up()
    except OSError as error:
        raise NoNamespaceError(f"the loopback interface: {error.strerror}") from None


def _try_in_child() -> None:
    """Try in a process that is thrown away: after half of it there would be no way back."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            enter_namespace()
        except Exception as error:  # whatever it is, it is the reason
            os.write(write, str(error).encode()[:1000] or b"?")
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        reason = pipe.read()
    os.waitpid(pid, 0)
    if reason:
        raise NoNamespaceError(reason.decode())


def _keep_ids(user: int, group: int) -> None:
    """Be the same user and group in the new user namespace as outside."""
    process = Path("/proc/self")
    try:
        (process / "setgroups").write_text("deny")
        (process / "uid_map").write_text(f"{user} {user} 1")
        (process / "gid_map").write_text(f"{group} {group} 1")
    except OSError as error:
        raise NoNamespaceError(f"the user namespace: {error.strerror}") from None


def _set_loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as some:
        answer = fcntl.ioctl(some, _SIOCGIFFLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", answer)[1]
        fcntl.ioctl(some, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", flags | _IFF_UP))
