"""`uv run python -m tests.floors`: the rooms of afk, the imports between them, and every import circle.

The graph is read from the source: imports for type checking and imports inside functions count. Importing a module also
runs the packages around it; that is not an import of theirs, because the `__init__` of each is empty or lazy.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent

Graph = Mapping[str, frozenset[str]]
"""The modules that each module imports, by its name."""


def packages() -> list[Path]:
    """Return the folders of our packages: afkcli, afk and those of the plugins."""
    return [REPOSITORY / "afkcli", REPOSITORY / "afk", *sorted(REPOSITORY.glob("plugins/*/afk_*"))]


def read_graph(folders: Sequence[Path]) -> Graph:
    """Return the imports between the modules of these packages."""
    files = {_module(path, folder.parent): path for folder in folders for path in sorted(folder.rglob("*.py"))}
    return {name: frozenset(_imports(name, path, files)) - {name} for name, path in files.items()}


def _module(path: Path, top: Path) -> str:
    parts = path.relative_to(top).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(module: str, path: Path, known: Mapping[str, Path]) -> Iterator[str]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package.split(".")[: len(package.split(".")) - node.level + 1], node.module or ""])
            source = (base if node.level else node.module or "").strip(".")
            for alias in node.names:
                target = f"{source}.{alias.name}"
                yield from (name for name in (target if target in known else source,) if name in known)


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of modules that import each other, directly or not; each sorted."""
    reached = {name: _reachable(graph, name) for name in graph}
    found = {
        tuple(sorted(other for other in reached[name] if name in reached[other]))
        for name in graph
        if name in reached[name]
    }
    return [list(group) for group in sorted(found)]


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def room(module: str) -> str:
    """Return the room of a module: a package of a plugin, a folder or file of afkcli, or a folder of its core."""
    parts = module.split(".")
    if parts[0] != "afkcli":
        return parts[0]
    is_of_core = parts[:2] == ["afkcli", "core"] and (REPOSITORY.joinpath(*parts[:3])).is_dir()
    return ".".join(parts[: 3 if is_of_core else 2])


def arrows(graph: Graph) -> Counter[tuple[str, str]]:
    """Return how many imports go from one room to another."""
    found: Counter[tuple[str, str]] = Counter()
    for module, targets in graph.items():
        ends = [(room(module), room(target)) for target in targets]
        found.update((source, target) for source, target in ends if source != target)
    return found


def main() -> None:
    graph = read_graph(packages())
    rooms = Counter(room(module) for module in graph)
    between = arrows(graph)
    core = [name for name in rooms if name.startswith("afkcli.core.")]
    inside = {ends: count for ends, count in between.items() if set(ends) <= set(core)}
    print("ROOM                     FILES  IMPORTS")
    for name, files in sorted(rooms.items()):
        targets = sorted((target, count) for (source, target), count in between.items() if source == name)
        print(f"{name:<24} {files:>5}  {', '.join(f'{target} {count}' for target, count in targets)}".rstrip())
    print(f"\ncore: {len(core)} rooms, {len(inside)} arrows: ", end="")
    print(", ".join(f"{source} -> {target} ({count})" for (source, target), count in sorted(inside.items())))
    found = circles(graph)
    print(f"circles: {len(found)}")
    for group in found:
        print(f"  {', '.join(group)}")


if __name__ == "__main__":
    main()
