"""The form of the hand-over between a client and the worker.

A client connects to the worker's socket and sends one frame: `MAGIC`, the length of the payload as u32, the payload.
All numbers are little-endian. The payload:

    u32 version, u32 pid of the client, u32 flags, u32 umask, u64 mask of ignored signals, u64 mask of blocked signals,
    u32 count, then so many texts that end with a NUL: what was executed, and the arguments,
    u32 count, then so many texts that end with a NUL: the environment, as `NAME=value`.

What the child of the worker answers: `COLD`, or `WARM` and its pid as u32. A client that still waits sends `GO`, and
with it the descriptors (SCM_RIGHTS): those of 0, 1 and 2 that are open, then one of the working folder. They come so
late because what is sent to a process that does not read cannot be taken back: a pipe would not end. Then comes
`BEGUN`, or `COLD` again: until `BEGUN` nothing was read, written or started. After it, the client sends `SIGNAL` and a
number (u8) for each signal that it gets. What comes then is of the child, or of the worker once the child cannot say
it: `STOPPING` (it stops as by Ctrl-Z, and its client has to), `SUSPENDED` (it was stopped by SIGSTOP), and at the end
`EXITED` and the exit code (u8), or `KILLED` and the number of the signal (u8).
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAGIC = b"AFKWARM1"
VERSION = 1
MAX_PAYLOAD = 4 << 20
"""In bytes: twice what Linux allows for arguments and environment by default (execve(2))."""

WARM, COLD, GO, BEGUN, SIGNAL = b"W", b"C", b"G", b"B", b"S"
STOPPING, SUSPENDED, EXITED, KILLED = b"T", b"U", b"X", b"K"

HAS_FOLDER = 1 << 4
"""Flag: a descriptor of the working folder comes last. The flags 1, 2 and 4 say that 0, 1 and 2 are open."""
HAS_OTHERS = 1 << 5
"""Flag: the client has descriptors above 2 open, which are not sent."""

ANSWER_SECONDS = 1.0
"""How long a client waits in all until it has an answer; then it runs cold."""

FORWARDED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGCONT", "SIGTSTP")
"""The signals that a client passes on."""

_HEAD = 32


class Order:
    """What a client was started with.

    Args:
        pid: of the client.
        flags: see `HAS_FOLDER` and `HAS_OTHERS`.
        umask: the file mode creation mask.
        ignored, blocked: masks of signals; bit n - 1 is signal n.
        arguments: what was executed, and the arguments.
        environment: the environment variables.
    """

    __slots__ = ("arguments", "blocked", "environment", "flags", "ignored", "pid", "umask")

    def __init__(
        self,
        *,
        pid: int,
        flags: int,
        umask: int,
        ignored: int,
        blocked: int,
        arguments: Sequence[bytes],
        environment: Mapping[bytes, bytes],
    ) -> None:
        self.pid = pid
        self.flags = flags
        self.umask = umask
        self.ignored = ignored
        self.blocked = blocked
        self.arguments = tuple(arguments)
        self.environment = environment

    def has(self, descriptor: int) -> bool:
        """Return whether 0, 1 or 2 is open."""
        return bool(self.flags & 1 << descriptor)


def frame(order: Order) -> bytes:
    """Return what a client sends.

    Raises:
        ValueError: it is longer than `MAX_PAYLOAD`.
    """
    texts = [b"%s=%s" % item for item in order.environment.items()]
    numbers = (VERSION, order.pid, order.flags, order.umask)
    payload = b"".join(
        [
            *(_u32(number) for number in numbers),
            order.ignored.to_bytes(8, "little"),
            order.blocked.to_bytes(8, "little"),
            *(_u32(len(group)) + b"".join(text + b"\0" for text in group) for group in (order.arguments, texts)),
        ]
    )
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(payload)} bytes")
    return MAGIC + _u32(len(payload)) + payload


def order_of(payload: bytes) -> Order:
    """Return the order that a payload has.

    Raises:
        ValueError: it is not one, or of another version.
    """
    if len(payload) < _HEAD or _number(payload, 0) != VERSION:
        raise ValueError("the payload is of another version")
    arguments, at = _texts(payload, _HEAD)
    variables, at = _texts(payload, at)
    if at != len(payload) or not arguments:
        raise ValueError("the payload has another length")
    pairs = [text.partition(b"=") for text in variables]
    return Order(
        pid=_number(payload, 4),
        flags=_number(payload, 8),
        umask=_number(payload, 12),
        ignored=int.from_bytes(payload[16:24], "little"),
        blocked=int.from_bytes(payload[24:32], "little"),
        arguments=arguments,
        environment={name: value for name, equals, value in reversed(pairs) if name and equals},  # the first counts
    )


def _texts(payload: bytes, at: int) -> tuple[list[bytes], int]:
    """Return the texts of a group that begins at a place, and where it ends."""
    count = _number(payload, at)
    at += 4
    texts = payload[at:].split(b"\0", count)
    if len(texts) != count + 1:
        raise ValueError("the payload ends too early")
    rest = texts.pop()
    return texts, len(payload) - len(rest)


def _number(payload: bytes, at: int) -> int:
    if at + 4 > len(payload):
        raise ValueError("the payload ends too early")
    return int.from_bytes(payload[at : at + 4], "little")


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")
