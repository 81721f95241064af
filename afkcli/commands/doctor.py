"""`afk doctor`: what is installed, what works, and which model a bare run would use and why."""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import click

from afkcli.commands.base import Command
from afkcli.commands.config import places
from afkcli.commands.context import invocation
from afkcli.commands.json_option import json_option
from afkcli.commands.plugins import MISSING, OK, Row, foreign_line, plugin_rows
from afkcli.config.merging import Config
from afkcli.core.contract.credentials import MASK
from afkcli.core.contract.errors import EXIT_INTERNAL, AfkError, ConfigError
from afkcli.core.contract.text import one_line
from afkcli.core.thread.listing import thread_count
from afkcli.host.invocation import Invocation
from afkcli.host.paths import config_dir, data_dir, state_dir
from afkcli.loading.discovery import Plugins, discover, foreign_afk_package
from afkcli.loading.secret_sources import PendingCommand
from afkcli.processes.sandbox import mechanisms, readers_use_landlock
from afkcli.screen.display import shown_activity
from afkcli.screen.messages import Messages
from afkcli.screen.streams import Stdout
from afkcli.screen.styles import GREEN, RED, YELLOW
from afkcli.version import __version__
from afkcli.wiring.agents import Flags, agent_and_model
from afkcli.wiring.assembly import load_setup
from afkcli.wiring.key_origins import COMMAND_OUTPUT, Origin, all_settings, origins
from afkcli.wiring.local_servers import find_servers
from afkcli.wiring.plugin_objects import make_provider, make_sink, open_store
from afkcli.wiring.setup import Setup

_MOST_NAMES = 5
"""How many models of a server are named."""

