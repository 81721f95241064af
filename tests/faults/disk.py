"""A disk that is full, read-only or forbidden in the middle of a turn: the answer is shown, and kept somewhere."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults.ledger import result_of, settle, shown_text
from tests.faults.server import numbered
from tests.faults.table import Row
from tests.faults.world import Running, World, new_world

_STREAM = numbered(40, 0.02)
_MOUNT_KB = 1024
_SPARE_KB = 48  # what is left on the small disk in a part of the tries, so that it fills while a turn is written


def full(seed: str, tries: int) -> Row:
    """Fill a small file system in the middle of a turn, use it while it is full, free it again."""
    row = Row(case="disk full in the middle (tmpfs)")
    with new_world(seed, _STREAM) as world, _mounted(world, row) as small:
        if small is None:
            return row
        for number in range(tries):
            row.tries += 1
            _keep_threads_in(world, small / "data" if number % 2 == 0 else None, home=small / "home")
            chance = world.chance("full", number)
            world.run(f"t{number}", f"before {number}")
            running = _in_the_middle(world, f"t{number}", f"during {number}", chance.uniform(0, 0.5))
            _fill(small / "filler", chance.choice((0, 0, _SPARE_KB)) * 1024)
            running.wait()
            _fill(small / "filler", 0)
            _check_plain(world, f"t{number}", f"plain {number}", row)
            (small / "filler").unlink()
            _settle_answers(world, row)
            world.runs.clear()
    return row


def file_limit(seed: str, tries: int) -> Row:
    """The same without a mount: from the middle of a turn on, no file of the process may grow (RLIMIT_FSIZE)."""
    row = Row(case="files cannot grow in the middle")
    if not sys.platform.startswith("linux"):
        row.notes.append("skipped: only Linux can set the limits of another process")
        return row
    import resource

    with new_world(seed, _STREAM) as world:
        data = world.shell.home / "afk" / "data"
        for number in range(tries):
            row.tries += 1
            world.run("t", f"before {number}")
            running = _in_the_middle(world, "t", f"during {number}", world.chance("limit", number).uniform(0, 0.5))
            size = (data / "threads.db-wal").stat().st_size
            resource.prlimit(running.process.pid, resource.RLIMIT_FSIZE, (size, size))
            running.wait()
        _settle_answers(world, row)
    return row


def read_only(seed: str) -> Row:
    """Remount a file system read-only: a run answers, what is stored can be read, and nothing is harmed."""
    row = Row(case="read-only remount")
    with new_world(seed, _STREAM) as world, _mounted(world, row) as small:
        if small is None:
            return row
        row.tries = 2
        _keep_threads_in(world, small / "data", home=None)
        world.run("t", "before")
        running = _in_the_middle(world, "t", "during", 0.1)
        busy = subprocess.run(["mount", "-o", "remount,ro", small], capture_output=True, check=False).returncode != 0
        running.wait()
        if busy:
            row.notes.append("the system refuses the remount while a run writes; made it right after that run")
            subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        world.run("t", "while read-only")
        shown = world.afk("threads", "show", "t")
        if shown.code != 0 or "before" not in shown.out:
            row.problems.append(f"`afk threads show` while read-only: {shown}")
        subprocess.run(["mount", "-o", "remount,rw", small], check=True)
        _settle_answers(world, row)
    return row


def permission(seed: str, tries: int) -> Row:
    """Take the right to write away in the middle of a turn, from a user who cannot take it back."""
    row = Row(case="permission lost in the middle")
    before = [] if os.geteuid() else _unprivileged()
    if before is None:
        row.notes.append("skipped: for root it needs `setpriv`")
        return row
    with new_world(seed, _STREAM) as world:
        data = world.shell.home / "afk" / "data"
        for number in range(tries):
            row.tries += 1
            world.start("t", f"before {number}", before=before).wait()
            pause = world.chance("permission", number).uniform(0, 0.5)
            running = _in_the_middle(world, "t", f"during {number}", pause, before)
            _forbid(data)
            running.wait()
            world.start("t", f"after {number}", before=before).wait()
            _allow(data)
        _settle_answers(world, row)
    return row


def _settle_answers(world: World, row: Row) -> None:
    """Every run has shown its whole answer, saved or not; and the ledger is satisfied."""
    for running in world.runs:
        sent = "".join(text for _, text in world.server.sent(running.message))
        if result_of(running) is None or not sent or shown_text(running) != sent:
            row.problems.append(f"{running.message!r} showed {shown_text(running)!r} of {sent!r}: {running.stderr}")
    unsaved = [result["saved"] for running in world.runs if (result := result_of(running))].count(False)
    settle(world, row)
    row.notes.append(f"{unsaved} turns could not be saved and are in rescue files")


def _check_plain(world: World, thread: str, message: str, row: Row) -> None:
    """A person sees the whole answer on stdout; on stderr, first and last, what happened and where the turn is kept."""
    done = world.afk("run", "-t", thread, message)
    lines = done.err.splitlines()
    kept = Path(done.err.rpartition("it is kept in ")[2].strip())
    told = len(lines) <= 3 and all(line.startswith("afk: ") for line in lines)
    if not (done.code == 1 and done.out.startswith(f"{message}: w1") and told and kept.is_file()):
        row.problems.append(f"on a full disk, {message!r}: {done}")


def _in_the_middle(world: World, thread: str, message: str, pause: float, before: list[str] | None = None) -> Running:
    running = world.start(thread, message, before=before or ())
    world.asked(running)
    time.sleep(pause)
    return running


def _keep_threads_in(world: World, data: Path | None, home: Path | None) -> None:
    """Keep threads in the folder `data` by the user's config, or (where it is None) all of afk's files in `home`."""
    world.shell.env["AFK_HOME"] = str(home if data is None else world.shell.home / "afk")
    if data is not None:
        config = world.shell.home / "afk" / "config" / "config.toml"
        config.parent.mkdir(parents=True, exist_ok=True)
        config.write_text(f'[stores.disk]\npath = "{data}"\n')


def _fill(filler: Path, spare: int) -> None:
    """Write `filler` until the disk has no more than `spare` bytes left."""
    with filler.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        for size in (4096, 512, 1):
            with contextlib.suppress(OSError):
                while shutil.disk_usage(filler.parent).free > spare or not spare:
                    file.write(b"x" * size)


def _forbid(folder: Path) -> None:
    for path in folder.iterdir():
        path.chmod(0o400)
    folder.chmod(0o500)


def _allow(folder: Path) -> None:
    folder.chmod(0o700)
    for path in folder.iterdir():
        path.chmod(0o600)


def _unprivileged() -> list[str] | None:
    """Return the prefix that takes root's power over permissions from a command, or None."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--bounding-set=-all", "--inh-caps=-all"] if setpriv else None


@contextlib.contextmanager
def _mounted(world: World, row: Row) -> Iterator[Path | None]:
    """Mount a small file system, or yield None and note why this is not possible."""
    small = world.root / "small"
    small.mkdir()
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        row.notes.append("skipped: only root on Linux can mount a small file system")
        yield None
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={_MOUNT_KB}k", "tmpfs", str(small)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        row.notes.append(f"skipped: a file system cannot be mounted here: {mounted.stderr.decode().strip()}")
        yield None
        return
    try:
        yield small
    finally:
        world.rest()
        subprocess.run(["umount", str(small)], check=False)
