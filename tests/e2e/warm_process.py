"""The warm process: has imported what `afk` imports, and forks a child for each command that it is sent.

Started by `tests.e2e.warm`, as `python -m tests.e2e.warm_process LISTENER`; stdin is a pipe that ends with the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

OURS = (
    "afkcli",
    "afk_provider_anthropic",
    "afk_provider_openai",
    "afk_sink_jsonl",
    "afk_store_disk",
    "afk_tools_files",
    "afk_tools_mcp",
    "afk_tools_shell",
)
LEFT_OUT = ("afkcli.testing", "afkcli.__main__")
THEIRS = (
    "anthropic.resources.messages",
    "anyio._backends._asyncio",
    "asyncio",
    "concurrent.futures.thread",
    "ctypes",
    "difflib",
    "encodings.idna",
    "genai_prices.data",
    "h11",
    "httpcore._async.http11",
    "httpcore2._async.http11",
    "httpcore2._backends.anyio",
    "importlib.metadata",
    "jsonschema",
    "markdown_it",
    "mcp.client.session",
    "openai.resources.chat.completions",
    "openai.resources.responses",
    "pydantic",
    "pygments.lexers",
    "sqlite3",
    "ssl",
    "traceback",
    "truststore",
    "uuid",
)
MAX_DESCRIPTORS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a child has to become.

    `targets` are the descriptor numbers that the child has open, `received` the numbers under which they were received.
    """

    arguments: list[str]
    environment: dict[str, str]
    folder: str
    umask: int
    new_session: bool
    process_group: int
    take_terminal: bool
    targets: list[int]
    received: list[int]


def import_all() -> None:
    """Import what `afk` may import; an import is left out where it is not installed."""
    for name in THEIRS:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    for package in OURS:
        for name in _modules_of(package):
            with contextlib.suppress(ImportError):
                importlib.import_module(name)
    with contextlib.suppress(ImportError):  # it is in an environment of its own, where it takes three seconds
        importlib.import_module("afk_provider_litellm.library").load()


def _modules_of(package: str) -> Iterator[str]:
    with contextlib.suppress(ImportError):
        module = importlib.import_module(package)
        yield package
        for found in pkgutil.walk_packages(module.__path__, f"{package}."):
            if not found.name.startswith(LEFT_OUT):
                yield found.name


def serve(listener: socket.socket) -> Order:
    """Fork a child for each order, and report its id, then its wait status; return in the child only."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the tests, whose end is the end of this process
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    callers: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([0, listener, woken], [], [])
        if 0 in ready:
            os._exit(0)
        if woken in ready:
            os.read(woken, 4096)
            _report_ended(callers)
        if listener in ready:
            caller, _ = listener.accept()
            order = receive(caller)
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            child = os.fork()
            if child == 0:
                signal.set_wakeup_fd(-1)
                return order
            signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())
            for descriptor in order.received:
                os.close(descriptor)
            callers[child] = caller
            with contextlib.suppress(OSError):
                caller.sendall(struct.pack("!i", child))


def _report_ended(callers: dict[int, socket.socket]) -> None:
    while callers:
        child, status = os.waitpid(-1, os.WNOHANG)
        if child == 0:
            return
        with callers.pop(child) as caller, contextlib.suppress(OSError):
            caller.sendall(struct.pack("!i", status))


def receive(caller: socket.socket) -> Order:
    """Receive an order: its length, with the descriptors; then JSON."""
    head, received, _, _ = socket.recv_fds(caller, 4, MAX_DESCRIPTORS)
    length = struct.unpack("!I", head)[0]
    data = b""
    while len(data) < length:
        data += caller.recv(length - len(data))
    values: dict[str, Any] = json.loads(data)
    return Order(received=list(received), **values)


def become(order: Order) -> None:
    """Make this child what a process is that was started with `order`: all but the state of its imports."""
    _take_descriptors(order.received, order.targets)
    if order.new_session:
        os.setsid()
    if order.process_group >= 0:
        os.setpgid(0, order.process_group)
    if order.take_terminal:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    os.chdir(order.folder)
    if order.umask >= 0:
        os.umask(order.umask)
    os.environ.clear()
    os.environ.update(order.environment)
    time.tzset()
    sys.argv[:] = order.arguments
    of_path = [entry for entry in order.environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:1] = [os.path.dirname(order.arguments[0]), *of_path]  # noqa: PTH120
    sys.stdin, sys.stdout, sys.stderr = (_standard_stream(number) for number in (0, 1, 2))
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, signal.valid_signals())


def _take_descriptors(received: list[int], targets: list[int]) -> None:
    above = max([*received, *targets]) + 1
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, above) for descriptor in received]
    for descriptor, target in zip(moved, targets, strict=True):
        os.dup2(descriptor, target, inheritable=True)
    kept = sorted({0, 1, 2, *targets})
    for low, high in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(low + 1, high)


def _standard_stream(number: int) -> io.TextIOWrapper:
    """Open a standard stream as the interpreter does at its start."""
    as_started = (sys.__stdin__, sys.__stdout__, sys.__stderr__)[number]
    assert as_started is not None
    raw = io.FileIO(number, "r" if number == 0 else "w", closefd=False)
    buffer = io.BufferedReader(raw) if number == 0 else io.BufferedWriter(raw)
    return io.TextIOWrapper(
        buffer,
        encoding=as_started.encoding,
        errors=as_started.errors,
        newline="\n",
        line_buffering=number == 2 or raw.isatty(),
    )


def main() -> None:
    """Serve, and in each child run the script that was ordered, or what the console script of `afk` runs."""
    if os.fork():
        os._exit(0)  # no child of the tests: some of them look for children that were left
    import_all()
    assert threading.active_count() == 1, "a process with threads cannot be forked safely"
    gc.freeze()
    order = serve(socket.socket(fileno=int(sys.argv[1])))
    if script := order.arguments[0] == sys.executable:
        del order.arguments[0]
    become(order)
    try:
        if script:
            runpy.run_path(order.arguments[0], run_name="__main__")
            _end(0)
        from afkcli.entry import main as run

        run()
    except SystemExit as ending:
        if ending.code is None or isinstance(ending.code, int):
            _end(ending.code or 0)
        raise


def _end(code: int) -> NoReturn:
    """End as the interpreter does, but keep the modules, which take longer to tidy up than most commands run."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
