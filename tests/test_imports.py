"""Imports run one way: `python -m tests.floors` shows the graph that these tests look at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.floors import REPOSITORY, Graph, arrows, circles, packages, read_graph


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The imports of all our packages: to read them takes a second."""
    return read_graph(packages())


def package(folder: Path, **modules: str) -> Path:
    """Write a package whose modules have these texts."""
    folder.mkdir()
    for name, text in {"__init__": "", **modules}.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def test_no_module_imports_itself_by_way_of_others(graph: Graph) -> None:
    assert circles(graph) == []


def test_core_has_three_floors(graph: Graph) -> None:
    between = arrows(graph)
    contract, thread, run = (f"afkcli.core.{name}" for name in ("contract", "thread", "run"))
    inside = {ends for ends in between if all(room.startswith("afkcli.core.") for room in ends)}

    assert inside == {(run, thread), (run, contract), (thread, contract)}
    assert {target for source, target in between if source in (run, thread, contract)} == {thread, contract}


PLUGINS = sorted(path.name for path in REPOSITORY.glob("plugins/*/afk_*"))
PUBLIC = ("afkcli", "afkcli.plugin", "afkcli.hookspecs")


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_imports_only_the_public_modules(plugin: str, graph: Graph) -> None:
    # The linter does not see the plugins that have an environment of their own.
    modules = [name for name in graph if name.split(".")[0] == plugin]
    others = {target for name in modules for target in graph[name] if target.split(".")[0] != plugin}

    assert others != set()
    assert {name for name in others if not name.startswith(("afkcli.providers", "afkcli.testing"))} <= set(PUBLIC)


@pytest.mark.parametrize(
    "text",
    [
        "import sample.b",
        "from sample import b",
        "from sample.b import anything",
        "from . import b",
        "from .b import anything",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from sample.b import anything",
        "def function():\n    from sample.b import anything",
    ],
)
def test_a_circle_is_found_however_it_is_written(tmp_path: Path, text: str) -> None:
    folder = package(tmp_path / "sample", a=text, b="import sample.c", c="from sample.a import x", d="import sample.a")

    assert circles(read_graph([folder])) == [["sample.a", "sample.b", "sample.c"]]


def test_importing_a_package_is_an_import_of_its_init(tmp_path: Path) -> None:
    folder = package(tmp_path / "sample", __init__="from sample.a import x", a="from sample import y")

    assert circles(read_graph([folder])) == [["sample", "sample.a"]]


def test_the_command_prints_the_floors_of_core() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.floors"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert "core: 3 rooms, 3 arrows: afkcli.core.run -> afkcli.core.contract (" in done.stdout
    assert "\ncircles: 0\n" in done.stdout
