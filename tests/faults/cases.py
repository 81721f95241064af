"""All cases with their numbers: small ones for every test run, large ones for the long form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.faults import (
    commands,
    compactions,
    damage,
    disk,
    endurance,
    kills,
    large,
    many,
    postgres,
    races,
    signals,
    sinks,
    supervisors,
    unread,
)
from tests.faults.table import Row


@dataclass(frozen=True, slots=True)
class Case:
    """A case: `short` and `long` take the seed and return the row of the table."""

    name: str
    short: Callable[[str], Row]
    long: Callable[[str], Row]


def _case(name: str, run: Callable[..., Row], short: Sequence[object] = (), long: Sequence[object] = ()) -> Case:
    return Case(name, lambda seed: run(seed, *short), lambda seed: run(seed, *long))


CASES = (
    _case("kill", kills.random_moments, [6], [200]),
    _case("boundaries", kills.write_boundaries, [8], [200]),
    _case("commands", commands.killed, [1], [60]),
    _case("compaction", compactions.killed, [2], [200]),
    _case("race-one", races.race, [3, 2, 1, 1.5], [16, 25, 1, races.REAL_LEASE]),
    _case("race-eight", races.race, [4, 1, 8, 1.5], [16, 25, 8, races.REAL_LEASE]),
    _case("many-at-once", many.at_once, [40, 0, 1, False, 1], [200, 0, 5, True]),
    _case("many-on-few", many.at_once, [16, 8, 1, False, 1], [200, 8, 1, True]),
    _case("stopped-writer", races.stopped_writer, [12.0, 3], [30.0, 12]),
    _case("signals", signals.random_moments, [6], [60]),
    _case("signal-twice", signals.twice),
    _case("terminal-stop", signals.stop_and_continue),
    _case("head", signals.closed_stdout, [2], [20]),
    _case("loop", signals.shell_loop),
    _case("unread", unread.unread, [1], [10]),
    _case("disk-full", disk.full, [2], [20]),
    _case("file-limit", disk.file_limit, [1], [10]),
    _case("read-only", disk.read_only),
    _case("permission", disk.permission, [1], [10]),
    _case("damage", damage.database, [25], [200]),
    _case("damage-log", damage.write_ahead_log, [4], [50]),
    _case("first-runs", signals.first_runs, [8], [16]),
    _case("one-process", endurance.one_process, [200], [10_000]),
    _case("many-processes", endurance.many_processes, [6], [1_000]),
    _case("large-turns", large.large_turns, [18, 4], [80]),
    _case("large-records", large.large_records, [70], [1000]),
    _case("postgres-kill", postgres.killed, [4], [200]),
    _case("postgres-hosts", postgres.two_hosts, [2, 2], [16, 25]),
    _case("postgres-restart", postgres.server_restarts, [2, 2], [16, 20]),
    _case("postgres-cut", postgres.network_cut, [2], [16]),
    _case("postgres-away", postgres.server_away, [2], [16]),
    _case("sinks", sinks.misbehaving),
    _case("supervisors", supervisors.attacked, [1], [20]),
)
