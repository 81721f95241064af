"""The message of a run: from the arguments, from stdin, or from both."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Sequence

from afkcli.core.contract.errors import UsageError
from afkcli.core.contract.text import decoded
from afkcli.host.invocation import Stream

MAX_STDIN_BYTES = 8 * 1024 * 1024
"""More text than the largest common context (about two million tokens) takes."""
SILENCE_SECONDS = 3.0
_CHUNK = 1 << 16


def joined(words: str, piped: str) -> str:
    """Return what was typed, a blank line, then what is piped in."""
    return "\n\n".join(part for part in (words, piped) if part.strip())


def message_with_stdin(
    words: Sequence[str],
    stdin: Stream,
    *,
    read_stdin: bool,
    notify: Callable[[str], None],
    place: Callable[[str, str], str] = joined,
) -> str:
    """Return the message, made of the words and of stdin if that is a pipe or a file.

    Args:
        words: the arguments; `-` alone means stdin.
        stdin: the standard input.
        read_stdin: whether stdin may be read.
        notify: called with a line if stdin sends nothing for 3 s.
        place: makes the message of the words and the text of stdin.

    Raises:
        UsageError: there is no message, or stdin is too long or not text.
    """
    dash = list(words) == ["-"]
    message = "" if dash else " ".join(words)
    if dash and not read_stdin:
        raise UsageError(
            "`-` reads the message from stdin, which must not be read here; give the message as an argument"
        )
    piped = ""
    if read_stdin and (dash or is_piped(stdin)):
        piped = _text(read_all(stdin, MAX_STDIN_BYTES, notify))
    text = place(message, piped)
    if not text:
        raise UsageError('no message was given; use afk run "MESSAGE", or pipe a message in')
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError("the message is not UTF-8 text; check the terminal's encoding") from None
    return text


def is_piped(stdin: Stream) -> bool:
    """Return whether stdin is a pipe, a socket or a file (not a terminal, not /dev/null, not closed)."""
    try:
        mode = os.fstat(stdin.descriptor).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def read_all(stdin: Stream, limit: int, notify: Callable[[str], None]) -> bytes:
    """Return all of stdin, at most `limit` bytes; `notify` is called with a line if nothing comes for 3 s.

    Raises:
        UsageError: it is longer, or cannot be read.
    """
    line = "waiting for stdin, which is open but sends nothing; end it with Ctrl-D, or use --no-stdin to ignore it"
    timer = threading.Timer(SILENCE_SECONDS, notify, [line])
    timer.daemon = True
    timer.start()
    data = bytearray()
    try:
        while chunk := os.read(stdin.descriptor, _CHUNK):
            timer.cancel()
            data += chunk
            if len(data) > limit:
                raise UsageError(f"stdin is longer than {limit >> 20} MB, more than any model takes; shorten it")
    except OSError as error:
        raise UsageError(f"stdin cannot be read: {error.strerror}") from None
    finally:
        timer.cancel()
    return bytes(data)


def _text(data: bytes) -> str:
    try:
        text = decoded(data)
    except UnicodeDecodeError as error:
        raise UsageError(f"stdin is not UTF-8 text (byte {error.start}); attach other files with --attach -") from None
    if "\0" in text:
        raise UsageError("stdin contains NUL bytes, so it is not text; attach other files with --attach -")
    return text.rstrip("\r\n")
