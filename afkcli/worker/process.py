"""The process of the worker, from its start to its end."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from afkcli.config.reading import load_user_config
from afkcli.host.collecting import pause_collecting
from afkcli.host.invocation import Invocation
from afkcli.host.paths import config_file
from afkcli.host.threads import other_threads_end
from afkcli.worker import locks, place, room
from afkcli.worker.child import StandBy
from afkcli.worker.failures import Attempt
from afkcli.worker.identity import Identity, imported_paths, recorded, stamp
from afkcli.worker.importing import observed
from afkcli.worker.keeping import keep_discovery, keep_tls, plugin_packages, time_zone_files
from afkcli.worker.leftovers import remove_leftovers
from afkcli.worker.rehearsal import Rehearsal
from afkcli.worker.serving import Serving
from afkcli.worker.state import State, held_modules, write_state

if TYPE_CHECKING:
    from afkcli.host.ending import Ending

IDLE_MINUTES = 10
"""After so many minutes without a command, a worker ends; `idle_minutes` of the config counts before it."""
REHEARSALS = 10
START_SECONDS = 300.0
"""After so long a worker that is not ready ends by SIGALRM; it takes about a second of CPU."""
_MAX_ORDER = 1 << 22
_BACKLOG = 256
_THREAD_SECONDS = 5.0


def main(command: Callable[[Callable[[], Invocation]], Ending]) -> NoReturn:
    """Be a worker: stdin is a file with the order of `afkcli.worker.starting`.

    Args:
        command: runs the command line of an invocation, and returns how it ended.
    """
    code = 0
    try:
        _main(command)
    except BaseException:
        code = 1
        if os.environ.get("AFK_WORKER_LOG"):
            import traceback

            with open(os.environ["AFK_WORKER_LOG"], "a") as file:  # noqa: PTH123
                traceback.print_exc(file=file)
    finally:
        os._exit(code)


def _main(command: Callable[[Callable[[], Invocation]], Ending]) -> None:
    os.chdir("/")
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.umask(0o077)
    order = _order()
    config = load_user_config(config_file())
    wanted = config.table.get("worker", {})
    if not wanted.get("enabled", True):
        return
    lock = _locked(order["socket"])
    if lock is None:
        return
    places = [sys.prefix, __file__, *_homes()]
    attempt = Attempt(order["socket"], order.get("conditions", ""), places)
    signal.setitimer(signal.ITIMER_REAL, START_SECONDS)  # what hangs would keep the place for ever
    try:
        listener, identity, rehearsal = _prepared(command, order)
    except BaseException as error:
        attempt.fail(f"{type(error).__name__}: {error}")
        raise
    signal.setitimer(signal.ITIMER_REAL, 0)
    attempt.succeed()
    began, holds = time.time(), held_modules(order["modules"])
    write_state(lock, State(began=began, served=0, reason="", holds=holds))

    def rehearse() -> None:
        rehearsal.run(1)
        identity.look_ahead()

    def obstacle(running: int) -> str:
        if not room.is_ample(running):
            return room.FULL
        changed = identity.renew()
        return f"{changed} has changed" if changed is not None else ""

    child = StandBy(listener, identity, command, rehearse)
    address = order["socket"]
    here = _numbers(address)

    def leave(failure: str) -> None:
        if failure:
            attempt.fail(failure)  # before the place is free: the next run looks there, while a command still runs here
        with contextlib.suppress(OSError):
            if _numbers(address) == here:
                os.unlink(address)  # noqa: PTH108
        os.close(lock)

    Serving(
        listener,
        child.run,
        is_wanted=lambda: _numbers(address) == here and all(map(os.path.exists, places)),
        obstacle=obstacle,
        idle_s=60.0 * float(wanted.get("idle_minutes", IDLE_MINUTES)),
        leave=leave,
        note=lambda served, reason: write_state(lock, State(began=began, served=served, reason=reason, holds=holds)),
    ).run()


def _order() -> dict[str, Any]:
    """Read the order on stdin, which is the null device then."""
    data = b""
    while piece := os.read(0, 1 << 16):
        data += piece
        if len(data) > _MAX_ORDER:
            raise ValueError("the order is too long")
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)
    order: dict[str, Any] = json.loads(data)
    return order


def _locked(address: str) -> int | None:
    """Take the place of the worker; None if there is one, or too many of other installations."""
    folder = os.path.dirname(address)  # noqa: PTH120
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o700)  # noqa: PTH102
        os.chmod(folder, 0o700)  # noqa: PTH101 - without the setgid bit of the folder above, which no client accepts
    if not place.is_own(folder):
        return None
    lock = locks.take_lock(address, create=True)
    if lock is None:
        return None
    if len(place.held(folder)) > place.MAX_WORKERS:
        os.close(lock)
        return None
    os.ftruncate(lock, 0)  # what it says is of a worker that was killed
    return lock


def _prepared(
    command: Callable[[Callable[[], Invocation]], Ending], order: dict[str, Any]
) -> tuple[socket.socket, Identity, Rehearsal]:
    """Import what the run had imported, rehearse, and open the socket."""
    pause_collecting()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.path[:] = order["path"]
    before = {path: stamp(path) for path in order["files"]}
    read: set[str] = set()
    initial = place.given_environment(os.environ)
    end_noting = recorded(read, _is_importing)
    folder = os.path.dirname(order["socket"])  # noqa: PTH120
    remove_leftovers(folder)
    rehearsal = Rehearsal(command, order["modules"], folder)
    with observed(plugin_packages()) as seen:
        rehearsal.load()
        rehearsal.run(1)  # before the other modules: a plugin may have something to set before it imports its SDK
        for name in order["modules"]:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    if seen.doubt:
        raise RuntimeError(seen.doubt)
    found = keep_discovery()
    authorities = keep_tls(order["modules"])
    rehearsal.run(REHEARSALS)
    end_noting()
    if not other_threads_end(_THREAD_SECONDS):
        raise RuntimeError("a thread does not end")  # a library has started it
    paths = [*imported_paths(), *seen.paths, *found, *authorities, *time_zone_files(initial), os.fspath(config_file())]
    identity = Identity(paths, read, initial, order["program_folder"])
    if changed := identity.changed_since(before):
        raise RuntimeError(f"{changed} has changed meanwhile")
    gc.collect()
    gc.freeze()
    return _listener(order["socket"]), identity, rehearsal


def _is_importing() -> bool:
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def _listener(address: str) -> socket.socket:
    """Open the socket in one step: whoever finds it finds a worker that listens."""
    new = f"{address}.{os.getpid()}"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(new)
        os.chmod(new, 0o600)  # noqa: PTH101
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        os.rename(new, address)  # noqa: PTH104
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(new)  # noqa: PTH108
        raise
    return listener


def _homes() -> list[str]:
    """Return the homes that are there; once one is removed, there will be no other command for this worker."""
    return [path for path in map(os.environ.get, ("HOME", "AFK_HOME")) if path and os.path.isdir(path)]  # noqa: PTH112


def _numbers(path: str) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
