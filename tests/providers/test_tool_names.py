"""Tool names on the wire and back."""

from __future__ import annotations

import re

from afkcli.providers.tool_names import ToolNames

LEGAL = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def test_every_name_is_legal_distinct_and_reversible() -> None:
    names = [
        "files.read",
        "files__read",
        "files_read",
        "files.read.deep",
        "weather",
        "größe.näher",
        "a b/c",
        "a b?c",
        "",
        "x" * 64,
        "x" * 65,
        "server." + "x" * 100,
        "server." + "x" * 101,
    ]
    tools = ToolNames(names)
    wire = [tools.to_wire(name) for name in names]
    assert all(LEGAL.fullmatch(name) for name in wire)
    assert len(set(wire)) == len(names)
    assert [tools.from_wire(name) for name in wire] == names


def test_a_name_does_not_depend_on_its_neighbours() -> None:
    assert ToolNames(["files.read"]).to_wire("files.read") == "files__read"
    assert ToolNames(["weather", "files.read", "a.b"]).to_wire("files.read") == "files__read"


def test_a_name_that_was_not_offered_comes_back_as_it_is() -> None:
    assert ToolNames(["files.read"]).from_wire("made_up") == "made_up"
