"""`afk tools`: lists the tools that agents can have with the decision on their calls, and shows one in full."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

import click

from afkcli.commands.base import Group
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.core.contract.errors import AfkError, UnknownNameError
from afkcli.core.contract.rules import RuleDecision, rule_decision
from afkcli.core.contract.suggestions import near_names
from afkcli.core.contract.text import visible
from afkcli.core.contract.tools import Tool, ToolContext, in_tool_context
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import DIM, RED, YELLOW
from afkcli.screen.tables import write_table
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.setup import Setup
from afkcli.wiring.surroundings import wiring_of
from afkcli.wiring.toolbox import Toolbox

_STYLES: dict[RuleDecision, str] = {"allow": "", "ask": YELLOW, "deny": RED}

_plugin_option = click.option(
    "--plugin",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Look at this plugin file too; may be given more than once.",
)


@click.group(
    "tools",
    invoke_without_command=True,
    cls=Group,
    examples=(
        ("afk tools", "all tools, and the decision on their calls"),
        ("afk tools show files.read", "one tool, with its arguments"),
    ),
)
@_plugin_option
@json_option
@click.pass_context
def command(ctx: click.Context, files: tuple[Path, ...], as_json: bool) -> None:
    """List the tools of plugins and servers, with the decision on a call unless a rule for its arguments matches.

    An agent has the tools that it names: `tools = ["files.read"]` in the config, or `afk run --tool files.read`.
    """
    if ctx.invoked_subcommand is not None:
        return
    messages, stdout = Messages(invocation()), Stdout(invocation())
    setup = load_setup(invocation(), project=True, plugin_files=files, notify=messages.say)
    tools = sorted(_listed(setup, None, messages), key=lambda tool: tool.name)
    rules = wiring_of(setup).rules
    if as_json:
        stdout.objects(_form(tool, rule_decision(tool, {}, rules)) for tool in tools)
        return
    if not tools:
        messages.say("there are no tools; add plugins (see `afk plugins`) or servers in [tools.mcp.servers]")
        return
    rows = [(tool.name, rule_decision(tool, {}, rules), tool.description) for tool in tools]
    write_table(stdout, ("NAME", "CALLS", "DESCRIPTION"), rows, [_STYLES[decided] for _, decided, _ in rows])


@command.command(
    "show",
    examples=(("afk tools show files.read", "the tool `read` of the plugin `files`"),),
)
@click.argument("name")
@_plugin_option
@json_option
def show(name: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Show the tool NAME: what the model is sent about it, and the rule that allows it."""
    messages, stdout = Messages(invocation()), Stdout(invocation())
    setup = load_setup(invocation(), project=True, plugin_files=files, notify=messages.say)
    found = [tool for tool in _listed(setup, [name], messages) if tool.name == name]
    if not found:
        raise UnknownNameError(f"there is no tool {name!r}; {_near_tool(setup, name, messages)}")
    tool, decided = found[0], rule_decision(found[0], {}, wiring_of(setup).rules)
    if as_json:
        stdout.objects([_form(tool, decided)])
        return
    changes = "may change something" if tool.changes else "changes nothing"
    said = [
        f"{tool.name}: {changes}; a call is {_WORDS[decided]} unless a rule for its arguments matches",
        "",
        tool.description or "(it has no description)",
        "",
        "arguments (JSON Schema):",
        json.dumps(tool.spec.parameters, indent=2, ensure_ascii=False),
        "",
        "to allow it, add to the config:",
        "[[approvals.rules]]",
        f"tool = {json.dumps(tool.name)}",
        'decision = "allow"',
        *([f'pin = "{tool.fingerprint}"'] if tool.pinned else []),
    ]
    stdout.lines(visible(line) if stdout.is_terminal else line for line in said)
    if tool.pinned:
        stdout.lines(
            [stdout.styled("# because of the pin, the rule stops applying if the server changes the tool", DIM)]
        )


_WORDS: dict[RuleDecision, str] = {"allow": "allowed", "ask": "asked about", "deny": "denied"}


def _near_tool(setup: Setup, name: str, messages: Messages) -> str:
    """Return which tool a wrong name may mean: one of the same namespace, else a namespace."""
    space, point, _ = name.rpartition(".")
    others = [tool.name for tool in _listed(setup, [f"{space}.*"], messages)] if point else []
    near = near_names(name, others) or near_names(space or name, setup.plugins.names("tools"))
    return f"did you mean {near[0]!r}?" if near else "`afk tools` lists them"


def _listed(setup: Setup, names: Sequence[str] | None, messages: Messages) -> Sequence[Tool]:
    """Return the tools of these names, or all of them; report those that cannot be listed."""

    async def work() -> Sequence[Tool]:
        toolbox = Toolbox(setup)
        try:
            wanted = list(names) if names is not None else _all_names(toolbox, setup, messages)
            with in_tool_context(ToolContext(on_warning=lambda code, message: messages.warn(message))):
                tools, problems = await toolbox.find(wanted)
            for line in problems:
                messages.warn(line)
            return tools
        finally:
            await toolbox.aclose()

    with shown_activity(invocation(), messages, "listing the tools"):
        return asyncio.run(work())


def _all_names(toolbox: Toolbox, setup: Setup, messages: Messages) -> list[str]:
    names = []
    for plugin in setup.plugins.names("tools"):
        try:
            names += [f"{namespace}.*" for namespace in toolbox.namespaces(plugin)]
        except AfkError as error:  # usually because it is not configured
            messages.warn(f"the tools of {plugin} are left out: {error}")
    return names


def _form(tool: Tool, decided: RuleDecision) -> dict[str, object]:
    return {
        "v": 1,
        "type": "tool",
        "tool_name": tool.name,
        "description": tool.description,
        "parameters": tool.spec.parameters,
        "changes": tool.changes,
        "calls": decided,
        "pinned": tool.pinned,
        "fingerprint": tool.fingerprint,
    }
