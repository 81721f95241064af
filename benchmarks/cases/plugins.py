"""Plugins that are installed and not used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from operator import attrgetter
from pathlib import Path

from benchmarks.answers import MODEL, answer
from benchmarks.bench import AFK, Bench, benchmark, figures, ms
from benchmarks.measure import ProgramFailedError
from benchmarks.programs.many_plugins import PLUGINS, make
from benchmarks.report import Row, compare


@benchmark("plugins")
def plugins(bench: Bench) -> list[Row]:
    """A run, and commands without a model, with 50 plugins installed of which one is slow to import; none is used.

    Both sides are copies of the environment that afk is installed in, which differ in nothing else.
    """
    bench.server.answer = answer(1)
    env = bench.home("plugins")
    afk = {name: copy_environment(bench.folder / name) for name in ("without", "with")}
    ids = make(site_packages(afk["with"].parents[1]))
    _check_found(afk["with"], ids, env)
    commands: dict[str, list[str]] = {
        "run": ["run", "-n", "-t", "bench", "-m", MODEL, "hi"],
        "--version": ["--version"],
        "threads": ["threads"],
    }
    rows = []
    for name, arguments in commands.items():
        asks = name == "run"
        results = bench.interleave(
            {side: bench.side([program, *arguments], env, requests=asks) for side, program in afk.items()}
        )
        case = f"afk {name} with {PLUGINS} more plugins"
        for suffix, figure in (("", "to_request" if asks else "wall"), (", CPU", "cpu")):
            took = figures(results, attrgetter(figure))
            rows.append(compare(case + suffix, "without", "ms", ms(took["with"]), ms(took["without"]), no_change=asks))
    return rows


def copy_environment(folder: Path) -> Path:
    """Copy the environment that afk is installed in, files linked where that is possible, and return its `afk`."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            shutil.copy2(source, target)

    shutil.copytree(sys.prefix, folder, symlinks=True, copy_function=link)
    afk = folder / AFK.relative_to(sys.prefix)
    if afk.read_bytes().startswith(b"#!"):  # a compiled one finds the environment that it is in
        script = afk.read_text(encoding="utf-8").replace(sys.prefix, str(folder))
        afk.unlink()
        afk.write_text(script, encoding="utf-8")
        afk.chmod(0o755)
    return afk


def site_packages(environment: Path) -> Path:
    """Return the folder of an environment of this Python into which packages are installed."""
    return environment / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)


def _check_found(afk: Path, ids: list[str], env: dict[str, str]) -> None:
    """Fail where afk does not see the plugins: then nothing would be measured."""
    shown = subprocess.run([afk, "plugins", "--json"], env=env, capture_output=True, text=True).stdout
    missing = [id_ for id_ in ids if f'"{id_}"' not in shown]
    if missing:
        raise ProgramFailedError(f"afk plugins does not show {missing[0]}: {shown[-500:]}")
