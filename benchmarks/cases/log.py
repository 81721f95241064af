"""A log that has grown."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, Bench, benchmark, figures, ms
from benchmarks.report import Row, compare

LOG_BYTES = 10**9
FILE_BYTES = 64 * 10**6
PIECE_BYTES = 1 << 16


@benchmark("log")
def large_log(bench: Bench) -> list[Row]:
    """A turn, and the end of the log, with 1 GB of log on the disk, to the same with a log that has just begun.

    The log is that of a run, repeated, in files as large as the sink makes them.
    """
    bench.server.answer = answer(1)
    env = {name: bench.home(name) for name in ("large", "small")}
    turn: list[str | Path] = [AFK, "run", "-n", "-t", "bench", "-m", MODEL, "hi"]
    for each in env.values():
        bench.side(turn, each)()
    bench.say("writing 1 GB of log")
    write_log(Path(env["large"]["AFK_HOME"]) / "state" / "events", LOG_BYTES)
    tail: list[str | Path] = [AFK, "events", "tail"]
    rows = []
    for case, command, figure in (("exec to request", turn, "to_request"), ("afk events tail", tail, "wall")):
        asks = command is turn
        results = bench.interleave({name: bench.side(command, each, requests=asks) for name, each in env.items()})
        for suffix, each_figure in (("", figure), (", CPU", "cpu")):
            took = figures(results, attrgetter(each_figure))
            label = f"{case} with 1 GB of log{suffix}"
            rows.append(compare(label, "a new log", "ms", ms(took["large"]), ms(took["small"]), no_change=asks))
    return rows


def write_log(folder: Path, size: int) -> None:
    """Repeat the log in `folder` in further files of its day, until they have at least `size` bytes together."""
    [begun] = folder.glob("*.jsonl")
    lines = begun.read_bytes()
    piece = lines * max(1, PIECE_BYTES // len(lines))
    for number in range(1, 1 + -(-size // FILE_BYTES)):
        file = folder / f"{begun.stem}-{number}.jsonl"
        left = min(FILE_BYTES, size - (number - 1) * FILE_BYTES)
        with file.open("wb") as out:
            for _ in range(-(-left // len(piece))):
                out.write(piece)
        file.chmod(0o600)
