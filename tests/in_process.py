"""Runs the command line in the process of the test: the same call that `afk` makes, with other streams.

It is for tests about arguments, words and exit codes. What is about signals, pipes, descriptors or the start needs a
real process: `Shell.afk`.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from afkcli.cli import run
from afkcli.host.ending import Ending
from afkcli.host.invocation import Invocation, Stream
from afkcli.host.secrets import Secrets


def run_in_process(
    arguments: Sequence[str], *, folder: Path, environment: Mapping[str, str], stdin: bytes | None
) -> tuple[int, bytes, bytes]:
    """Run a command line; return its exit code (negative for a signal, as `subprocess` does), stdout and stderr.

    Args:
        arguments: without the name of the program.
        folder: the working directory.
        environment: all of the environment.
        stdin: what it reads; None for /dev/null.
    """
    ending, out, err = call_in_process(run, arguments, folder=folder, environment=environment, stdin=stdin)
    return -ending.signal if ending.signal is not None else ending.code, out, err


def call_in_process(
    call: Callable[[Invocation], Ending],
    arguments: Sequence[str] = (),
    *,
    folder: Path,
    environment: Mapping[str, str],
    stdin: bytes | None = None,
    stop_signals: Sequence[int] = (),
) -> tuple[Ending, bytes, bytes]:
    """Call a function that takes an invocation; return how it ended, and what it wrote to stdout and stderr."""
    assert "PYTHONPATH" not in environment, "a path for modules needs a process of its own: use `afk`"
    with ExitStack() as stack:
        given, out, err = (stack.enter_context(tempfile.TemporaryFile()) for _ in range(3))
        if stdin is None:
            given = stack.enter_context(Path(os.devnull).open("r+b"))
        else:
            given.write(stdin)
            given.seek(0)
        streams = [Stream(file.fileno(), _text(file, mode)) for file, mode in ((given, "r"), (out, "w"), (err, "w"))]
        invocation = Invocation(
            arguments=arguments,
            environment=environment,
            folder=str(folder),
            stdin=streams[0],
            stdout=streams[1],
            stderr=streams[2],
            terminal=None,
            stop_signals=stop_signals,
            secrets=Secrets(),
        )
        with _as_process(invocation):
            ending = call(invocation)
        for stream in streams[1:]:
            stream.flush()
        return ending, _read(out), _read(err)


@contextmanager
def _as_process(invocation: Invocation) -> Iterator[None]:
    """Give SDKs and plugins, which read the process itself, what `invocation` says; put all of it back afterwards."""
    environment, streams, here = dict(os.environ), (sys.stdin, sys.stdout, sys.stderr), Path.cwd()
    collects = gc.isenabled()
    _set_environment(invocation.environment)
    os.chdir(invocation.folder or here)
    sys.stdin, sys.stdout, sys.stderr = (
        stream.text for stream in (invocation.stdin, invocation.stdout, invocation.stderr)
    )
    try:
        yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        os.chdir(here)
        _set_environment(environment)
        if collects:
            gc.unfreeze()
            gc.enable()


def _set_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _text(file: IO[bytes], mode: str) -> IO[str]:
    return open(file.fileno(), mode, encoding="utf-8", closefd=False)


def _read(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()
