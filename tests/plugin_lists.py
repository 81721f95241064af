"""`uv run python -m tests.plugin_lists`: the lists of plugins in pyproject.toml, made from the folders in plugins/.

With `--write` the lists are written; without it the command names those that differ, and exits with 1. What is special
about a plugin is in the table `[tool.afk]` of its own pyproject.toml:

    extra-needs = ["afkcli[prices]"]   # what its extra brings beside it
    not-in-all = "the reason"          # its extra is not part of `all`
    workspace = false                  # it needs an environment of its own, so it is not a member of the workspace
"""

from __future__ import annotations

import difflib
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
COMMAND = "uv run python -m tests.plugin_lists --write"
_WIDTH = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """One folder of plugins/: `<kind>_<name>`, and what its pyproject.toml says."""

    folder: str
    distribution: str
    extra_needs: tuple[str, ...] = ()
    not_in_all: str | None = None
    workspace: bool = True

    @property
    def extra(self) -> str:
        return self.folder.partition("_")[2]

    @property
    def package(self) -> str:
        return f"afk_{self.folder}"


def read_plugins(folder: Path) -> list[Plugin]:
    """Return the plugins in this folder, by the names of theirs."""
    found = []
    for path in sorted(folder.glob("*/pyproject.toml")):
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        own = table.get("tool", {}).get("afk", {})
        found.append(
            Plugin(
                folder=path.parent.name,
                distribution=table["project"]["name"],
                extra_needs=tuple(own.get("extra-needs", ())),
                not_in_all=own.get("not-in-all"),
                workspace=own.get("workspace", True),
            )
        )
    return found


def written(text: str, plugins: Sequence[Plugin]) -> str:
    """Return the text of a pyproject.toml with its lists as the plugins ask for them."""
    extras = _entries(text, "[project.optional-dependencies]")
    kept = [line for line in extras.splitlines() if re.match(r"(?!all )[\w-]+ = ", line) and not _is_of_a_plugin(line)]
    text = _replaced(text, "[project.optional-dependencies]", [*kept, *_extras(plugins)])
    text = _replaced(text, "[tool.uv.sources]", _sources(plugins))
    for heading, key, values in _arrays(plugins):
        text = _with_array(text, heading, key, values)
    return text


def _is_of_a_plugin(line: str) -> bool:
    return re.search(r'= \["afk-', line) is not None


def _extras(plugins: Sequence[Plugin]) -> Iterator[str]:
    for plugin in plugins:
        if plugin.not_in_all is not None:
            yield f"# Not in `all`: {plugin.not_in_all}"
        yield f"{plugin.extra} = {_array([plugin.distribution, *plugin.extra_needs])}"
    names = ",".join(["chat", *(plugin.extra for plugin in plugins if plugin.not_in_all is None)])
    yield f"all = {_array([f'afkcli[{names}]'])}"


def _sources(plugins: Sequence[Plugin]) -> Iterator[str]:
    yield "afkcli = { workspace = true }"
    for plugin in plugins:
        place = "workspace = true" if plugin.workspace else f'path = "plugins/{plugin.folder}", editable = true'
        yield f"{plugin.distribution} = {{ {place} }}"


def _arrays(plugins: Sequence[Plugin]) -> list[tuple[str, str, list[str]]]:
    """Return the arrays with plugins in them: the line above the key, the key and the values."""
    packages = [plugin.package for plugin in plugins if plugin.workspace]
    away = [f"plugins/{plugin.folder}" for plugin in plugins if not plugin.workspace]
    return [
        ("[tool.uv.workspace]", "exclude", away),
        ("[tool.mypy]", "packages", ["afkcli", "afk", *packages]),
        ("[tool.importlinter]", "root_packages", ["afkcli", "afk", *packages]),
        ('name = "a plugin never imports another plugin"', "modules", packages),
        ('name = "a plugin imports only the public modules of afkcli"', "source_modules", packages),
        ('name = "afkcli imports no plugin and nothing for tests"', "forbidden_modules", ["afkcli.testing", *packages]),
    ]


def _array(values: Sequence[str], key: str = "") -> str:
    quoted = [f'"{value}"' for value in values]
    line = f"[{', '.join(quoted)}]"
    if len(key) + len(line) <= _WIDTH:
        return line
    return "".join(["[\n", *(f"    {value},\n" for value in quoted), "]"])


def _entries(text: str, heading: str) -> str:
    """Return what is below the line `heading`, up to the next table."""
    below = text.partition(f"\n{heading}\n")[2]
    return re.split(r"^\[", below, maxsplit=1, flags=re.MULTILINE)[0]


def _replaced(text: str, heading: str, lines: Sequence[str] | Iterator[str]) -> str:
    old = _entries(text, heading)
    return text.replace(f"\n{heading}\n{old}", f"\n{heading}\n" + "".join(f"{line}\n" for line in lines) + "\n", 1)


def _with_array(text: str, heading: str, key: str, values: Sequence[str]) -> str:
    old = _entries(text, heading)
    new = re.sub(rf"^{key} = \[[^\]]*\]", f"{key} = {_array(values, f'{key} = ')}", old, count=1, flags=re.MULTILINE)
    return text.replace(f"\n{heading}\n{old}", f"\n{heading}\n{new}", 1)


def difference(text: str, plugins: Sequence[Plugin]) -> str:
    """Return how the lists in the text of a pyproject.toml differ from what the plugins ask for; "" if they do not."""
    lines = difflib.unified_diff(
        text.splitlines(), written(text, plugins).splitlines(), "is", "should be", lineterm="", n=1
    )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    path = REPOSITORY / "pyproject.toml"
    text = path.read_text(encoding="utf-8")
    plugins = read_plugins(REPOSITORY / "plugins")
    if "--write" in arguments:
        path.write_text(written(text, plugins), encoding="utf-8")
    elif found := difference(text, plugins):
        print(f"{found}\nthe lists of plugins in pyproject.toml differ from plugins/; run: {COMMAND}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
