"""Installs 50 plugins of afk, as installers leave them: `many_plugins.py SITE_PACKAGES`. One is slow to import."""

from __future__ import annotations

import sys
from pathlib import Path

PLUGINS = 50
SLOW_SECONDS = 2
KINDS = ("tools", "sink", "provider", "command", "store")
_SOURCES = {
    "tools": """
@tool
def look(word: str) -> str:
    \"\"\"Look a word up.\"\"\"
    return word


@hookimpl
def afk_tools(settings):
    return [look]
""",
    "command": """
@hookimpl
def afk_command():
    import click

    return click.Command("bench", help="A command of a plugin.")
""",
}
_UNUSED = """
@hookimpl
def afk_{kind}(settings):
    raise NotImplementedError
"""


def make(site_packages: Path, slow_seconds: float = SLOW_SECONDS) -> list[str]:
    """Write the distributions and return the ids of their plugins, the slow one first."""
    ids = []
    for number in range(PLUGINS):
        kind = KINDS[number % len(KINDS)]
        module = f"afk_bench_{number}"
        slow = f"import time\n\ntime.sleep({slow_seconds})\n" if number == 0 else ""
        hooks = _SOURCES.get(kind, _UNUSED.format(kind=kind))
        source = f"from afkcli.plugin import hookimpl, tool\n\n{slow}\nAFK_HOOKS = 1\n\n{hooks}"
        package = site_packages / module
        package.mkdir()
        (package / "__init__.py").write_text(source, encoding="utf-8")
        models = f"[afk.models]\nbench-{number}- = provider.bench{number}\n" if kind == "provider" else ""
        _write_metadata(site_packages, module, f"[afk]\n{kind}.bench{number} = {module}\n\n{models}")
        ids.append(f"{kind}.bench{number}")
    return ids


def _write_metadata(site_packages: Path, module: str, entry_points: str) -> None:
    name = module.replace("_", "-")
    files = {
        "METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\nSummary: A plugin for afk\n"
        "Requires-Python: >=3.11\nRequires-Dist: afkcli>=0.1,<1\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: benchmarks\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "INSTALLER": "benchmarks\n",
        "entry_points.txt": entry_points,
    }
    folder = site_packages / f"{module}-1.0.dist-info"
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text, encoding="utf-8")
    record = [f"{folder.name}/{file},," for file in (*files, "RECORD")]
    (folder / "RECORD").write_text("\n".join([f"{module}/__init__.py,,", *record, ""]), encoding="utf-8")


if __name__ == "__main__":
    print("\n".join(make(Path(sys.argv[1]))))
