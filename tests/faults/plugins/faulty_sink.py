"""A sink that misbehaves as `AFK_TEST_SINK` says: it raises, blocks, or writes to a pipe without a reader."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable

from afkcli.core.contract.events import Event, event_to_json
from afkcli.hookspecs import Sink, hookimpl

AFK_HOOKS = 1


class FaultySink:
    name = "faulty_sink"

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write

    def emit(self, event: Event) -> None:
        self._write(event_to_json(event).encode() + b"\n")

    def close(self) -> None:
        """Close nothing; a write that blocks cannot be ended."""


def raises(data: bytes) -> None:
    raise RuntimeError("the sink is broken")


def blocks(data: bytes) -> None:
    time.sleep(3600)


def full_pipe() -> Callable[[bytes], object]:
    """Return the write of a pipe that is never read: it blocks after 64 KB."""
    _, end = os.pipe()
    return lambda data: os.write(end, data * 500)


def dead_socket() -> Callable[[bytes], object]:
    """Return the write of a connection whose other end went away."""
    here, there = socket.socketpair()
    there.close()
    return here.sendall


def fifo() -> Callable[[bytes], object]:
    """Return a write that opens a FIFO which has no reader, and so waits for one."""

    def write(data: bytes) -> None:
        with open(os.environ["AFK_TEST_FIFO"], "wb") as file:  # noqa: PTH123
            file.write(data)

    return write


@hookimpl
def afk_sink(settings: object) -> Sink:
    kind = os.environ["AFK_TEST_SINK"]
    simple: dict[str, Callable[[bytes], object]] = {"raises": raises, "blocks": blocks}
    made = {"full pipe": full_pipe, "dead socket": dead_socket, "FIFO without reader": fifo}
    return FaultySink(simple[kind] if kind in simple else made[kind]())
