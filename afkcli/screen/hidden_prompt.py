"""Reads a line from the terminal without showing it.

The terminal is read key by key, because a line of the terminal itself has at most 4095 characters (termios(3)).
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from afkcli.core.contract.errors import UsageError

_PASTED_SECONDS = 0.2
"""How long more of what was pasted may take to arrive after the end of its first line."""

_ERASE = (0x08, 0x7F)
_ERASE_LINE = 0x15  # Ctrl-U
_ENDS = (0x0A, 0x0D)
_END_OF_INPUT = 0x04
_CHUNK = 4096


def read_hidden(terminal: str, prompt: str, limit: int) -> str:
    """Return the line that a person types or pastes, without its end.

    Args:
        terminal: the path of the terminal.
        prompt: what is asked; it is safe for a terminal.
        limit: how many characters the line may have.

    Raises:
        UsageError: there is no terminal, more than one line was pasted, the line is too long, or it is not text.
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    try:
        descriptor = os.open(terminal, os.O_RDWR | os.O_NOCTTY)
    except OSError as error:
        raise UsageError(f"the terminal cannot be opened: {error.strerror}; pipe the key in") from None
    try:
        with _no_echo(descriptor):
            os.write(descriptor, prompt.encode())
            line = _line(descriptor, limit)
    finally:
        os.write(descriptor, b"\n")
        os.close(descriptor)
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError("what was typed is not UTF-8 text; check the terminal's encoding") from None


def _line(descriptor: int, limit: int) -> bytes:
    line = bytearray()
    while True:
        piece = os.read(descriptor, _CHUNK)
        if not piece:
            return bytes(line)
        for position, byte in enumerate(piece):
            if byte in _ENDS or byte == _END_OF_INPUT:
                _refuse_more(descriptor, piece[position + 1 :])
                return bytes(line)
            if byte in _ERASE:
                del line[-1:]
            elif byte == _ERASE_LINE:
                line.clear()
            else:
                line.append(byte)
        if len(line) > 4 * limit:
            raise UsageError(f"the typed key is longer than {limit} characters; nothing was kept")


def _refuse_more(descriptor: int, rest: bytes) -> None:
    """Refuse a second line. It is read here, so that the shell does not run it and keep it in its history."""
    while select.select([descriptor], [], [], _PASTED_SECONDS)[0]:
        piece = os.read(descriptor, _CHUNK)
        if not piece:
            break
        rest += piece
    if rest.strip():
        raise UsageError("more than one line was pasted, and a key is one line; nothing was kept")


@contextmanager
def _no_echo(descriptor: int) -> Iterator[None]:
    """Have the terminal show nothing and pass each key on, until the end of the block or of the process by a signal."""
    import termios

    before = termios.tcgetattr(descriptor)
    hidden: list[Any] = [*before[:6], list(before[6])]
    hidden[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON)
    hidden[6][termios.VSUSP] = b"\0"  # a suspended prompt would leave the shell without echo
    hidden[6][termios.VMIN], hidden[6][termios.VTIME] = 1, 0
    with _restored_on_signals(lambda: termios.tcsetattr(descriptor, termios.TCSANOW, before)):
        termios.tcsetattr(descriptor, termios.TCSADRAIN, hidden)
        try:
            yield
        finally:
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _restored_on_signals(restore: Callable[[], None]) -> Iterator[None]:
    numbers = [signal.SIGTERM, signal.SIGHUP]

    def end(number: int, frame: FrameType | None) -> None:
        from afkcli.host.signals import die_of

        restore()
        die_of(number)

    earlier = {number: signal.signal(number, end) for number in numbers if signal.getsignal(number) == signal.SIG_DFL}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
