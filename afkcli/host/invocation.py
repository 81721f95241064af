"""What a process was started with: made once at the start and handed down.

No other module of afk reads the environment, the standard streams, the working directory or a list of secrets from
Python, so that a command can be run in process, with another environment and other streams. SDKs and plugins read the
process's own, which is the same wherever afk runs as a process.

Nothing is imported here that `afk --version` does not need.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from afkcli.host.descriptors import LinesForPeople, has_foreground, unblocked_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from typing import IO, TextIO

    from afkcli.host.secrets import Secrets
    from afkcli.host.transient import TransientLine

TERMINAL = "/dev/tty"
"""The controlling terminal of a process (termios(4), tty(4))."""
_STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
_COLUMNS, _LINES = 80, 24


class Stream:
    """A standard stream.

    Args:
        descriptor: the number of the file descriptor.
        text: Python's text stream on it; None where the descriptor was closed when the process started.

    Since: 0.2.
    """

    __slots__ = ("descriptor", "text")

    def __init__(self, descriptor: int, text: TextIO | None) -> None:
        self.descriptor = descriptor
        self.text = text

    @property
    def is_open(self) -> bool:
        return self.text is not None

    @property
    def left_out(self) -> int:
        """How many lines were left out so far, because nothing read them; only text for people is ever left out."""
        lines = getattr(self.text, "buffer", None)
        return lines.left_out if isinstance(lines, LinesForPeople) else 0

    @property
    def unread(self) -> int:
        """How many lines were left out so far, or wait for something to read them; only text for people ever is."""
        lines = getattr(self.text, "buffer", None)
        return lines.unread if isinstance(lines, LinesForPeople) else 0

    @property
    def is_terminal(self) -> bool:
        try:
            return self.text is not None and self.text.isatty()
        except ValueError:  # it was closed since
            return False

    def binary(self) -> IO[bytes]:
        """Return a buffered reader of the descriptor, which closing it leaves open."""
        return open(self.descriptor, "rb", closefd=False)

    def flush(self) -> None:
        """Write what Python has buffered.

        Raises:
            OSError: it cannot be written; `BrokenPipeError` if it has no reader any more.
        """
        if self.text is not None:
            self.text.flush()


class Invocation:
    """What a process was started with.

    Args:
        arguments: the command line without the name of the program.
        environment: the environment variables; not changed by afk.
        folder: the working directory as an absolute path; None where it was deleted.
        stdin, stdout, stderr: the standard streams.
        terminal: the path of the controlling terminal, whether or not there is one; None where there can be none.
        stop_signals: the signals that stop a run: those of SIGINT, SIGTERM and SIGHUP that are not ignored (nohup(1)).
        secrets: the secrets that are known; what is loaded later is added.
        owns_process: whether this process is afk's own, and not one of a program that uses afk as a library.

    `transient` is the line of the terminal that is drawn for a moment, None while there is none.

    Since: 0.2.
    """

    def __init__(
        self,
        *,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str],
        folder: str | None,
        stdin: Stream,
        stdout: Stream,
        stderr: Stream,
        terminal: str | None = None,
        stop_signals: Sequence[int] = (),
        secrets: Secrets | None = None,
        owns_process: bool = False,
    ) -> None:
        self.arguments = tuple(arguments)
        self.environment = environment
        self.folder = folder
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.terminal = terminal
        self.stop_signals = tuple(stop_signals)
        self.owns_process = owns_process
        self._secrets = secrets
        self._umask: int | None = None
        self._answers: int | None = None
        self.transient: TransientLine | None = None
        self.foreground_of: Callable[[int], bool] = has_foreground
        """Returns whether the process is in the foreground of the terminal of a descriptor; `OSError` if that is not
        the controlling terminal. Since: 0.2.
        """
        self.passed_on: Mapping[int, int] = {}
        """How often each signal was passed on to this process by one that may have got it together with this one.

        Since: 0.2.
        """

    @classmethod
    def of_process(cls, *, owns_process: bool = False) -> Invocation:
        """Return what this process was started with; `owns_process` as above."""
        try:
            folder = os.getcwd()  # noqa: PTH109 - pathlib is slow to import
        except OSError:  # it was deleted
            folder = None
        numbers = [getattr(signal, name) for name in _STOP_SIGNALS if hasattr(signal, name)]
        return cls(
            arguments=sys.argv[1:],
            environment=os.environ,
            folder=folder,
            stdin=Stream(0, sys.stdin),
            stdout=Stream(1, sys.stdout),
            stderr=Stream(2, sys.stderr),
            terminal=TERMINAL if os.name != "nt" else None,
            stop_signals=[number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN],
            owns_process=owns_process,
        )

    @property
    def secrets(self) -> Secrets:
        """The secrets that must not be shown."""
        if self._secrets is None:
            from afkcli.host.secrets import SECRETS

            self._secrets = SECRETS
        return self._secrets

    @property
    def umask(self) -> int:
        """The file mode creation mask. Asking for it sets it for a moment, to the strictest."""
        if self._umask is None:
            self._umask = os.umask(0o077)
            os.umask(self._umask)
        return self._umask

    def columns(self) -> int:
        """Return the width of stdout's terminal as it is now: by COLUMNS, else asked of the terminal, else 80."""
        given = self.environment.get("COLUMNS", "")
        if given.isdecimal() and int(given):
            return int(given)
        try:
            return os.get_terminal_size(self.stdout.descriptor).columns or _COLUMNS
        except OSError:
            return _COLUMNS

    def lines(self) -> int:
        """Return the height of stdout's terminal as it is now: by LINES, else asked of the terminal, else 24."""
        given = self.environment.get("LINES", "")
        if given.isdecimal() and int(given):
            return int(given)
        try:
            return os.get_terminal_size(self.stdout.descriptor).lines or _LINES
        except OSError:
            return _LINES

    def answer_descriptor(self) -> int:
        """Return a descriptor of stdout to which only afk writes.

        From the first call on, descriptor 1 is stderr: what plugins, tools and the programs that they start write to
        it is not mixed into the answer, and closing it does no harm.
        """
        if self._answers is None:
            self._answers = self.stdout.descriptor
            if self.stdout.descriptor == 1:
                self._answers = os.dup(1)
                os.dup2(self.stderr.descriptor, 1)
        return self._answers

    def without_transient(self) -> AbstractContextManager[None]:
        """Return a context in which no line is drawn for a moment: a person is asked something there. Since: 0.2."""
        import contextlib

        return self.transient.hidden() if self.transient is not None else contextlib.nullcontext()

    def erase_transient(self) -> None:
        """Erase the line of the terminal that is drawn for a moment, if there is one. Since: 0.2."""
        if self.transient is not None:
            self.transient.erase()

    def same_output(self) -> bool:
        """Return whether stdout and stderr are one file, so that a reader who stops reading one stops reading both."""
        try:
            stdout, stderr = os.fstat(self._answers or self.stdout.descriptor), os.fstat(self.stderr.descriptor)
        except OSError:
            return False
        return (stdout.st_dev, stdout.st_ino) == (stderr.st_dev, stderr.st_ino)


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process, for functions that plugins call without an invocation."""
    return os.environ


def unblock_stderr() -> Callable[[float], None]:
    """Have what this process writes to `sys.stderr` never wait for a reader; see `LinesForPeople`.

    Returns:
        A function that waits until all of it is written, as long as something is written in each of so many seconds.
    """
    text = unblocked_text(sys.stderr, 2, "stderr")
    if text is None:
        return lambda seconds: None
    sys.stderr = text
    lines = text.buffer
    assert isinstance(lines, LinesForPeople)
    return lines.wait


def open_standard_descriptors() -> None:
    """Open the null device on standard descriptors that are closed, so that no file of ours becomes one of them."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def drop_unwritten(stream: Stream) -> None:
    """Write what Python has buffered; what cannot be written goes to the null device.

    Otherwise Python would try it again when it ends, and replace the exit code by its own (120).
    """
    try:
        stream.flush()
    except (OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.descriptor)
        os.close(null)


class _StdoutAside:
    """Makes `sys.stdout` stderr while at least one caller is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._stdout = sys.stdout

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._stdout, sys.stdout = sys.stdout, sys.stderr
            self._inside += 1

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                sys.stdout = self._stdout


STDOUT_ASIDE = _StdoutAside()
"""While it is entered, what Python code prints goes to stderr. It is one for the process, as `sys.stdout` is."""
