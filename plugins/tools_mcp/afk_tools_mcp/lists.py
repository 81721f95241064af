"""The lists of tools: what a server says it has, and a copy on disk, so that naming a tool starts nothing."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from afk_tools_mcp.schemas import usable_schema
from afkcli.plugin import (
    JsonError,
    JsonObject,
    clean_text,
    dumps,
    loads_object,
    make_private_folder,
    replace_file,
    state_dir,
)

MAX_TOOLS = 1_000
"""Of one server. The public servers with the most have about a hundred."""

MAX_LIST_BYTES = 4 * 1024 * 1024
"""Of one server's list as JSON; a model's whole context is smaller."""

KEPT_SECONDS = 24 * 60 * 60.0
"""How old a copy may be: a server that was upgraded shows its new tools after a day at the latest."""

_TOOL_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedTool:
    """A tool as its server describes it."""

    name: str
    description: str
    parameters: JsonObject


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolList:
    """The tools that can be used, and a line for each thing that was left out."""

    tools: Sequence[ListedTool]
    left_out: Sequence[str] = ()


def usable_tools(listed: Iterable[tuple[str, str, Any]]) -> ToolList:
    """Return those of a server's tools (name, description, schema, or None where it has none) that can be used."""
    tools: dict[str, ListedTool] = {}
    left_out = []
    for name, description, schema in listed:
        problem = _name_problem(name, tools)
        if problem is None and schema is None:
            problem = "it is not described as the protocol asks, by a name and the JSON Schema of an object"
        if problem is not None:
            left_out.append(f"the tool {name[:128]!r} is left out: {problem}")
            continue
        parameters, unusable = usable_schema(schema)
        if unusable is not None:
            left_out.append(f"the schema of the tool {name!r} is left out, its arguments are not checked: {unusable}")
        tools[name] = ListedTool(name=name, description=clean_text(description), parameters=parameters)
    return ToolList(tools=tuple(tools.values()), left_out=left_out)


def _name_problem(name: str, known: dict[str, ListedTool]) -> str | None:
    if not _TOOL_NAME.fullmatch(name):
        return "its name is not one of up to 128 letters, digits, `_`, `-`, `.` and `/`"
    return "the server has two of that name" if name in known else None


class ListFile:
    """The copy of one server's list: `mcp/KEY.json` in afk's state folder, for the user alone."""

    def __init__(self, key: str) -> None:
        self.path: Path = state_dir() / "mcp" / f"{key}.json"

    def read(self) -> Sequence[ListedTool] | None:
        """Return the tools, or None where there is no copy that is whole, private and young enough."""
        try:
            with self.path.open("rb") as file:
                about = os.fstat(file.fileno())
                foreign = os.name != "nt" and about.st_uid != os.getuid()
                if (
                    foreign
                    or about.st_size > 2 * MAX_LIST_BYTES
                    or not 0 <= time.time() - about.st_mtime < KEPT_SECONDS
                ):
                    return None
                found = loads_object(file.read())
            listed = [(tool["name"], tool["description"], tool["parameters"]) for tool in found["tools"]]
            tools = usable_tools(listed).tools if found["v"] == 1 else []
        except (OSError, JsonError, KeyError, TypeError):
            return None
        return tools or None

    def write(self, tools: Sequence[ListedTool]) -> None:
        """Keep a list in the place of the one before; where that cannot be done the server is asked again next time."""
        with contextlib.suppress(OSError):
            make_private_folder(self.path.parent)
            replace_file(self.path, [dumps({"v": 1, "tools": tools})])
