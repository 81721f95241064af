"""`afk threads rm`: deletes threads, with what else is kept of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import click

from afkcli.commands.base import Command
from afkcli.commands.completion import complete_thread
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.logged_threads import Runs, log_files, log_sink, logged_keys, logged_runs
from afkcli.commands.thread_access import command_owner, opened_store
from afkcli.core.contract.errors import (
    EXIT_BUSY,
    EXIT_INTERNAL,
    AfkError,
    ConfigError,
    ThreadBusyError,
    UnknownNameError,
)
from afkcli.core.contract.jsonform import JsonObject
from afkcli.core.contract.protocols import LogSink, Store, ThreadInfo
from afkcli.core.thread.lookup import thread_meant
from afkcli.core.thread.operations import held
from afkcli.host.rescue import rescue_files
from afkcli.screen.messages import Messages
from afkcli.screen.questions import confirmed
from afkcli.screen.streams import Stdout
from afkcli.wiring.assembly import load_setup


@click.command(
    "rm",
    cls=Command,
    examples=(
        ("afk threads rm trip soup", "after asking"),
        ("afk threads rm trip --logs --yes", "with its runs in the event log, unasked"),
    ),
)
@click.argument("names", shell_complete=complete_thread, nargs=-1, required=True, metavar="NAME...")
@click.option("--logs", is_flag=True, help="Take their runs out of the event log, too.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@json_option
def remove(names: tuple[str, ...], logs: bool, yes: bool, as_json: bool) -> None:
    """Delete threads with all their messages, attachments and rescue files.

    It asks first; without a terminal it needs --yes. The event log keeps their runs, and a line says where; --logs
    takes them out of it. With --logs, NAME may also be a thread that was deleted before.
    """
    messages, stdout = Messages(invocation()), Stdout(invocation())
    log = _Log(messages)
    with opened_store() as store:
        threads, gone = _threads(store, names, log if logs else None)
        if not confirmed(invocation(), _rm_question(threads, gone, logs=logs), yes=yes):
            messages.say("nothing was deleted")
            return
        deleted = [info for info in threads if _deleted(store, info, messages)]
    rescued = {info.key: _remove_rescue_files(info.name, messages) for info in deleted}
    keys = {info.key: info.name for info in deleted} | gone
    found, all_out = (log.remove(keys) if logs else log.report(keys)) if keys else ({}, True)
    if as_json:
        stdout.objects(_form(info, rescued[info.key], found.get(info.key, {})) for info in deleted)
    if len(deleted) < len(threads):
        raise click.exceptions.Exit(EXIT_BUSY)
    if not all_out:
        raise click.exceptions.Exit(EXIT_INTERNAL)


def _threads(store: Store, names: Sequence[str], log: _Log | None) -> tuple[list[ThreadInfo], dict[str, str]]:
    """Return the threads that are named, and those that are in the log alone, by key.

    Raises:
        UnknownNameError: there is no such thread.
    """
    threads: dict[str, ThreadInfo] = {}
    gone: dict[str, str] = {}
    for name in names:
        try:
            info = thread_meant(store, name)
            threads[info.key] = info
        except UnknownNameError:
            keys = log.keys_of(name, store) if log is not None else set()
            if not keys:
                raise
            gone |= dict.fromkeys(keys, name)
    return list(threads.values()), gone


def _deleted(store: Store, info: ThreadInfo, messages: Messages) -> bool:
    """Delete a thread, and return whether it was not in use."""
    try:
        with held(store, info.name, command_owner(), seal=False) as lease:
            store.delete(lease)
    except ThreadBusyError as error:
        messages.error(f"not deleted: {error}")
        return False
    messages.say(f"deleted {info.name!r}")
    return True


def _remove_rescue_files(name: str, messages: Messages) -> list[str]:
    """Remove the rescue files of the thread `name`, unless a run may still write to one; return what was removed."""
    removed = []
    for file in rescue_files():
        if file.thread_id != name:
            continue
        if file.is_open:
            messages.warn(f"the rescue file {file.path} is kept: its run may still be writing to it")
            continue
        try:
            file.path.unlink(missing_ok=True)
        except OSError as error:
            messages.warn(f"the rescue file {file.path} cannot be removed: {error.strerror}")
        else:
            messages.say(f"removed the rescue file {file.path}")
            removed.append(str(file.path))
    return removed


class _Log:
    """The event log, as far as there is one; it is opened when it is first asked."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages

    def keys_of(self, name: str, store: Store) -> set[str]:
        """Return the keys of the threads that had the name, or have the key, `name` and were deleted."""
        sink = self._sink()
        if sink is None:
            return set()
        return logged_keys(log_files(sink), name) - {info.key for info in store.list()}

    def report(self, keys: Mapping[str, str]) -> tuple[Runs, bool]:
        """Say which files have runs of threads, given by key and name; return what they have."""
        sink = self._sink()
        if sink is None:
            return {}, True
        try:
            found = logged_runs(log_files(sink), keys)
        except OSError as error:
            self._messages.warn(f"the event log {error.filename} cannot be read: {error.strerror}")
            return {}, True
        for key, files in found.items():
            for file, runs in files.items():
                hint = f"`afk threads rm --logs {key}` takes {'it' if runs == 1 else 'them'} out"
                self._messages.say(f"the log {file} still has {_runs(runs)} of {keys[key]!r}; {hint}")
        return found, True

    def remove(self, keys: Mapping[str, str]) -> tuple[Runs, bool]:
        """Take the runs of threads out of the log; return what is left of them, and whether nothing is.

        Raises:
            AfkError: a file cannot be read or written.
        """
        sink = self._sink()
        if sink is None:
            return {}, True
        if not callable(getattr(sink, "remove_threads", None)):
            found, _ = self.report(keys)
            self._messages.warn(f"the sink {sink.name!r} cannot take lines out of its log")
            return found, not found
        try:
            for done in sink.remove_threads(list(keys)):
                if done.in_use:
                    what = "is left as it is: a run writes to it; call again with --logs when no run is in progress"
                    self._messages.warn(f"the log {done.file} {what}")
                elif done.runs:
                    self._messages.say(f"took {_runs(done.runs)} out of the log {done.file}")
            found = logged_runs(log_files(sink), keys)
        except OSError as error:
            raise AfkError(f"the event log {error.filename} cannot be changed: {error.strerror}") from None
        return found, not found

    def _sink(self) -> LogSink | None:
        try:
            return log_sink(load_setup(invocation(), project=True))
        except ConfigError:
            return None


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _form(info: ThreadInfo, rescued: Sequence[str], logs: Mapping[Path, int]) -> JsonObject:
    return {
        "v": 1,
        "type": "deleted",
        "thread_id": info.name,
        "thread_key": info.key,
        "rescue_files": list(rescued),
        "logs": [{"file": str(file), "runs": runs} for file, runs in logs.items()],
    }


def _rm_question(threads: Collection[ThreadInfo], gone: Mapping[str, str], *, logs: bool) -> str:
    names = _listed(info.name for info in threads)
    turns = sum(info.turns for info in threads)
    what = "the thread" if len(threads) == 1 else f"{len(threads)} threads"
    if not threads:
        return f"Take the runs of {_listed(dict.fromkeys(gone.values()))} out of the event log?"
    also = ", and their runs in the event log" if logs else ""
    return f"Delete {what} {names} ({turns} turn{'' if turns == 1 else 's'}){also}?"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(repr, names))