WARN, FAIL = "warn", "fail"
_STYLES = {OK: GREEN, WARN: YELLOW, FAIL: RED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found. A `fail` keeps `afk run` from working; its detail says what to do.

    `lines` can be typed in a shell to use what was found.
    """

    check: str
    status: str
    detail: str
    lines: tuple[str, ...] = ()


@click.command(
    "doctor",
    cls=Command,
    examples=(
        ("afk doctor", "a line for each thing that is checked"),
        ("afk doctor --json", "the same as JSON"),
        ("afk doctor --key-commands", "run the commands that print keys, too"),
    ),
)
@click.option(
    "--key-commands",
    is_flag=True,
    help="Also run the commands of the config that print keys (api_key_command), and say whether they print one.",
)
@json_option
def command(key_commands: bool, as_json: bool) -> None:
    """Check the installation. The exit code is 0 if `afk run` without options would work, else 1."""
    start = invocation()
    # A command that prints a key may ask for a passphrase on the terminal, where nothing else may be drawn then.
    shown = nullcontext() if key_commands else shown_activity(start, Messages(start), "checking")
    with shown:
        examined = examine(start, key_commands=key_commands)
        findings = [replace(item, detail=start.secrets.mask(item.detail)) for item in examined]
    stdout = Stdout(start)
    if as_json:
        stdout.objects(
            {
                "v": 1,
                "type": "finding",
                "check": item.check,
                "status": item.status,
                "detail": item.detail,
                "lines": list(item.lines),
            }
            for item in findings
        )
    else:
        width = max(len(item.check) for item in findings)
        for item in findings:
            status = stdout.styled(f"{item.status:<4}", _STYLES[item.status])
            stdout.lines([f"{item.check:<{width}}  {status}  {one_line(item.detail)}"])
            stdout.lines([f"    {one_line(line)}" for line in item.lines])
    if any(item.status == FAIL for item in findings):
        raise click.exceptions.Exit(EXIT_INTERNAL)


def examine(start: Invocation, *, key_commands: bool = False) -> Iterator[Finding]:
    """Yield what each check finds; `key_commands` is whether the commands that print keys are run."""
    yield Finding(check="afk", status=OK, detail=f"{__version__}, {Path(__file__).parents[1]}")
    yield Finding(
        check="python", status=OK, detail=f"{platform.python_version()}, {sys.executable}, {platform.platform()}"
    )
    foreign = foreign_afk_package()
    if foreign is not None:
        yield Finding(check="package afk", status=WARN, detail=foreign_line(foreign))
    yield from _folders(start)
    yield _sandbox()
    notices: list[str] = []
    try:
        setup = load_setup(start, project=True, notify=notices.append)
    except AfkError as error:
        plugins = discover(start)
        yield from _keys(start, plugins, None, [])
        yield from _plugins(plugin_rows(plugins))
        yield Finding(check="config", status=FAIL, detail=str(error))
        return
    yield from _config()
    yield from (Finding(check="config", status=WARN, detail=line) for line in notices)
    setup.plugins.runs_key_commands = False
    rows = plugin_rows(setup.plugins)
    usable = [row.id for row in rows if row.status == OK]
    yield from _keys(start, setup.plugins, setup.config, usable)
    if key_commands:
        yield from _key_commands(setup, usable)
    yield from _plugins(rows)
    yield from _store(setup)
    yield from _sinks(setup)
    yield from _servers(setup)
    yield from _model(setup)


def _servers(setup: Setup) -> Iterator[Finding]:
    """Say which model servers run on this machine, with the two lines that use one."""
    base_url = setup.config.plugin_table("providers", "openai").get("base_url", "")
    used = (setup.invocation.environment.get("OPENAI_BASE_URL") or str(base_url)).rstrip("/")
    for server in asyncio.run(find_servers()):
        check = f"server {server.name}"
        if server.model is None:
            yield Finding(check=check, status=OK, detail=f"runs at {server.url}, and has no model that can answer")
            continue
        shown = ", ".join(server.models[:_MOST_NAMES]) + (", ..." if len(server.models) > _MOST_NAMES else "")
        detail = f"runs at {server.url} with {shown}"
        if used == server.url:
            yield Finding(check=check, status=OK, detail=f"{detail}; [providers.openai] uses it")
            continue
        model = shlex.quote(f"openai/{server.model}")
        lines = (f"export OPENAI_BASE_URL={server.url}", f"export AFK_MODEL={model}")
        yield Finding(check=check, status=OK, detail=f"{detail}; to use it, type these two lines", lines=lines)


def _folders(start: Invocation) -> Iterator[Finding]:
    for name, find in (("config", config_dir), ("data", data_dir), ("state", state_dir)):
        check = f"{name} folder"
        try:
            yield _folder(check, find(start.environment), needed=name == "data")
        except AfkError as error:
            yield Finding(check=check, status=FAIL, detail=str(error))


def _folder(check: str, folder: Path, *, needed: bool) -> Finding:
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), folder)
    usable = there.is_dir() and os.access(there, os.W_OK | os.X_OK)
    if usable:
        later = "" if there == folder else " (made when it is needed)"
        return Finding(check=check, status=OK, detail=f"{folder}{later}")
    why = f"{there} cannot be written" if there.is_dir() else f"{there} is not a folder"
    return Finding(
        check=check,
        status=FAIL if needed else WARN,
        detail=f"{folder}: {why}; change its rights, or point AFK_HOME to a folder of yours",
    )


def _keys(start: Invocation, plugins: Plugins, config: Config | None, usable: Sequence[str]) -> Iterator[Finding]:
    """Say where each key comes from, and what it replaces; no command is run."""
    settings = all_settings(plugins, usable, config)
    try:
        plugins.stored_keys()
        found = [(setting, origins(start, plugins, config, setting)) for setting in settings]
    except AfkError as error:
        yield Finding(check="keys", status=FAIL, detail=str(error))
        return
    variables = ", ".join(setting.variable for setting in settings if setting.variable)
    none = f"no key is set ({variables}; or api_key under [providers.NAME]; `afk keys set NAME` keeps one)"
    said = [_where_set(places) for _, places in found if places]
    yield Finding(check="keys", status=OK, detail=", ".join(said) or none)


def _key_commands(setup: Setup, usable: Sequence[str]) -> Iterator[Finding]:
    """Run the commands whose keys are used, and say what came of each."""
    for setting in all_settings(setup.plugins, usable, setup.config):
        places = origins(setup.invocation, setup.plugins, setup.config, setting)
        if not places or places[0].source != COMMAND_OUTPUT:
            continue
        check = f"key of {setting.name}"
        try:
            setup.plugins.secret_sources().run(PendingCommand(places[0].words, f"{setting.table} {setting.setting}"))
        except AfkError as error:
            yield Finding(check=check, status=FAIL, detail=str(error))
        else:
            yield Finding(check=check, status=OK, detail=f"{places[0].where} prints a key ({MASK})")


def _where_set(places: Sequence[Origin]) -> str:
    first, *others = places
    after = f", and replaces {' and '.join(other.where for other in others)}" if others else ""
    if first.is_blank:
        return f"{first.where} is blank{after}"
    if first.source == COMMAND_OUTPUT:
        return f"{first.where} prints it when it is needed{after}"
    return f"{first.where} is set ({MASK}){after}"


def _sandbox() -> Finding:
    """Say which sandbox the commands of a model run in, and why not in the better one."""
    found = mechanisms()
    if not found:
        detail = "none: only Linux has one, so programs that a model runs have all your rights"
        return Finding(check="sandbox", status=WARN, detail=detail)
    said = "; ".join(f"{item.name}: {item.detail}" for item in found)
    first = next((item for item in found if item.works), None)
    if first is None:
        refused = "tools.shell is" if readers_use_landlock() else "tools.shell and searches of tools.files are"
        detail = f"none, so {refused} refused without sandbox = 'off' ({said})"
        return Finding(check="sandbox", status=WARN, detail=detail)
    return Finding(check="sandbox", status=OK, detail=f"{first.name} ({said})")


def _config() -> Iterator[Finding]:
    for place in places():
        if place.trust is not None:
            detail = f"{place.path} ({place.trust if place.exists else 'not there'})"
            yield Finding(check=place.what, status=OK, detail=detail)


def _plugins(rows: Sequence[Row]) -> Iterator[Finding]:
    for row in rows:
        if row.status == OK:
            yield Finding(check=row.id, status=OK, detail=" ".join(filter(None, (row.distribution, row.version))))
        elif row.status != MISSING:
            yield Finding(check=row.id, status=WARN, detail=f"{row.status}: {row.reason}")


def _store(setup: Setup) -> Iterator[Finding]:
    try:
        store = open_store(setup)
        try:
            count = thread_count(store)
        finally:
            store.close()
    except AfkError as error:
        yield Finding(check="store", status=FAIL, detail=str(error))
        return
    yield Finding(check="store", status=OK, detail=f"opens; {count} thread{'' if count == 1 else 's'}")


def _sinks(setup: Setup) -> Iterator[Finding]:
    for name in setup.config.sink_names():
        try:
            make_sink(setup, name).close()
        except AfkError as error:
            # A run leaves out a sink that is broken; wrong settings end it.
            status = FAIL if isinstance(error, ConfigError) else WARN
            yield Finding(check=f"sink {name}", status=status, detail=str(error))


def _model(setup: Setup) -> Iterator[Finding]:
    """Say which model a bare run would use, by making its provider, without any request."""
    notices: list[str] = []
    setup.notify = notices.append
    try:
        agent, choice = agent_and_model(setup, Flags(), None)
        provider, _, model = choice.value.partition("/")
        default = asyncio.run(_made(setup, provider))
    except Exception as error:  # a provider may come from any plugin
        kind = "" if isinstance(error, AfkError) else f"{type(error).__name__}: "
        yield Finding(check="model", status=FAIL, detail=f"{kind}{error}")
        return
    if not model and not default:
        detail = f"{provider} has no default model; name one with -m {provider}/MODEL or in the config"
        yield Finding(check="model", status=FAIL, detail=detail)
        return
    yield from (Finding(check="model", status=WARN, detail=line) for line in notices)
    detail = f"{provider}/{model or default} ({choice.source}), agent {agent.name!r}"
    yield Finding(check="model", status=OK, detail=detail)


async def _made(setup: Setup, provider: str) -> str | None:
    """Make a provider as a run does, and return its default model."""
    made = make_provider(setup, provider)
    try:
        await made.prepare()
        return made.default_model
    finally:
        await made.aclose()
