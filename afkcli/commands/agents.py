"""`afk agents`: the agents of the config."""

from __future__ import annotations

import json
from typing import Any

import click

from afkcli.commands.base import Group
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.config.merging import DEFAULT_AGENT, AgentConfig
from afkcli.core.contract.errors import ConfigError, UnknownNameError
from afkcli.core.contract.suggestions import near_names
from afkcli.core.contract.text import visible
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.tables import write_table
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.setup import Setup


@click.group(
    "agents",
    invoke_without_command=True,
    cls=Group,
    examples=(("afk agents", "all agents"), ("afk agents show reviewer", "one, with its instructions")),
)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the agents of the config: name, model, tools, and the first line of the instructions.

    An agent is chosen by `afk run --agent NAME`, or by `agent = "NAME"` in the config; * marks the agent that the
    config chooses.
    """
    if ctx.invoked_subcommand is not None:
        return
    start = invocation()
    setup = load_setup(start, project=True, notify=Messages(start).say)
    agents, chosen = _agents(setup), _chosen(setup)
    stdout = Stdout(start)
    if as_json:
        stdout.objects(_form(agent, setup, chosen) for agent in agents.values())
        return
    rows = [_row(agent, setup, chosen) for agent in agents.values()]
    write_table(stdout, ("NAME", "MODEL", "TOOLS", "INSTRUCTIONS"), rows)


@command.command("show", examples=(("afk agents show reviewer", "its model, tools, limits and instructions"),))
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:
    """Show the agent NAME in full."""
    start = invocation()
    setup = load_setup(start, project=True, notify=Messages(start).say)
    agents = _agents(setup)
    if name not in agents:
        near = near_names(name, agents)
        hint = f"did you mean {near[0]!r}?" if near else f"agents: {', '.join(agents)}"
        raise UnknownNameError(f"there is no agent {name!r}; {hint}")
    stdout, said = Stdout(start), _form(agents[name], setup, _chosen(setup))
    if as_json:
        stdout.objects([said])
        return
    text = said.pop("instructions")
    if said["instructions_problem"] is None:
        del said["instructions_problem"]
    shown = [
        f"{key}: {_words(value)}" for key, value in said.items() if key not in ("v", "type") and value not in ({}, [])
    ]
    shown += ["", *text.split("\n")] if text else []
    stdout.lines(visible(line) if stdout.is_terminal else line for line in shown)


def _agents(setup: Setup) -> dict[str, AgentConfig]:
    """Return the agents by name, the default one first."""
    named = setup.config.agents()
    return {DEFAULT_AGENT: setup.config.default_agent(), **dict(sorted(named.items()))}


def _chosen(setup: Setup) -> str:
    choice = setup.config.value("agent")
    return choice.value if choice is not None else DEFAULT_AGENT


def _model(agent: AgentConfig, setup: Setup) -> str | None:
    top = setup.config.value("model")
    return agent.model or (top.value if top is not None else None)


def _row(agent: AgentConfig, setup: Setup, chosen: str) -> tuple[str, ...]:
    try:
        text = agent.instructions or ""
    except ConfigError as error:
        text = str(error)
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    mark = "*" if agent.name == chosen else ""
    return f"{agent.name}{mark}", _model(agent, setup) or "", " ".join(agent.tools), first


def _form(agent: AgentConfig, setup: Setup, chosen: str) -> dict[str, Any]:
    text, problem = None, None
    try:
        text = agent.instructions
    except ConfigError as error:
        problem = str(error)
    return {
        "v": 1,
        "type": "agent",
        "name": agent.name,
        "default": agent.name == chosen,
        "model": _model(agent, setup),
        "fallback_models": list(agent.fallback_models),
        "tools": list(agent.tools),
        "options": dict(agent.options),
        "limits": dict(agent.limits),
        "context": dict(agent.context),
        "source": agent.source,
        "instructions": text,
        "instructions_problem": problem,
    }


def _words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else "-" if value is None else json.dumps(value, ensure_ascii=False)
