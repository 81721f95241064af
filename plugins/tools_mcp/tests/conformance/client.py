"""The client that the conformance suite of the protocol runs: afk's toolset, and nothing else.

The suite starts a server for one scenario and appends its address to the command. The client lists the tools of that
server and calls them, with arguments that the scenario asks for or that fit the schema.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from typing import Any

ARGUMENTS = {"add_numbers": {"a": 5, "b": 3}}


async def main(url: str) -> None:
    from afk_tools_mcp import ServerSettings, Settings, afk_tools

    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    toolset = afk_tools(Settings(servers={"s": ServerSettings(url=url, start_timeout=15, timeout=15)}))
    try:
        tools = {tool.name.partition(".")[2]: tool for tool in await toolset.list_tools(["s"])}
        planned = [(call["name"], call.get("arguments") or {}) for call in context.get("toolCalls", [])]
        for name, arguments in planned or [(name, _arguments(name, tools)) for name in tools]:
            try:
                print(name, await tools[name].call(arguments))
            except Exception as error:
                print(f"{name} failed: {error}", file=sys.stderr)
    finally:
        await toolset.aclose()


def _arguments(name: str, tools: Any) -> dict[str, Any]:
    if name == "json_schema_echo":  # it compares the schema of its neighbour with what the client has of it
        return {"schema": tools["json_schema_2020_12_tool"].spec.parameters}
    return ARGUMENTS.get(name) or _fitting(tools[name].spec.parameters)


def _fitting(schema: dict[str, Any]) -> dict[str, Any]:
    values = {"string": "text", "integer": 1, "number": 1.5, "boolean": True, "array": [], "object": {}}
    properties = schema.get("properties") or {}
    required = schema.get("required") or []
    return {name: values.get(properties.get(name, {}).get("type"), "text") for name in required}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["AFK_HOME"] = home
        asyncio.run(main(sys.argv[-1]))
